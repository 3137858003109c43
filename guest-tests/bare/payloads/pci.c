/*
 * Config space of any PCI function, against what the command line says of it:
 * device=1 id=0x11e81234 class=0x00ff0010 subsystem=0x11001af4 config=256 caps=05
 * caps: IDs in the order of the list. `pci-bars` looks at the BARs.
 */
#include "../lib/payload.h"

static struct pci_function device;

static void identity_is_the_hardwares(void) {
	if (has_arg("id")) CHECK_EQUAL(pci_read32(device, PCI_VENDOR), arg_number("id", 0), "vendor and device");
	if (has_arg("class")) CHECK_EQUAL(pci_read32(device, PCI_REVISION), arg_number("class", 0), "class and revision");
	if (has_arg("subsystem")) {
		CHECK_EQUAL(pci_read32(device, PCI_SUBSYSTEM), arg_number("subsystem", 0), "subsystem");
	}
	CHECK_EQUAL(pci_read8(device, PCI_HEADER_TYPE), 0, "header type: one function, no bridge");
}

static void ports_and_ecam_agree(void) {
	for (unsigned at = 0; at < 256; at += 4) CHECK_EQUAL(pci_port_read(device, at, 4), pci_read32(device, at), "dword");
	pci_port_write(device, PCI_INTERRUPT_LINE, 1, 0x5a);
	CHECK_EQUAL(pci_read8(device, PCI_INTERRUPT_LINE), 0x5a, "written by port, read by ECAM");
}

static void widths_compose(void) {
	for (unsigned at = 0; at < 64; at += 4) {
		uint32_t bytes = 0, words = 0;
		for (unsigned i = 0; i < 4; i++) bytes |= (uint32_t)pci_read8(device, at + i) << (8 * i);
		for (unsigned i = 0; i < 4; i += 2) words |= (uint32_t)pci_read16(device, at + i) << (8 * i);
		CHECK_EQUAL(bytes, pci_read32(device, at), "bytes");
		CHECK_EQUAL(words, pci_read32(device, at), "words");
		CHECK_EQUAL(pci_port_read(device, at + 2, 2), words >> 16, "upper word by port");
		CHECK_EQUAL(pci_port_read(device, at + 3, 1), bytes >> 24, "last byte by port");
	}
	uint64_t wide = mmio_read64(device.ecam + 8);
	CHECK_EQUAL(wide, pci_read32(device, 8) | (uint64_t)pci_read32(device, 12) << 32, "8 bytes by ECAM");
}

/* No config cycle carries such an access (PCI 3.0 §3.2.2.3): either it is made of its bytes, or nothing answers. */
static void accesses_across_a_dword_are_whole(void) {
	for (unsigned at = 1; at < 4; at++) {
		uint32_t bytes = 0;
		for (unsigned i = 0; i < 4; i++) bytes |= (uint32_t)pci_read8(device, at + i) << (8 * i);
		uint32_t got = pci_read32(device, at);
		check_that(got == bytes || got == 0xffffffff, "offset %u: 0x%x, of bytes 0x%x", at, got, bytes);
	}
	uint32_t before = pci_read32(device, PCI_COMMAND);
	pci_write32(device, PCI_VENDOR + 2, 0xffffffff);
	uint32_t after = pci_read32(device, PCI_COMMAND);
	check_that((before >> 16) == (after >> 16), "status changed from 0x%x to 0x%x", before, after);
	pci_write16(device, PCI_COMMAND, (uint16_t)before);
}

static void capability_list_is_as_expected(void) {
	char wanted[ARG_VALUE_ROOM], seen[ARG_VALUE_ROOM];
	unsigned length = 0, left = 48;
	for (unsigned at = 0; (at = pci_next_capability(device, at)) != 0 && left--;) {
		REQUIRE(at >= 0x40, "a capability at 0x%x, inside the header", at);
		uint8_t id = pci_read8(device, at);
		if (length) seen[length++] = ',';
		seen[length++] = "0123456789abcdef"[id >> 4];
		seen[length++] = "0123456789abcdef"[id & 15];
	}
	seen[length] = 0;
	check_that(left > 0, "the list has no end");
	const char *text = arg_text("caps", NULL);
	if (!text) return skip("no argument caps");
	memcpy(wanted, text, strlen(text) + 1);
	check_that(text_equal(seen, wanted), "IDs %s, expected %s", seen, wanted);
}

static void read_only_registers_stay(void) {
	static const uint8_t places[] = {0x00, 0x08, 0x2c, 0x34};
	for (unsigned i = 0; i < sizeof places; i++) {
		uint32_t before = pci_read32(device, places[i]);
		pci_write32(device, places[i], ~before);
		CHECK_EQUAL(pci_read32(device, places[i]), before, "register after its complement was written");
	}
	pci_write8(device, PCI_HEADER_TYPE, 0xff);
	pci_write8(device, PCI_BIST, 0x40);
	CHECK_EQUAL(pci_read16(device, PCI_HEADER_TYPE), 0, "header type and BIST");
	uint8_t pin = pci_read8(device, PCI_INTERRUPT_PIN);
	pci_write16(device, PCI_INTERRUPT_LINE, 0xffff);
	CHECK_EQUAL(pci_read16(device, PCI_INTERRUPT_LINE), 0xff | pin << 8, "interrupt line and pin");
}

static void command_takes_only_its_own_bits(void) {
	uint16_t before = pci_read16(device, PCI_COMMAND);
	pci_write16(device, PCI_COMMAND, 0xffff & ~(PCI_COMMAND_MASTER));
	uint16_t after = pci_read16(device, PCI_COMMAND);
	pci_write16(device, PCI_COMMAND, before);
	/* Bits 3, 5, 7 and 11 to 15 are reserved or wired to 0 (PCI 3.0 §6.2.2). Fast back-to-back has no meaning here. */
	CHECK_EQUAL(after & 0xf8a8, 0, "reserved bits");
	CHECK_EQUAL(after & (PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE), PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE,
		"memory and INTx disable");
	CHECK_EQUAL(pci_read16(device, PCI_COMMAND), before, "command put back");
}

static unsigned capability_size(unsigned at) {
	uint16_t word = pci_read16(device, at + 2);
	switch (pci_read8(device, at)) {
	case PCI_CAP_PM: return 8;
	case PCI_CAP_MSI: return (word & 0x80 ? 14u : 10u) + (word & 0x100 ? 10 : 0);
	case PCI_CAP_MSIX: return 12;
	case PCI_CAP_EXPRESS: return 60;
	default: return 0;
	}
}

static void gaps_read_zero(void) {
	static bool known[256];
	for (unsigned at = 0; (at = pci_next_capability(device, at)) != 0;) {
		unsigned size = capability_size(at);
		if (size == 0) return skip("a capability of unknown size");
		for (unsigned i = at; i < at + size && i < 256; i++) known[i] = true;
	}
	for (unsigned at = 0x40; at < 256; at++) {
		if (known[at]) continue;
		pci_write8(device, at, 0xff);
		check_that(pci_read8(device, at) == 0, "0x%x reads 0x%x", at, pci_read8(device, at));
	}
}

static void extended_space_ends_where_it_should(void) {
	uint64_t size = arg_number("config", 0);
	if (!size) return skip("no argument config");
	uint32_t first = pci_read32(device, 0x100);
	if (size <= 256) CHECK_EQUAL(first, 0xffffffff, "dword 0x100 of 256 bytes");
	else check_that(first != 0xffffffff, "nothing answers at 0x100 of 4096 bytes");
	pci_write32(device, 0xffc, 0x12345678);
	CHECK_EQUAL(pci_read32(device, 0xffc), size <= 256 ? 0xffffffff : 0, "last dword");
}

static void other_functions_are_absent(void) {
	for (unsigned function = 1; function < 8; function++) {
		struct pci_function other = pci_at(0, (device.id >> 3) & 31, function);
		CHECK_EQUAL(pci_read32(other, 0), 0xffffffff, "another function");
		pci_write32(other, PCI_COMMAND, 0xffffffff);
	}
	CHECK_EQUAL(pci_port_read(pci_at(1, 0, 0), 0, 4), 0xffffffff, "another bus");
}

void payload_main(void) {
	device = pci_device_of_args();
	if (pci_read32(device, 0) == 0xffffffff) bail_out("nothing answers at device %u", device.id >> 3);
	static const struct test tests[] = {
		/* Enforces C20. */
		{"IDs, class and subsystem are the hardware's", identity_is_the_hardwares},
		{"the port pair and ECAM agree", ports_and_ecam_agree},
		/* Enforces C28. */
		{"1, 2, 4 and 8 bytes compose", widths_compose},
		{"accesses across a dword are whole or unanswered", accesses_across_a_dword_are_whole},
		/* Enforces C25, P39. */
		{"the capability list is as expected", capability_list_is_as_expected},
		/* Enforces C27. */
		{"read-only registers and BIST ignore writes", read_only_registers_stay},
		{"the command register takes only its own bits", command_takes_only_its_own_bits},
		/* Enforces C24, P39. */
		{"gaps between capabilities read 0 and take nothing", gaps_read_zero},
		/* Enforces C29. */
		{"extended config space ends where it should", extended_space_ends_where_it_should},
		/* Enforces C26, P41. */
		{"other functions and buses are absent", other_functions_are_absent},
	};
	RUN_TESTS(tests);
}
