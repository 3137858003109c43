/* Local APIC (x2APIC where there is one) and IOAPIC. The 8259s are masked. */
#include "apic.h"
#include "cpu.h"
#include "mmio.h"
#include "trap.h"

#define MSR_APIC_BASE 0x1b
#define APIC_BASE_X2APIC 0x400
#define APIC_BASE_ENABLE 0x800
#define MSR_X2APIC_FIRST 0x800
#define LAPIC_ADDRESS 0xfee00000ul
#define IOAPIC_ADDRESS 0xfec00000ul
#define CPUID_X2APIC (1u << 21)

enum {
	LAPIC_ID = 0x02,
	LAPIC_TASK_PRIORITY = 0x08,
	LAPIC_END_OF_INTERRUPT = 0x0b,
	LAPIC_SPURIOUS = 0x0f,
	LAPIC_IN_SERVICE = 0x10,
	LAPIC_REQUESTED = 0x20,
	LAPIC_COMMAND = 0x30,
	LAPIC_COMMAND_HIGH = 0x31,
	LAPIC_TIMER = 0x32,
	LAPIC_TIMER_INITIAL = 0x38,
	LAPIC_TIMER_CURRENT = 0x39,
	LAPIC_TIMER_DIVIDE = 0x3e,
};
#define SPURIOUS_ENABLE 0x100
#define DIVIDE_BY_1 0xb

static bool x2apic;

static uint32_t lapic_read(unsigned index) {
	return x2apic ? (uint32_t)read_msr(MSR_X2APIC_FIRST + index) : mmio_read32(LAPIC_ADDRESS + index * 16);
}

static void lapic_write(unsigned index, uint32_t value) {
	if (x2apic) write_msr(MSR_X2APIC_FIRST + index, value);
	else mmio_write32(LAPIC_ADDRESS + index * 16, value);
}

void apic_start(void) {
	out8(0x21, 0xff);
	out8(0xa1, 0xff);
	x2apic = (cpuid(1, 0).ecx & CPUID_X2APIC) != 0;
	if (x2apic) write_msr(MSR_APIC_BASE, read_msr(MSR_APIC_BASE) | APIC_BASE_ENABLE | APIC_BASE_X2APIC);
	lapic_write(LAPIC_TASK_PRIORITY, 0);
	lapic_write(LAPIC_SPURIOUS, SPURIOUS_ENABLE | SPURIOUS_VECTOR);
}

bool apic_is_x2(void) { return x2apic; }
uint32_t apic_id(void) { return x2apic ? lapic_read(LAPIC_ID) : lapic_read(LAPIC_ID) >> 24; }
void apic_end_of_interrupt(void) { lapic_write(LAPIC_END_OF_INTERRUPT, 0); }

bool apic_is_requested(unsigned vector) {
	return (lapic_read(LAPIC_REQUESTED + vector / 32) >> (vector % 32)) & 1;
}

void apic_send(uint32_t target, uint32_t command) {
	if (x2apic) {
		write_msr(MSR_X2APIC_FIRST + LAPIC_COMMAND, ((uint64_t)target << 32) | command);
		return;
	}
	lapic_write(LAPIC_COMMAND_HIGH, target << 24);
	lapic_write(LAPIC_COMMAND, command);
}

void apic_timer(unsigned vector, uint32_t mode, uint32_t count) {
	lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
	lapic_write(LAPIC_TIMER, mode | vector);
	/* The mode must be in force before the deadline is armed (SDM vol. 3 §11.5.4.1). */
	memory_barrier();
	if (mode != APIC_TIMER_DEADLINE) lapic_write(LAPIC_TIMER_INITIAL, count);
}

void apic_timer_stop(void) {
	lapic_write(LAPIC_TIMER, APIC_TIMER_MASKED);
	lapic_write(LAPIC_TIMER_INITIAL, 0);
}

uint32_t apic_timer_left(void) { return lapic_read(LAPIC_TIMER_CURRENT); }

static void ioapic_write(unsigned index, uint32_t value) {
	mmio_write32(IOAPIC_ADDRESS, index);
	mmio_write32(IOAPIC_ADDRESS + 0x10, value);
}

uint32_t ioapic_read(unsigned index) {
	mmio_write32(IOAPIC_ADDRESS, index);
	return mmio_read32(IOAPIC_ADDRESS + 0x10);
}

void ioapic_set(unsigned pin, unsigned vector, uint32_t flags) {
	ioapic_write(0x11 + 2 * pin, apic_id() << 24);
	ioapic_write(0x10 + 2 * pin, flags | vector);
}
