/*
 * Random accesses on all processors at once: config space by port and ECAM in all widths, BAR addresses, decode, power,
 * MSI-X table and control, function resets, and between them loads from the BAR wherever it was at the start, mapped or
 * not. Afterwards the function must be what it was. device=N, cpus=N, operations=N (of each processor), seed=N, limit=MS
 */
#include "../lib/payload.h"
#include "../lib/smp.h"

/* An emulated host of this kind does a thousand in a second or two. */
#define LIMIT_MS 240000
#define RESET_EVERY 4096
#define EXPRESS_FLR 0x10000000u

static struct pci_function device;
static struct bar bar;
static uint32_t seeds[SMP_MOST];
static unsigned operations;
static volatile bool port_pair_taken;
/* Virtual address of the BAR as it was at the start, and of the table in it; config offsets, 0 for what is not there. */
static uint64_t registers, msix_table;
static unsigned power, msix_control, msix_vectors, device_control;

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

/* Whatever the device is told, it shall not write to memory: nothing that it could be told here is meant for it. */
static uint32_t without_bus_master(unsigned offset, unsigned width, uint32_t value) {
	bool covers = offset <= PCI_COMMAND && PCI_COMMAND < offset + width;
	return covers ? value & ~((uint32_t)PCI_COMMAND_MASTER << (8 * (PCI_COMMAND - offset))) : value;
}

static void change_power(uint32_t value) {
	if (power) by_ecam(power + 4, 2, true, value & 3 ? 0 : 3);
}

static void write_interrupts(uint32_t kind, uint32_t value) {
	if (msix_vectors && kind & 1) mmio_write32(msix_table + (value % (16 * msix_vectors) & ~3u), value);
	else if (msix_vectors) by_ecam(msix_control, 2, true, value);
	else by_ecam(PCI_BAR0 + (value & 0x3f), 4, true, value);
}

/*
 * Of 64: 8 config writes and 12 reads of any kind by ECAM, 4 by port, 3 on interrupts, 3 that move the BAR or switch
 * it, and the rest loads. What moves the BAR costs the host a hundred times as much as a load from it.
 */
static void one_operation(uint32_t *seed) {
	uint32_t kind = next(seed), value = next(seed);
	unsigned offset = offset_from(next(seed)), width = 1u << ((kind >> 16) & 3);
	switch (kind & 63) {
	case 0 ... 1:
		by_port(offset & 0xfc, 4, kind & 0x100, without_bus_master(offset & 0xfc, 4, value));
		break;
	case 2 ... 3:
		by_port(offset & 0xff, 1, kind & 0x100, without_bus_master(offset & 0xff, 1, value));
		break;
	case 4 ... 6:
		write_interrupts(kind >> 8, value);
		break;
	case 7:
		/* Somewhere in or near the 32-bit window, with decode as it may be. */
		by_ecam(PCI_BAR0 + 4 * bar.index, 4, true,
			value & 0x40000000 ? (uint32_t)bar.address : 0xb0000000u + (value & 0x3fffffff));
		break;
	case 8:
		by_ecam(PCI_COMMAND, 2, true, value & 3 ? PCI_COMMAND_MEMORY : 0);
		break;
	case 9:
		if (kind & 0x700) by_ecam(PCI_COMMAND, 2, true, PCI_COMMAND_MEMORY);
		else change_power(value);
		break;
	case 10 ... 17:
		by_ecam(offset & 0xfff, width, true, without_bus_master(offset & 0xfff, width, value));
		break;
	case 18 ... 29:
		by_ecam(offset & 0xfff, width, false, 0);
		break;
	default:
		mmio_read32(registers + (value & (bar.size - 4)));
	}
}

static void hammer(unsigned index) {
	for (unsigned i = 0; i < operations; i++) {
		one_operation(&seeds[index]);
		if (index != 0 || i % RESET_EVERY != 0) continue;
		if (device_control) by_ecam(device_control, 2, true, 0x8000);
		/* Says that it lives, seldom enough to cost nothing. */
		print("# %u\n", i);
	}
}

static void survives_random_accesses(void) {
	unsigned cpus = (unsigned)arg_number("cpus", 1);
	operations = (unsigned)arg_number("operations", 1000);
	for (unsigned i = 0; i < SMP_MOST; i++) seeds[i] = (uint32_t)arg_number("seed", 1) * 2654435761u + i + 1;
	uint64_t start = read_tsc();
	check_that(smp_run(cpus, hammer, arg_number("limit", LIMIT_MS)), "not all processors did their part");
	uint64_t us = clock_ns(read_tsc() - start) / 1000;
	metric("operations", (uint64_t)operations * cpus, "operations");
	metric("operation", us * 1000 / operations, "ns");
}

static void function_is_what_it_was(void) {
	if (power) {
		pci_write16(device, power + 4, 0);
		delay_us(20000);
	}
	pci_write16(device, PCI_COMMAND, 0);
	msi_disable(device);
	if (msix_control) pci_write16(device, msix_control, 0);
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

static void find_registers(void) {
	/* Mapped before processors share the page tables. */
	registers = map_memory(bar.address, bar.size, MEMORY_UNCACHED);
	power = pci_capability(device, PCI_CAP_PM);
	unsigned at = pci_capability(device, PCI_CAP_MSIX);
	uint32_t location = at ? pci_read32(device, at + 4) : 0;
	if (at && (location & 7) == bar.index) {
		msix_control = at + 2;
		msix_vectors = (pci_read16(device, at + 2) & 0x7ff) + 1u;
		msix_table = registers + (location & ~7u);
	}
	at = pci_capability(device, PCI_CAP_EXPRESS);
	if (at && pci_read32(device, at + 4) & EXPRESS_FLR) device_control = at + 8;
}

void payload_main(void) {
	device = pci_device_of_args();
	if (!pci_first_memory_bar(device, &bar)) bail_out("device %u has no memory BAR", device.id >> 3);
	find_registers();
	pci_command(device, PCI_COMMAND_MEMORY, 0);
	static const struct test tests[] = {
		/* Enforces I87. */
		{"random accesses of all processors are survived", survives_random_accesses},
		{"the function is what it was", function_is_what_it_was},
	};
	RUN_TESTS(tests);
}
