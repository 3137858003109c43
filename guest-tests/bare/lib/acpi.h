#pragma once
#include <stdint.h>

struct rsdp {
	char signature[8];
	uint8_t checksum;
	char oem[6];
	uint8_t revision;
	uint32_t rsdt, length;
	uint64_t xsdt;
	uint8_t extended_checksum, reserved[3];
} __attribute__((packed));

struct acpi_table {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem[6], oem_table[8];
	uint32_t oem_revision, creator, creator_revision;
} __attribute__((packed));

/* As the start info gives it, and as a search of the BIOS area finds it. */
const struct rsdp *acpi_rsdp(void);
const struct rsdp *acpi_scan_rsdp(void);
/* By signature; NULL when the XSDT, or the RSDT where there is none, does not list it. */
const struct acpi_table *acpi_table(const char *signature);
/* A field of any alignment. */
uint64_t acpi_field(const struct acpi_table *table, uint32_t offset, unsigned width);
