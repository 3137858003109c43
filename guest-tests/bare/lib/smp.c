/* Other processors: started by INIT and start-up interrupts, each runs one function and stops. */
#include "smp.h"
#include "apic.h"
#include "clock.h"
#include "cpu.h"
#include "memory.h"
#include "paging.h"
#include "trap.h"

/* A page that the loader leaves to small programs. */
#define ENTRY_PAGE 0x8000ul
#define STACK_SIZE 0x4000
#define COMMAND_INIT 0x4500u
#define COMMAND_START_UP 0x4600u
#define START_MS 5000

extern const uint8_t smp_entry[], smp_entry_end[];
uint64_t smp_stack;

static uint8_t stacks[SMP_MOST][STACK_SIZE] __attribute__((aligned(16)));
static void (*job)(unsigned index);
static volatile unsigned starting;
static volatile bool arrived;
static volatile bool may_begin;
static volatile unsigned finished;

void smp_main(void);
void smp_main(void) {
	unsigned index = starting;
	traps_use();
	paging_start();
	apic_start();
	arrived = true;
	while (!may_begin) cpu_relax();
	job(index);
	__atomic_add_fetch(&finished, 1, __ATOMIC_SEQ_CST);
}

bool smp_run(unsigned count, void (*work)(unsigned index), uint64_t limit_ms) {
	if (count > SMP_MOST) return false;
	memcpy((void *)ENTRY_PAGE, smp_entry, (size_t)(smp_entry_end - smp_entry));
	job = work;
	may_begin = false;
	finished = 0;
	for (unsigned id = 1; id < count; id++) {
		starting = id;
		arrived = false;
		smp_stack = (uint64_t)stacks[id] + STACK_SIZE;
		apic_send(id, COMMAND_INIT);
		delay_us(1000);
		apic_send(id, COMMAND_START_UP | ENTRY_PAGE >> 12);
		if (!WAIT_FOR(arrived, START_MS)) return false;
	}
	may_begin = true;
	work(0);
	return WAIT_FOR(finished == count - 1, limit_ms);
}
