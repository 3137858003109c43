#pragma once
#include <stdbool.h>
#include <stdint.h>

enum {
	PCI_VENDOR = 0x00,
	PCI_COMMAND = 0x04,
	PCI_STATUS = 0x06,
	PCI_REVISION = 0x08,
	PCI_HEADER_TYPE = 0x0e,
	PCI_BIST = 0x0f,
	PCI_BAR0 = 0x10,
	PCI_SUBSYSTEM = 0x2c,
	PCI_ROM = 0x30,
	PCI_CAPABILITIES = 0x34,
	PCI_INTERRUPT_LINE = 0x3c,
	PCI_INTERRUPT_PIN = 0x3d,
};

#define PCI_COMMAND_IO 0x001
#define PCI_COMMAND_MEMORY 0x002
#define PCI_COMMAND_MASTER 0x004
#define PCI_COMMAND_INTX_DISABLE 0x400
#define PCI_STATUS_INTX 0x08
#define PCI_STATUS_CAPABILITIES 0x10

enum { PCI_CAP_PM = 0x01, PCI_CAP_MSI = 0x05, PCI_CAP_EXPRESS = 0x10, PCI_CAP_MSIX = 0x11 };

struct pci_function {
	/* Bus, device and function, 8:5:3 bits. */
	uint32_t id;
	uint64_t ecam;
};

struct pci_function pci_at(unsigned bus, unsigned device, unsigned function);
/* Searches bus 0 for function 0 of a device; the low half is the vendor. */
bool pci_find(uint32_t vendor_device, struct pci_function *found);
/* The function that the argument `device=N` names; 1 without one. */
struct pci_function pci_device_of_args(void);

/* By ECAM. */
uint8_t pci_read8(struct pci_function f, unsigned offset);
uint16_t pci_read16(struct pci_function f, unsigned offset);
uint32_t pci_read32(struct pci_function f, unsigned offset);
void pci_write8(struct pci_function f, unsigned offset, uint8_t value);
void pci_write16(struct pci_function f, unsigned offset, uint16_t value);
void pci_write32(struct pci_function f, unsigned offset, uint32_t value);
/* By the ports 0xcf8 and 0xcfc. */
uint32_t pci_port_read(struct pci_function f, unsigned offset, unsigned width);
void pci_port_write(struct pci_function f, unsigned offset, unsigned width, uint32_t value);

/* Offset of the capability after the one at `offset`, of the first for 0; 0 at the end. */
unsigned pci_next_capability(struct pci_function f, unsigned offset);
/* Offset of the first capability with this ID; 0 when there is none. */
unsigned pci_capability(struct pci_function f, uint8_t id);
void pci_command(struct pci_function f, uint16_t set, uint16_t clear);

struct bar {
	unsigned index;
	bool is_port, is_64, prefetchable;
	uint64_t address, size;
};
/* Sizes a BAR with decode off and puts everything back. False when there is none. */
bool pci_bar(struct pci_function f, unsigned index, struct bar *bar);
bool pci_first_memory_bar(struct pci_function f, struct bar *bar);
/* Writes the lower half, then the upper. */
void pci_move_bar(struct pci_function f, const struct bar *bar, uint64_t address);
uint64_t pci_bar_address(struct pci_function f, const struct bar *bar);
