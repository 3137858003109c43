/* ACPI tables: found, checked by their sums, never interpreted beyond that (ACPI 6.5 §5.2). */
#include "acpi.h"
#include <stdbool.h>
#include "memory.h"
#include "start-info.h"

#define BIOS_AREA 0xe0000ul
#define BIOS_AREA_END 0x100000ul
#define RSDP_ALIGN 16

const struct rsdp *acpi_rsdp(void) { return (const struct rsdp *)start_info()->rsdp; }

const struct rsdp *acpi_scan_rsdp(void) {
	for (uint64_t at = BIOS_AREA; at < BIOS_AREA_END; at += RSDP_ALIGN) {
		if (memcmp((const void *)at, "RSD PTR ", 8) == 0 && byte_sum((const void *)at, 20) == 0) {
			return (const struct rsdp *)at;
		}
	}
	return NULL;
}

const struct acpi_table *acpi_table(const char *signature) {
	const struct rsdp *rsdp = acpi_rsdp();
	if (!rsdp) return NULL;
	/* QEMU's firmware has ACPI 1.0 tables: no XSDT, and addresses of 4 bytes. */
	bool wide = rsdp->revision >= 2;
	uint32_t size = wide ? 8 : 4;
	const struct acpi_table *root = (const struct acpi_table *)(wide ? rsdp->xsdt : rsdp->rsdt);
	for (uint32_t at = sizeof *root; at + size <= root->length; at += size) {
		uint64_t address = acpi_field(root, at, size);
		if (memcmp((const void *)address, signature, 4) == 0) return (const struct acpi_table *)address;
	}
	return NULL;
}

uint64_t acpi_field(const struct acpi_table *table, uint32_t offset, unsigned width) {
	uint64_t value = 0;
	memcpy(&value, (const uint8_t *)table + offset, width);
	return value;
}
