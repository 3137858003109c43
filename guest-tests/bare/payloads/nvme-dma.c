/*
 * DMA of an NVMe controller with 64-bit addresses, without changing what is on the drive: the first block is read to
 * several places, and compared with what is there. device=N
 */
#include "../lib/nvme.h"
#include "../lib/payload.h"

#define VECTOR 0x60
#define BLOCK 4096
#define HIGH_MEMORY 0x100000000ul
/* Not a success, of the media and data integrity kind: compare failure (NVM command set specification 1.0, §3.2.1). */
#define COMPARE_FAILURE 0x285
#define INVALID_OPCODE 0x001
#define STATUS_BITS 0x7ff
#define READ 0x02
#define COMPARE 0x05

static struct pci_function function;
static uint8_t reference[BLOCK] __attribute__((aligned(4096)));
static uint8_t scratch[BLOCK] __attribute__((aligned(4096)));
static unsigned block_bytes = 512;

static unsigned run(uint8_t opcode, uint64_t address) {
	struct nvme_command command = {.opcode = opcode, .namespace_id = 1, .data = {address, 0}};
	return nvme_run(1, &command) & STATUS_BITS;
}

static void identify(void) {
	struct nvme_command command = {.opcode = NVME_IDENTIFY, .namespace_id = 1, .data = {(uint64_t)scratch, 0}};
	REQUIRE(nvme_run(0, &command) == 0, "identify of the namespace fails");
	unsigned format = scratch[26] & 15;
	unsigned shift = scratch[128 + 4 * format + 2];
	REQUIRE(shift >= 9 && shift <= 12, "blocks of 2^%u bytes", shift);
	block_bytes = 1u << shift;
	metric("block", block_bytes, "bytes");
	REQUIRE(nvme_create_queue(1, 0), "the queue cannot be created");
	CHECK_EQUAL(run(READ, (uint64_t)reference), 0, "status of the first read");
}

/* To a place and back from it; `bytes` is where the processor sees the bus address. */
static void out_and_back(uint64_t address, uint8_t *bytes) {
	memset(bytes, 0xa5, block_bytes);
	CHECK_EQUAL(run(READ, address), 0, "status of the read");
	REQUIRE(memcmp(bytes, reference, block_bytes) == 0, "what was read to 0x%lx differs", address);
	unsigned same = run(COMPARE, address);
	if (same == INVALID_OPCODE) return;
	CHECK_EQUAL(same, 0, "status of the comparison");
	bytes[block_bytes - 1] ^= 1;
	CHECK_EQUAL(run(COMPARE, address), COMPARE_FAILURE, "status of the comparison with one bit changed");
}

static void nearby(void) { out_and_back((uint64_t)scratch, scratch); }

static void last_page_below_4_gib(void) {
	uint64_t at = low_ram_end() - BLOCK;
	metric("last-low-page", at, "bytes");
	out_and_back(at, (uint8_t *)map_memory(at, BLOCK, MEMORY_WRITE_BACK));
}

static void above_4_gib(void) {
	for (unsigned i = 0; i < start_info()->memory_map_count; i++) {
		const struct memory_map_entry *entry = memory_map(i);
		if (entry->type != MEMORY_MAP_RAM || entry->start < HIGH_MEMORY) continue;
		uint64_t places[] = {entry->start, entry->start + entry->size - BLOCK};
		for (unsigned which = 0; which < 2; which++) {
			out_and_back(places[which], (uint8_t *)map_memory(places[which], BLOCK, MEMORY_WRITE_BACK));
		}
		metric("highest-dma", places[1], "bytes");
		return;
	}
	skip("no RAM above 4 GiB");
}

static void across_a_page(void) {
	if (block_bytes > BLOCK / 2) return skip("a block is more than half a page");
	/* The second half of the block lies on another page, which the second pointer names. */
	static uint8_t pages[3 * BLOCK] __attribute__((aligned(4096)));
	memset(pages, 0x5a, sizeof pages);
	uint64_t begin = (uint64_t)pages + BLOCK - block_bytes / 2;
	struct nvme_command command = {
		.opcode = READ, .namespace_id = 1, .data = {begin, (uint64_t)pages + BLOCK}};
	CHECK_EQUAL(nvme_run(1, &command), 0, "status");
	check_that(memcmp((void *)begin, reference, block_bytes) == 0, "what was read across the page differs");
	for (unsigned i = 0; i < sizeof pages; i++) {
		bool inside = (uint64_t)pages + i >= begin && (uint64_t)pages + i < begin + block_bytes;
		REQUIRE(inside || pages[i] == 0x5a, "byte %u beside it changed", i);
	}
}

void payload_main(void) {
	struct bar bar;
	struct msix msix;
	function = pci_device_of_args();
	if (pci_read32(function, PCI_REVISION) >> 8 != NVME_CLASS || !pci_bar(function, 0, &bar)) {
		bail_out("device %u is not an NVMe controller", function.id >> 3);
	}
	pci_command(function, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, PCI_COMMAND_INTX_DISABLE);
	if (!msix_find(function, &msix)) bail_out("no MSI-X");
	msix_set(&msix, 0, VECTOR);
	msix_mask(&msix, 0, false);
	msix_enable(&msix, true);
	if (!nvme_start(bar.address)) bail_out("the controller does not become ready");
	static const struct test tests[] = {
		{"a block of the drive can be read", identify},
		{"out and back, beside the program", nearby},
		{"out and back, last page of RAM below 4 GiB", last_page_below_4_gib},
		{"out and back, above 4 GiB", above_4_gib},
		{"a block across two pages changes nothing beside it", across_a_page},
	};
	RUN_TESTS(tests);
}
