/*
 * How long one access takes: those that trap (config space, the MSI-X table and what shares its page) and one that
 * reaches the device by itself. device=N, loops=N, probe=OFFSET of a dword that is harmless to read
 */
#include "../lib/payload.h"

#define MOST_LOOPS 4096
#define PAGE 0x1000u
#define MESSAGE_DATA 8

static struct pci_function device;
static struct msix msix;
static bool has_msix;
/* Virtual addresses; 0 for what is not there. */
static uint64_t beside_table, direct;
static uint8_t line;
static uint32_t times[MOST_LOOPS];

static void measure(const char *name, void (*access)(void)) {
	unsigned loops = (unsigned)arg_number("loops", 500);
	if (loops > MOST_LOOPS) loops = MOST_LOOPS;
	for (unsigned i = 0; i < loops; i++) {
		uint64_t start = read_tsc();
		access();
		times[i] = (uint32_t)clock_ns(read_tsc() - start);
	}
	distribution(name, times, loops, "ns");
}

static void read_config_ecam(void) { pci_read32(device, PCI_VENDOR); }
static void read_config_port(void) { pci_port_read(device, PCI_VENDOR, 4); }
static void write_config_ecam(void) { pci_write8(device, PCI_INTERRUPT_LINE, line); }
static void read_table(void) { mmio_read32(msix.table); }
static void write_table(void) { mmio_write32(msix.table + MESSAGE_DATA, 0x40); }
static void read_beside_table(void) { mmio_read32(beside_table); }
static void read_direct(void) { mmio_read32(direct); }

static void config_reads(void) {
	measure("config-read-ecam", read_config_ecam);
	measure("config-read-port", read_config_port);
}

static void config_writes(void) {
	line = pci_read8(device, PCI_INTERRUPT_LINE);
	measure("config-write-ecam", write_config_ecam);
	CHECK_EQUAL(pci_read8(device, PCI_INTERRUPT_LINE), line, "interrupt line");
}

static void table_accesses(void) {
	if (!has_msix) return skip("no MSI-X");
	/* The entry is masked and MSI-X is off: what is written stays there. */
	measure("msix-table-read", read_table);
	measure("msix-table-write", write_table);
	CHECK_EQUAL(mmio_read32(msix.table + MESSAGE_DATA), 0x40, "message");
	mmio_write32(msix.table + MESSAGE_DATA, 0);
}

static void accesses_beside_the_table(void) {
	if (!beside_table) return skip("no page that the MSI-X table shares with anything");
	measure("trapped-read", read_beside_table);
}

static void direct_accesses(void) {
	if (!direct) return skip("no page of a memory BAR without MSI-X");
	measure("direct-read", read_direct);
}

/* The end of the table's page, behind its last entry, unless the pending bits are in that page as well. */
static void find_neighbour(uint32_t table_at, uint32_t pending_at) {
	uint64_t end = (uint64_t)(table_at & ~7u) + 16 * msix.count;
	bool shares = (pending_at & 7) == (table_at & 7) && (pending_at & ~7u) / PAGE == end / PAGE;
	uint64_t page = msix.table & -(uint64_t)PAGE;
	if (end % PAGE != 0 && !shares) beside_table = page + PAGE - 4;
}

void payload_main(void) {
	device = pci_device_of_args();
	struct bar bar;
	if (!pci_first_memory_bar(device, &bar)) bail_out("device %u has no memory BAR", device.id >> 3);
	unsigned at = pci_capability(device, PCI_CAP_MSIX);
	uint64_t probe = arg_number("probe", 0);
	bool in_table = false;
	if (at && (has_msix = msix_find(device, &msix))) {
		uint32_t table_at = pci_read32(device, at + 4), pending_at = pci_read32(device, at + 8);
		if (16 * msix.count <= PAGE) find_neighbour(table_at, pending_at);
		in_table = (table_at & 7) == bar.index && (table_at & ~7u) / PAGE == probe / PAGE;
	}
	if (!in_table) direct = map_memory(bar.address, bar.size, MEMORY_UNCACHED) + probe;
	pci_command(device, PCI_COMMAND_MEMORY, 0);
	static const struct test tests[] = {
		{"config space is read", config_reads},
		{"config space is written", config_writes},
		{"the MSI-X table is read and written", table_accesses},
		{"what shares the table's page is read", accesses_beside_the_table},
		{"a register is read without a trap", direct_accesses},
	};
	RUN_TESTS(tests);
}
