/* MSI and MSI-X (PCI 3.0 §6.8), and INTx at the IOAPIC. */
#include "msi.h"
#include "apic.h"
#include "mmio.h"
#include "paging.h"
#include "result.h"

#define MSI_ENABLE 0x0001
#define MSI_64 0x0080
#define MSIX_ENABLE 0x8000
#define MSIX_FUNCTION_MASK 0x4000

uint64_t msi_address(void) { return 0xfee00000ul | (uint64_t)(apic_id() & 0xff) << 12; }

bool msi_enable(struct pci_function f, unsigned vector) {
	unsigned at = pci_capability(f, PCI_CAP_MSI);
	if (!at) return false;
	uint16_t control = pci_read16(f, at + 2);
	pci_write32(f, at + 4, (uint32_t)msi_address());
	if (control & MSI_64) pci_write32(f, at + 8, 0);
	msi_set_vector(f, vector);
	pci_write16(f, at + 2, (uint16_t)((control & ~0x70) | MSI_ENABLE));
	return true;
}

void msi_set_vector(struct pci_function f, unsigned vector) {
	unsigned at = pci_capability(f, PCI_CAP_MSI);
	pci_write16(f, at + (pci_read16(f, at + 2) & MSI_64 ? 12 : 8), (uint16_t)vector);
}

void msi_disable(struct pci_function f) {
	unsigned at = pci_capability(f, PCI_CAP_MSI);
	if (at) pci_write16(f, at + 2, (uint16_t)(pci_read16(f, at + 2) & ~MSI_ENABLE));
}

static uint64_t structure_at(struct pci_function f, uint32_t location) {
	struct bar bar;
	if (!pci_bar(f, location & 7, &bar)) bail_out("MSI-X names BAR %u, which does not exist", location & 7);
	uint64_t offset = location & ~7u;
	return map_memory(bar.address + offset, 0x1000, MEMORY_UNCACHED);
}

bool msix_find(struct pci_function f, struct msix *msix) {
	unsigned at = pci_capability(f, PCI_CAP_MSIX);
	if (!at) return false;
	msix->function = f;
	msix->capability = at;
	msix->count = (pci_read16(f, at + 2) & 0x7ff) + 1u;
	msix->table = structure_at(f, pci_read32(f, at + 4));
	msix->pending = structure_at(f, pci_read32(f, at + 8));
	return true;
}

void msix_enable(const struct msix *msix, bool enabled) {
	uint16_t control = pci_read16(msix->function, msix->capability + 2);
	control = (uint16_t)(enabled ? control | MSIX_ENABLE : control & ~MSIX_ENABLE);
	pci_write16(msix->function, msix->capability + 2, control);
}

void msix_mask_function(const struct msix *msix, bool masked) {
	uint16_t control = pci_read16(msix->function, msix->capability + 2);
	control = (uint16_t)(masked ? control | MSIX_FUNCTION_MASK : control & ~MSIX_FUNCTION_MASK);
	pci_write16(msix->function, msix->capability + 2, control);
}

void msix_set(const struct msix *msix, unsigned index, unsigned vector) {
	mmio_write32(msix_entry(msix, index), (uint32_t)msi_address());
	mmio_write32(msix_entry(msix, index) + 4, 0);
	mmio_write32(msix_entry(msix, index) + 8, vector);
}

void msix_mask(const struct msix *msix, unsigned index, bool masked) {
	mmio_write32(msix_entry(msix, index) + 12, masked);
}

bool msix_is_pending(const struct msix *msix, unsigned index) {
	return (mmio_read32(msix->pending + 4 * (index / 32)) >> (index % 32)) & 1;
}

uint64_t msix_entry(const struct msix *msix, unsigned index) { return msix->table + 16 * (uint64_t)index; }

void intx_enable(struct pci_function f, unsigned vector) {
	ioapic_set(intx_pin(f), vector, IOAPIC_LEVEL | IOAPIC_ACTIVE_LOW);
}

void intx_mask(struct pci_function f, unsigned vector) {
	ioapic_set(intx_pin(f), vector, IOAPIC_LEVEL | IOAPIC_ACTIVE_LOW | IOAPIC_MASKED);
}

unsigned intx_pin(struct pci_function f) { return pci_read8(f, PCI_INTERRUPT_LINE); }
