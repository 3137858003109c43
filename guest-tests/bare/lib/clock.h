#pragma once
#include <stddef.h>
#include <stdint.h>

void clock_start(void);
uint64_t clock_tsc_khz(void);
/* From ticks of the TSC to nanoseconds, and from microseconds to ticks. */
uint64_t clock_ns(uint64_t ticks);
uint64_t clock_ticks(uint64_t us);
void delay_us(uint64_t us);

struct percentiles {
	uint32_t p50, p99, max;
};
/* Sorts the values in place. */
struct percentiles clock_percentiles(uint32_t *values, size_t count);

/* Spins until a condition holds; false when that took longer. Interrupts are on if they were. */
#define WAIT_FOR(condition, ms)                                        \
	({                                                                 \
		uint64_t end_ = read_tsc() + clock_ticks((uint64_t)(ms)*1000); \
		bool held_;                                                    \
		while (!(held_ = (condition)) && read_tsc() < end_) cpu_relax(); \
		held_ || (condition);                                          \
	})
