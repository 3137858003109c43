#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "pci.h"

/* Address of a message to this processor. */
uint64_t msi_address(void);

/* One vector. False when there is no MSI. */
bool msi_enable(struct pci_function f, unsigned vector);
/* Changes the message alone. */
void msi_set_vector(struct pci_function f, unsigned vector);
void msi_disable(struct pci_function f);

struct msix {
	struct pci_function function;
	unsigned capability, count;
	/* Virtual addresses. */
	uint64_t table, pending;
};
bool msix_find(struct pci_function f, struct msix *msix);
void msix_enable(const struct msix *msix, bool enabled);
void msix_mask_function(const struct msix *msix, bool masked);
/* Writes an entry's message, not its mask. */
void msix_set(const struct msix *msix, unsigned index, unsigned vector);
void msix_mask(const struct msix *msix, unsigned index, bool masked);
bool msix_is_pending(const struct msix *msix, unsigned index);
uint64_t msix_entry(const struct msix *msix, unsigned index);

/* The IOAPIC pin of INTx is what firmware wrote into the interrupt line register. */
unsigned intx_pin(struct pci_function f);
void intx_enable(struct pci_function f, unsigned vector);
void intx_mask(struct pci_function f, unsigned vector);
