#pragma once
#include <stdint.h>

enum memory_type { MEMORY_WRITE_BACK, MEMORY_UNCACHED, MEMORY_WRITE_COMBINING };

/* Sets up the page attribute table. */
void paging_start(void);
/* Returns a virtual address for physical memory. The same memory may be mapped with several types. */
uint64_t map_memory(uint64_t physical, uint64_t size, enum memory_type type);
