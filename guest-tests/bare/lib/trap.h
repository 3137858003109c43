#pragma once
#include <stdbool.h>
#include <stdint.h>

#define FIRST_INTERRUPT_VECTOR 0x20
#define SPURIOUS_VECTOR 0xff

/* Called with interrupts off; the end of the interrupt is signalled after it. */
typedef void (*interrupt_handler)(unsigned vector);

/* Fills the table and loads it. From here on an exception ends the payload with its vector and rip. */
void traps_start(void);
/* Loads the table on another processor. */
void traps_use(void);
/* Sets the handler of a vector (NULL: only counted) and its count to 0. */
void interrupt_handle(unsigned vector, interrupt_handler handler);
uint64_t interrupt_count(unsigned vector);
uint64_t interrupts_in_total(void);
/* Time stamp of the latest interrupt, taken first of all. */
uint64_t interrupt_tsc(void);

/* An exception that is wanted: execution goes on at `resume`. */
struct exception {
	uint64_t resume;
	bool happened;
	unsigned vector;
	uint64_t error, address;
};
void exception_expect(struct exception *exception);

/* Runs one assembler statement that may fault; `result` tells whether and how. Operands beyond the macro's follow. */
#define TRY_INSTRUCTION(result, instruction, ...)                                             \
	do {                                                                                      \
		*(result) = (struct exception){0};                                                    \
		exception_expect(result);                                                             \
		__asm__ volatile("lea 1f(%%rip), %%rax; mov %%rax, %[resume]; " instruction "; 1:"   \
						 : [resume] "=m"((result)->resume)                                    \
						 : __VA_ARGS__                                                        \
						 : "rax", "rdx", "memory", "cc");                                     \
		exception_expect(0);                                                                  \
	} while (0)
