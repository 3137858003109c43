/* Interrupt descriptor table, exceptions and interrupts. */
#include "trap.h"
#include "apic.h"
#include "cpu.h"
#include "memory.h"
#include "result.h"

#define CODE_SELECTOR 0x08
#define INTERRUPT_GATE 0x8e
#define STUB_SIZE 16

struct gate {
	uint16_t offset_low, selector;
	uint8_t stack, type;
	uint16_t offset_middle;
	uint32_t offset_high, zero;
};

/* As trap-entry.S pushes it. */
struct frame {
	uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

extern const uint8_t trap_stubs[];

static struct gate table[256] __attribute__((aligned(16)));
static interrupt_handler handlers[256];
static volatile uint64_t counts[256];
static volatile uint64_t last_tsc;
static struct exception *expected;

void traps_start(void) {
	for (unsigned vector = 0; vector < 256; vector++) {
		uint64_t stub = (uint64_t)trap_stubs + vector * STUB_SIZE;
		table[vector] = (struct gate){
			.offset_low = (uint16_t)stub,
			.selector = CODE_SELECTOR,
			.type = INTERRUPT_GATE,
			.offset_middle = (uint16_t)(stub >> 16),
			.offset_high = (uint32_t)(stub >> 32),
		};
	}
	traps_use();
}

void traps_use(void) {
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) pointer = {sizeof table - 1, (uint64_t)table};
	__asm__ volatile("lidt %0" : : "m"(pointer));
}

static void on_exception(struct frame *frame) {
	uint64_t address;
	__asm__ volatile("mov %%cr2, %0" : "=r"(address));
	if (expected && !expected->happened) {
		expected->happened = true;
		expected->vector = (unsigned)frame->vector;
		expected->error = frame->error;
		expected->address = address;
		frame->rip = expected->resume;
		return;
	}
	bail_out("exception %lu (error 0x%lx) at rip 0x%lx, cr2 0x%lx, rsp 0x%lx", frame->vector, frame->error, frame->rip,
		address, frame->rsp);
}

void trap_dispatch(struct frame *frame) {
	if (frame->vector < FIRST_INTERRUPT_VECTOR) return on_exception(frame);
	last_tsc = read_tsc();
	unsigned vector = (unsigned)frame->vector;
	counts[vector]++;
	if (handlers[vector]) handlers[vector](vector);
	/* The spurious interrupt is not in service, so it is not ended (SDM vol. 3 §11.9). */
	if (vector != SPURIOUS_VECTOR) apic_end_of_interrupt();
}

void interrupt_handle(unsigned vector, interrupt_handler handler) {
	handlers[vector] = handler;
	counts[vector] = 0;
}

uint64_t interrupt_count(unsigned vector) { return counts[vector]; }
uint64_t interrupt_tsc(void) { return last_tsc; }

uint64_t interrupts_in_total(void) {
	uint64_t total = 0;
	for (unsigned vector = FIRST_INTERRUPT_VECTOR; vector < 256; vector++) total += counts[vector];
	return total;
}

void exception_expect(struct exception *exception) { expected = exception; }
