/* What the loader hands over: struct hvm_start_info, version 1 (Xen: public/arch-x86/hvm/start_info.h). */
#pragma once
#include <stdint.h>

#define START_INFO_MAGIC 0x336ec578
#define MEMORY_MAP_RAM 1
#define MEMORY_MAP_RESERVED 2

struct memory_map_entry {
	uint64_t start, size;
	uint32_t type, reserved;
};

struct start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, command_line, rsdp, memory_map;
	uint32_t memory_map_count, reserved;
};

const struct start_info *start_info(void);
const struct memory_map_entry *memory_map(unsigned index);
/* End of the RAM that begins at 1 MiB. */
uint64_t low_ram_end(void);
