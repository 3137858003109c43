/* The first C code: brings the library up, then runs the payload. */
#include "apic.h"
#include "args.h"
#include "clock.h"
#include "cpu.h"
#include "paging.h"
#include "payload.h"
#include "result.h"
#include "start-info.h"
#include "trap.h"

static const struct start_info *info;

const struct start_info *start_info(void) { return info; }

const struct memory_map_entry *memory_map(unsigned index) {
	return (const struct memory_map_entry *)info->memory_map + index;
}

uint64_t low_ram_end(void) {
	for (unsigned i = 0; i < info->memory_map_count; i++) {
		const struct memory_map_entry *entry = memory_map(i);
		if (entry->type == MEMORY_MAP_RAM && entry->start == 0x100000) return entry->start + entry->size;
	}
	return 0;
}

void payload_start(const struct start_info *given);
void payload_start(const struct start_info *given) {
	info = given;
	traps_start();
	if (info->magic != START_INFO_MAGIC) bail_out("start info has magic 0x%x", info->magic);
	if (info->command_line) args_use((const char *)info->command_line);
	paging_start();
	apic_start();
	clock_start();
	payload_main();
	exit_payload(0);
}
