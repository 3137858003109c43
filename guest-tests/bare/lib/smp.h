#pragma once
#include <stdbool.h>
#include <stdint.h>

#define SMP_MOST 8

/*
 * Runs a function on processors 0 (this one) to count - 1 at once; their APIC IDs are their indices. The others have
 * interrupts off and stop after it. False when one did not start or not end in time.
 */
bool smp_run(unsigned count, void (*work)(unsigned index), uint64_t limit_ms);
