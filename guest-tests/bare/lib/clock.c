/* Time: the TSC, measured against channel 0 of the 8254, which counts at 1 193 182 Hz on every PC. */
#include "clock.h"
#include "cpu.h"

#define PIT_COUNTER 0x40
#define PIT_CONTROL 0x43
#define PIT_HZ 1193182u
#define CHANNEL0_RATE_GENERATOR 0x34
#define CHANNEL0_LATCH 0x00
#define SAMPLE_TICKS 5966u /* 5 ms */
#define SAMPLES 4

static uint64_t tsc_khz;

static uint16_t pit_count(void) {
	out8(PIT_CONTROL, CHANNEL0_LATCH);
	uint8_t low = in8(PIT_COUNTER);
	return (uint16_t)(low | (in8(PIT_COUNTER) << 8));
}

static uint64_t sample_tsc_khz(void) {
	uint16_t before = pit_count();
	uint64_t start = read_tsc();
	uint16_t ticks;
	while ((ticks = (uint16_t)(before - pit_count())) < SAMPLE_TICKS) {}
	return (read_tsc() - start) * PIT_HZ / ticks / 1000;
}

void clock_start(void) {
	out8(PIT_CONTROL, CHANNEL0_RATE_GENERATOR);
	out8(PIT_COUNTER, 0);
	out8(PIT_COUNTER, 0);
	tsc_khz = sample_tsc_khz();
	/* The counter wraps after 55 ms: a processor that is away for so long counts far too many of its own ticks. */
	for (unsigned i = 1; i < SAMPLES; i++) {
		uint64_t again = sample_tsc_khz();
		if (again < tsc_khz) tsc_khz = again;
	}
	if (tsc_khz == 0) tsc_khz = 1;
}

uint64_t clock_tsc_khz(void) { return tsc_khz; }
uint64_t clock_ns(uint64_t ticks) { return ticks * 1000000u / tsc_khz; }
uint64_t clock_ticks(uint64_t us) { return us * tsc_khz / 1000; }

void delay_us(uint64_t us) {
	uint64_t end = read_tsc() + clock_ticks(us);
	while (read_tsc() < end) cpu_relax();
}

static void sort(uint32_t *values, size_t count) {
	for (size_t gap = count / 2; gap > 0; gap /= 2) {
		for (size_t i = gap; i < count; i++) {
			uint32_t value = values[i];
			size_t at = i;
			for (; at >= gap && values[at - gap] > value; at -= gap) values[at] = values[at - gap];
			values[at] = value;
		}
	}
}

struct percentiles clock_percentiles(uint32_t *values, size_t count) {
	if (count == 0) return (struct percentiles){0};
	sort(values, count);
	return (struct percentiles){values[count / 2], values[count - 1 - count / 100], values[count - 1]};
}
