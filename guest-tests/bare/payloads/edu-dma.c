/* DMA of QEMU's edu: out and back, at both ends of what it reaches, and where nothing is. device=N */
#include "../lib/edu.h"
#include "../lib/payload.h"

#define DMA_VECTOR 0x50
/* The engine takes 100 ms for every transfer. */
#define TRANSFER_MS 3000

static struct pci_function edu;
static uint64_t registers;
static uint8_t near_buffer[EDU_BUFFER_SIZE] __attribute__((aligned(4096)));
static uint8_t wanted[EDU_BUFFER_SIZE];

static bool transfer(uint64_t source, uint64_t target, uint64_t size, uint32_t flags) {
	mmio_write64(registers + EDU_DMA_SOURCE, source);
	mmio_write64(registers + EDU_DMA_TARGET, target);
	mmio_write64(registers + EDU_DMA_COUNT, size);
	mmio_write64(registers + EDU_DMA_COMMAND, EDU_DMA_START | flags);
	bool done = WAIT_FOR(!(mmio_read64(registers + EDU_DMA_COMMAND) & EDU_DMA_START), TRANSFER_MS);
	return check_that(done, "the transfer from 0x%lx to 0x%lx does not end", source, target);
}

static bool to_device(uint64_t address, uint64_t size) { return transfer(address, EDU_BUFFER, size, 0); }
static bool to_ram(uint64_t address, uint64_t size) { return transfer(EDU_BUFFER, address, size, EDU_DMA_TO_RAM); }

static void out_and_back(uint64_t address, uint32_t seed) {
	uint8_t *buffer = (uint8_t *)address;
	fill_pattern(wanted, sizeof wanted, seed);
	memcpy(buffer, wanted, EDU_TRANSFER_SIZE);
	if (!to_device(address, EDU_TRANSFER_SIZE)) return;
	memset(buffer, 0, EDU_TRANSFER_SIZE);
	if (!to_ram(address, EDU_TRANSFER_SIZE)) return;
	check_that(memcmp(buffer, wanted, EDU_TRANSFER_SIZE) == 0, "what came back to 0x%lx differs", address);
}

static void out_and_back_nearby(void) { out_and_back((uint64_t)near_buffer, 11); }
static void out_and_back_at_the_first_page(void) { out_and_back(0x100000, 22); }

static void out_and_back_at_the_last_page(void) {
	uint64_t end = low_ram_end();
	if (end > EDU_DMA_LIMIT) end = EDU_DMA_LIMIT;
	metric("highest-dma", end - EDU_BUFFER_SIZE, "bytes");
	out_and_back(end - EDU_BUFFER_SIZE, 33);
}

static void unaligned_pieces_stay_inside(void) {
	fill_pattern(near_buffer, sizeof near_buffer, 44);
	if (!to_device((uint64_t)near_buffer, EDU_TRANSFER_SIZE)) return;
	memset(near_buffer, 0xcc, sizeof near_buffer);
	if (!to_ram((uint64_t)near_buffer + 333, 1001)) return;
	fill_pattern(wanted, sizeof wanted, 44);
	check_that(memcmp(near_buffer + 333, wanted, 1001) == 0, "the piece differs");
	for (unsigned i = 0; i < sizeof near_buffer; i++) {
		if (i == 333) i += 1001;
		REQUIRE(near_buffer[i] == 0xcc, "byte %u beside the piece changed", i);
	}
}

static void on_dma(unsigned vector) {
	(void)vector;
	mmio_write32(registers + EDU_INTERRUPT_ACKNOWLEDGE, EDU_CAUSE_DMA);
}

static void completion_interrupts(void) {
	interrupt_handle(DMA_VECTOR, on_dma);
	REQUIRE(msi_enable(edu, DMA_VECTOR), "no MSI");
	interrupts_on();
	transfer((uint64_t)near_buffer, EDU_BUFFER, 256, EDU_DMA_INTERRUPT);
	check_that(WAIT_FOR(interrupt_count(DMA_VECTOR) == 1, TRANSFER_MS), "no interrupt");
	interrupts_off();
	msi_disable(edu);
}

static void bus_master_off_stops_dma(void) {
	memset(near_buffer, 0x77, sizeof near_buffer);
	pci_command(edu, 0, PCI_COMMAND_MASTER);
	to_ram((uint64_t)near_buffer, EDU_TRANSFER_SIZE);
	for (unsigned i = 0; i < sizeof near_buffer; i++) {
		REQUIRE(near_buffer[i] == 0x77, "byte %u was written without bus mastering", i);
	}
	pci_command(edu, PCI_COMMAND_MASTER, 0);
	out_and_back((uint64_t)near_buffer, 55);
}

/* Simple and quick, and a changed page changes it. */
static uint64_t fingerprint(uint64_t from, uint64_t to) {
	uint64_t sum = 0;
	for (uint64_t at = from; at < to; at += 512) sum = (sum << 1 | sum >> 63) ^ *(volatile uint64_t *)at;
	return sum;
}

/* Above RAM nothing is mapped for the device: the IOMMU refuses, and nobody is hurt. */
static void wild_addresses_hurt_nobody(void) {
	uint64_t end = low_ram_end();
	if (end + EDU_BUFFER_SIZE > EDU_DMA_LIMIT) return skip("RAM reaches as far as the device does");
	fill_pattern(near_buffer, sizeof near_buffer, 66);
	uint64_t before = fingerprint(0x1000000, end);
	if (!to_device((uint64_t)near_buffer, EDU_TRANSFER_SIZE)) return;
	to_ram(end, EDU_TRANSFER_SIZE);
	to_ram(EDU_DMA_LIMIT - EDU_BUFFER_SIZE, EDU_TRANSFER_SIZE);
	to_device(end, EDU_TRANSFER_SIZE);
	CHECK_EQUAL(fingerprint(0x1000000, end), before, "fingerprint of RAM");
	out_and_back((uint64_t)near_buffer, 77);
}

void payload_main(void) {
	edu = pci_device_of_args();
	struct bar bar;
	if (pci_read32(edu, 0) != EDU_ID || !pci_bar(edu, 0, &bar)) bail_out("device %u is not an edu", edu.id >> 3);
	registers = map_memory(bar.address, bar.size, MEMORY_UNCACHED);
	pci_command(edu, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
	static const struct test tests[] = {
		{"out and back, beside the program", out_and_back_nearby},
		{"out and back, first page above 1 MiB", out_and_back_at_the_first_page},
		{"out and back, last page of RAM in reach", out_and_back_at_the_last_page},
		{"an unaligned piece changes nothing beside it", unaligned_pieces_stay_inside},
		{"the end of a transfer interrupts", completion_interrupts},
		/* Enforces P38. */
		{"without bus mastering nothing is written", bus_master_off_stops_dma},
		/* Enforces F63. */
		{"DMA to where no RAM is hurts nobody", wild_addresses_hurt_nobody},
	};
	RUN_TESTS(tests);
}
