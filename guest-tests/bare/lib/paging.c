/*
 * Mappings by memory type. Each type has 512 GiB of addresses of its own, an image of physical memory from 0 up, filled
 * on demand in 2 MiB pages.
 */
#include "paging.h"
#include "cpu.h"
#include "result.h"

#define MSR_PAT 0x277
/* The power-on value with entry 1 (PWT alone) made write-combining, as Linux has it. */
#define PAT_WITH_WC 0x0007040600070106ul
#define PRESENT 0x01ul
#define WRITABLE 0x02ul
#define WRITE_THROUGH 0x08ul
#define CACHE_DISABLE 0x10ul
#define LARGE 0x80ul
#define ADDRESS_BITS 0x000ffffffffff000ul
#define LARGE_SIZE 0x200000ul
#define MOST_TABLES 32
#define SLOT_SIZE (1ul << 39)

extern uint64_t page_root[512];
static uint64_t tables[MOST_TABLES][512] __attribute__((aligned(4096)));
static unsigned used;

static const uint64_t type_bits[] = {
	[MEMORY_WRITE_BACK] = 0,
	[MEMORY_UNCACHED] = CACHE_DISABLE | WRITE_THROUGH,
	[MEMORY_WRITE_COMBINING] = WRITE_THROUGH,
};

void paging_start(void) { write_msr(MSR_PAT, PAT_WITH_WC); }

static uint64_t *table_below(uint64_t *entry) {
	if (!(*entry & PRESENT)) {
		if (used == MOST_TABLES) bail_out("no page table left");
		*entry = (uint64_t)tables[used++] | PRESENT | WRITABLE;
	}
	return (uint64_t *)(*entry & ADDRESS_BITS);
}

uint64_t map_memory(uint64_t physical, uint64_t size, enum memory_type type) {
	if (physical + size > SLOT_SIZE) bail_out("0x%lx lies beyond what this library maps", physical);
	uint64_t base = (1 + (uint64_t)type) * SLOT_SIZE;
	uint64_t *gib_table = table_below(&page_root[1 + type]);
	for (uint64_t at = physical & -LARGE_SIZE; at < physical + size; at += LARGE_SIZE) {
		uint64_t *directory = table_below(&gib_table[at >> 30]);
		directory[(at >> 21) & 511] = at | PRESENT | WRITABLE | LARGE | type_bits[type];
	}
	return base + physical;
}
