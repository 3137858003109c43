/* Config space by port pair and by ECAM, capabilities, BARs. */
#include "pci.h"
#include "acpi.h"
#include "args.h"
#include "cpu.h"
#include "memory.h"
#include "mmio.h"
#include "result.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc
#define CONFIG_ENABLE 0x80000000u
#define MCFG_BASE_OFFSET 44
#define MOST_CAPABILITIES 48

static uint64_t ecam_base(void) {
	static uint64_t base;
	if (!base) {
		const struct acpi_table *mcfg = acpi_table("MCFG");
		if (!mcfg) bail_out("no MCFG table");
		base = acpi_field(mcfg, MCFG_BASE_OFFSET, 8);
	}
	return base;
}

struct pci_function pci_at(unsigned bus, unsigned device, unsigned function) {
	uint32_t id = bus << 8 | device << 3 | function;
	return (struct pci_function){.id = id, .ecam = ecam_base() + ((uint64_t)id << 12)};
}

bool pci_find(uint32_t vendor_device, struct pci_function *found) {
	for (unsigned device = 0; device < 32; device++) {
		struct pci_function function = pci_at(0, device, 0);
		if (pci_read32(function, PCI_VENDOR) != vendor_device) continue;
		*found = function;
		return true;
	}
	return false;
}

struct pci_function pci_device_of_args(void) {
	const char *text = arg_text("device", "1");
	return pci_at(0, (unsigned)read_number(&text, 10), 0);
}

uint8_t pci_read8(struct pci_function f, unsigned offset) { return mmio_read8(f.ecam + offset); }
uint16_t pci_read16(struct pci_function f, unsigned offset) { return mmio_read16(f.ecam + offset); }
uint32_t pci_read32(struct pci_function f, unsigned offset) { return mmio_read32(f.ecam + offset); }
void pci_write8(struct pci_function f, unsigned offset, uint8_t value) { mmio_write8(f.ecam + offset, value); }
void pci_write16(struct pci_function f, unsigned offset, uint16_t value) { mmio_write16(f.ecam + offset, value); }
void pci_write32(struct pci_function f, unsigned offset, uint32_t value) { mmio_write32(f.ecam + offset, value); }

uint32_t pci_port_read(struct pci_function f, unsigned offset, unsigned width) {
	out32(CONFIG_ADDRESS, CONFIG_ENABLE | f.id << 8 | (offset & 0xfc));
	uint16_t port = (uint16_t)(CONFIG_DATA + (offset & 3));
	return width == 1 ? in8(port) : width == 2 ? in16(port) : in32(port);
}

void pci_port_write(struct pci_function f, unsigned offset, unsigned width, uint32_t value) {
	out32(CONFIG_ADDRESS, CONFIG_ENABLE | f.id << 8 | (offset & 0xfc));
	uint16_t port = (uint16_t)(CONFIG_DATA + (offset & 3));
	if (width == 1) out8(port, (uint8_t)value);
	else if (width == 2) out16(port, (uint16_t)value);
	else out32(port, value);
}

unsigned pci_next_capability(struct pci_function f, unsigned offset) {
	if (offset == 0) {
		if (!(pci_read16(f, PCI_STATUS) & PCI_STATUS_CAPABILITIES)) return 0;
		return pci_read8(f, PCI_CAPABILITIES) & 0xfc;
	}
	return pci_read8(f, offset + 1) & 0xfc;
}

unsigned pci_capability(struct pci_function f, uint8_t id) {
	unsigned left = MOST_CAPABILITIES;
	for (unsigned at = 0; left-- && (at = pci_next_capability(f, at));) {
		if (pci_read8(f, at) == id) return at;
	}
	return 0;
}

void pci_command(struct pci_function f, uint16_t set, uint16_t clear) {
	pci_write16(f, PCI_COMMAND, (uint16_t)((pci_read16(f, PCI_COMMAND) & ~clear) | set));
}

bool pci_bar(struct pci_function f, unsigned index, struct bar *bar) {
	unsigned at = PCI_BAR0 + 4 * index;
	uint16_t command = pci_read16(f, PCI_COMMAND);
	pci_command(f, 0, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
	uint32_t low = pci_read32(f, at), high = 0;
	pci_write32(f, at, 0xffffffff);
	uint32_t mask = pci_read32(f, at);
	pci_write32(f, at, low);
	*bar = (struct bar){.index = index, .is_port = mask & 1, .is_64 = (mask & 7) == 4, .prefetchable = (mask & 9) == 8};
	uint64_t wide = mask & ~(uint32_t)(bar->is_port ? 3 : 15);
	if (bar->is_64) {
		high = pci_read32(f, at + 4);
		pci_write32(f, at + 4, 0xffffffff);
		wide |= (uint64_t)pci_read32(f, at + 4) << 32;
		pci_write32(f, at + 4, high);
	} else if (mask) {
		wide |= 0xffffffff00000000ul;
	}
	pci_write16(f, PCI_COMMAND, command);
	bar->address = ((uint64_t)high << 32) | (low & ~(uint32_t)(bar->is_port ? 3 : 15));
	bar->size = mask ? -wide : 0;
	/* Ports above 64 Ki do not exist, and the upper half of the register may say so. */
	if (bar->is_port) bar->size &= 0xffff;
	return mask != 0;
}

bool pci_first_memory_bar(struct pci_function f, struct bar *bar) {
	for (unsigned index = 0; index < 6; index += bar->is_64 ? 2 : 1) {
		if (pci_bar(f, index, bar) && !bar->is_port) return true;
	}
	return false;
}

void pci_move_bar(struct pci_function f, const struct bar *bar, uint64_t address) {
	unsigned at = PCI_BAR0 + 4 * bar->index;
	pci_write32(f, at, (uint32_t)address);
	if (bar->is_64) pci_write32(f, at + 4, (uint32_t)(address >> 32));
}

uint64_t pci_bar_address(struct pci_function f, const struct bar *bar) {
	unsigned at = PCI_BAR0 + 4 * bar->index;
	uint64_t address = pci_read32(f, at) & ~(uint32_t)(bar->is_port ? 3 : 15);
	return bar->is_64 ? address | (uint64_t)pci_read32(f, at + 4) << 32 : address;
}
