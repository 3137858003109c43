#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Enables the local APIC of this processor; every line of the 8259s is masked. */
void apic_start(void);
bool apic_is_x2(void);
uint32_t apic_id(void);
void apic_end_of_interrupt(void);
/* Whether a vector waits in the request register. */
bool apic_is_requested(unsigned vector);
/* Writes the interrupt command register. */
void apic_send(uint32_t target, uint32_t command);

#define APIC_TIMER_ONCE 0u
#define APIC_TIMER_MASKED 0x10000u
#define APIC_TIMER_PERIODIC 0x20000u
#define APIC_TIMER_DEADLINE 0x40000u
void apic_timer(unsigned vector, uint32_t mode, uint32_t count);
void apic_timer_stop(void);
uint32_t apic_timer_left(void);

#define IOAPIC_LEVEL 0x8000u
#define IOAPIC_ACTIVE_LOW 0x2000u
#define IOAPIC_MASKED 0x10000u
#define IOAPIC_EDGE 0u
/* Points a pin at a vector of this processor. */
void ioapic_set(unsigned pin, unsigned vector, uint32_t flags);
uint32_t ioapic_read(unsigned index);
