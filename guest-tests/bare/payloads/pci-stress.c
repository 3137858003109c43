/*
 * Random config accesses of all widths, by port and ECAM, random BAR addresses and command toggles, on all processors
 * at once. Afterwards the function must be what it was. device=N, cpus=N, operations=N (of each processor), seed=N
 */
#include "../lib/payload.h"
#include "../lib/smp.h"

#define LIMIT_MS 60000

static struct pci_function device;
static struct bar bar;
static uint32_t seeds[SMP_MOST];
static unsigned operations;
static volatile bool port_pair_taken;

static uint32_t next(uint32_t *seed) {
	*seed ^= *seed << 13, *seed ^= *seed >> 17, *seed ^= *seed << 5;
	return *seed;
}

/* Most offsets are where something happens: command, BARs, interrupt line, MSI. */
static unsigned offset_from(uint32_t random) {
	static const uint8_t lively[] = {0x04, 0x10, 0x14, 0x18, 0x30, 0x3c, 0x40, 0x44, 0x48, 0x4c};
	if (random & 1) return lively[(random >> 8) % sizeof lively] + ((random >> 16) & 3);
	return (random >> 8) & (random & 2 ? 0xfff : 0xff);
}

/* Two processors between the address and the data port would meet in each other's registers, as on every PC. */
static void by_port(unsigned offset, unsigned width, bool write, uint32_t value) {
	while (__atomic_test_and_set(&port_pair_taken, __ATOMIC_ACQUIRE)) cpu_relax();
	if (write) pci_port_write(device, offset, width, value);
	else pci_port_read(device, offset, width);
	__atomic_clear(&port_pair_taken, __ATOMIC_RELEASE);
}

static void by_ecam(unsigned offset, unsigned width, bool write, uint32_t value) {
	uint64_t address = device.ecam + offset;
	if (width == 1 && write) mmio_write8(address, (uint8_t)value);
	else if (width == 1) mmio_read8(address);
	else if (width == 2 && write) mmio_write16(address, (uint16_t)value);
	else if (width == 2) mmio_read16(address);
	else if (width == 4 && write) mmio_write32(address, value);
	else if (width == 4) mmio_read32(address);
	else if (write) mmio_write64(address, value);
	else mmio_read64(address);
}

static void one_operation(uint32_t *seed) {
	uint32_t kind = next(seed), value = next(seed);
	unsigned offset = offset_from(next(seed));
	bool write = kind & 0x100;
	switch (kind & 7) {
	case 0:
		by_port(offset & 0xfc, 4, write, value);
		break;
	case 1:
		by_port(offset & 0xff, 1, write, value);
		break;
	case 2:
		/* Somewhere in or near the 32-bit window, with decode as it may be. */
		by_ecam(PCI_BAR0 + 4 * bar.index, 4, true, 0xb0000000u + (value & 0x3fffffff));
		break;
	case 3:
		by_ecam(PCI_COMMAND, 2, true, value & PCI_COMMAND_MEMORY ? PCI_COMMAND_MEMORY : 0);
		break;
	case 4:
		mmio_read32(map_memory(bar.address + (value & (bar.size - 4)), 4, MEMORY_UNCACHED));
		break;
	default:
		by_ecam(offset & 0xfff, 1u << ((kind >> 16) & 3), write, value);
	}
}

static void hammer(unsigned index) {
	for (unsigned i = 0; i < operations; i++) one_operation(&seeds[index]);
}

static void survives_random_accesses(void) {
	unsigned cpus = (unsigned)arg_number("cpus", 1);
	operations = (unsigned)arg_number("operations", 1000);
	for (unsigned i = 0; i < SMP_MOST; i++) seeds[i] = (uint32_t)arg_number("seed", 1) * 2654435761u + i + 1;
	uint64_t start = read_tsc();
	check_that(smp_run(cpus, hammer, LIMIT_MS), "not all processors did their part");
	uint64_t us = clock_ns(read_tsc() - start) / 1000;
	metric("operations", (uint64_t)operations * cpus, "operations");
	metric("operation", us * 1000 / operations, "ns");
}

static void function_is_what_it_was(void) {
	pci_write16(device, PCI_COMMAND, 0);
	msi_disable(device);
	pci_move_bar(device, &bar, bar.address);
	pci_command(device, PCI_COMMAND_MEMORY, 0);
	uint64_t probe = arg_number("probe", 0);
	CHECK_EQUAL(pci_bar_address(device, &bar), bar.address, "BAR");
	uint32_t value = mmio_read32(map_memory(bar.address + probe, 4, MEMORY_UNCACHED));
	check_that(value != 0xffffffff, "the BAR does not answer");
	if (has_arg("id")) CHECK_EQUAL(pci_read32(device, 0), arg_number("id", 0), "ID");
	for (unsigned other = 2; other < 32; other++) {
		CHECK_EQUAL(pci_read32(pci_at(0, other, 0), 0), 0xffffffff, "a device that does not exist");
	}
}

void payload_main(void) {
	device = pci_device_of_args();
	if (!pci_first_memory_bar(device, &bar)) bail_out("device %u has no memory BAR", device.id >> 3);
	/* Mapped before processors share the page tables. */
	map_memory(bar.address, bar.size, MEMORY_UNCACHED);
	pci_command(device, PCI_COMMAND_MEMORY, 0);
	static const struct test tests[] = {
		/* Enforces I87. */
		{"random accesses of all processors are survived", survives_random_accesses},
		{"the function is what it was", function_is_what_it_was},
	};
	RUN_TESTS(tests);
}
