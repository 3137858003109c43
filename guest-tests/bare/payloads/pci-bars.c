/*
 * BARs of any PCI function: sizes, places, decode, moves, power states, resets; against what the command line says of it:
 * device=1 id=0x11e81234 bars=1 bar0=100000 bar2=4000,64p bar4=20,io
 * barN: size in hexadecimal, then 64, p or io; bars: there are no others. `probe`: offset in the first memory BAR of a dword
 * that does not change by itself, default 0.
 */
#include "../lib/payload.h"

static struct pci_function device;
static struct bar bar;
/* The first memory BAR's address, and what its probe register reads there. */
static uint64_t probe_offset;
static uint32_t probe_value;
static bool can_probe;

static uint32_t probe(uint64_t address) {
	return mmio_read32(map_memory(address + probe_offset, 4, MEMORY_UNCACHED));
}

static void bars_have_the_hardwares_sizes(void) {
	char name[] = "bar0";
	struct bar seen;
	bool complete = has_arg("bars");
	for (unsigned index = 0; index < 6; index++) {
		name[3] = (char)('0' + index);
		bool exists = pci_bar(device, index, &seen);
		const char *wanted = arg_text(name, NULL);
		if (complete && !wanted) check_that(!exists, "BAR%u exists, of 0x%lx bytes", index, seen.size);
		if (wanted) {
			REQUIRE(exists, "BAR%u does not exist", index);
			CHECK_EQUAL(seen.size, read_number(&wanted, 16), name);
			bool port = false, wide = false, prefetchable = false;
			for (; *wanted; wanted++) {
				if (*wanted == '6') wide = true;
				if (*wanted == 'p') prefetchable = true;
				if (*wanted == 'i') port = true;
			}
			check_that(port == seen.is_port && wide == seen.is_64 && prefetchable == seen.prefetchable,
				"BAR%u: port %d, 64-bit %d, prefetchable %d", index, seen.is_port, seen.is_64, seen.prefetchable);
		}
		if (exists) {
			check_that(seen.address != 0 && (seen.address & (seen.size - 1)) == 0, "BAR%u was placed at 0x%lx", index,
				seen.address);
			if (seen.is_64) index++;
		}
	}
}

/* Sizing in bytes and words, and in both orders of the halves, gives what sizing in dwords gives. */
static void sizing_works_in_all_widths(void) {
	unsigned at = PCI_BAR0 + 4 * bar.index;
	uint32_t low = pci_read32(device, at), high = pci_read32(device, at + 4);
	pci_write32(device, at, 0xffffffff);
	uint32_t mask = pci_read32(device, at);
	for (unsigned i = 0; i < 4; i++) pci_write8(device, at + i, 0);
	CHECK_EQUAL(pci_read32(device, at), mask & 15, "zeroed in bytes");
	for (unsigned i = 4; i-- > 0;) pci_write8(device, at + i, 0xff);
	CHECK_EQUAL(pci_read32(device, at), mask, "sized in bytes");
	pci_write32(device, at, 0);
	for (unsigned i = 0; i < 4; i += 2) pci_write16(device, at + i, 0xffff);
	CHECK_EQUAL(pci_read32(device, at), mask, "sized in words");
	pci_write32(device, at, 0);
	for (unsigned i = 0; i < 4; i += 2) pci_port_write(device, at + i, 2, 0xffff);
	CHECK_EQUAL(pci_read32(device, at), mask, "sized in words by port");
	if (bar.is_64) {
		uint32_t upper = (uint32_t)(-bar.size >> 32);
		pci_write32(device, at + 4, 0xffffffff);
		CHECK_EQUAL(pci_read32(device, at + 4), upper, "upper half");
		pci_write32(device, at, low);
		CHECK_EQUAL(pci_read32(device, at + 4), upper, "upper half while the lower has an address");
		pci_write32(device, at + 4, high);
	}
	pci_write32(device, at, low);
	CHECK_EQUAL(pci_bar_address(device, &bar), bar.address, "address after sizing");
}

static void sizing_with_decode_on_moves_nothing(void) {
	if (!can_probe) return skip("no register to recognise the BAR by");
	unsigned at = PCI_BAR0 + 4 * bar.index;
	uint32_t low = pci_read32(device, at);
	pci_write32(device, at, 0xffffffff);
	pci_write32(device, at, low);
	CHECK_EQUAL(probe(bar.address), probe_value, "register after sizing with decode on");
}

static void absent_bars_read_zero(void) {
	struct bar seen;
	for (unsigned index = 0; index < 6; index++) {
		if (pci_bar(device, index, &seen)) {
			index += seen.is_64;
			continue;
		}
		pci_write32(device, PCI_BAR0 + 4 * index, 0xffffffff);
		CHECK_EQUAL(pci_read32(device, PCI_BAR0 + 4 * index), 0, "absent BAR after ones");
	}
	pci_write32(device, PCI_ROM, 0xfffff801);
	CHECK_EQUAL(pci_read32(device, PCI_ROM), 0, "expansion ROM after ones");
}

static void decode_switches_the_bar(void) {
	if (!can_probe) return skip("no register to recognise the BAR by");
	for (unsigned i = 0; i < 3; i++) {
		pci_command(device, 0, PCI_COMMAND_MEMORY);
		CHECK_EQUAL(probe(bar.address), 0xffffffff, "register with decode off");
		pci_command(device, PCI_COMMAND_MEMORY, 0);
		CHECK_EQUAL(probe(bar.address), probe_value, "register with decode on");
	}
}

/* A free place of the 32-bit window: the next but one of the BAR's own size. */
static uint64_t other_place(void) {
	uint64_t place = bar.address + 2 * bar.size;
	return place < 0x100000000ul ? ((place < 0xd8000000ul ? 0xd8000000ul : place) & -bar.size) : place;
}

static void check_move(uint64_t to, const char *what) {
	CHECK_EQUAL(probe(bar.address), 0xffffffff, "old address");
	CHECK_EQUAL(probe(to), probe_value, what);
}

static void bar_moves_with_decode_off(void) {
	if (!can_probe) return skip("no register to recognise the BAR by");
	uint64_t to = other_place();
	pci_command(device, 0, PCI_COMMAND_MEMORY);
	pci_move_bar(device, &bar, to);
	CHECK_EQUAL(probe(to), 0xffffffff, "new address before decode");
	pci_command(device, PCI_COMMAND_MEMORY, 0);
	check_move(to, "new address");
	pci_command(device, 0, PCI_COMMAND_MEMORY);
	pci_move_bar(device, &bar, bar.address);
	pci_command(device, PCI_COMMAND_MEMORY, 0);
	CHECK_EQUAL(probe(bar.address), probe_value, "moved back");
	CHECK_EQUAL(probe(to), 0xffffffff, "left address");
}

static void bar_moves_with_decode_on(void) {
	if (!can_probe) return skip("no register to recognise the BAR by");
	uint64_t to = other_place();
	for (unsigned i = 0; i < 5; i++) {
		pci_move_bar(device, &bar, to);
		check_move(to, "new address");
		pci_move_bar(device, &bar, bar.address);
		CHECK_EQUAL(probe(bar.address), probe_value, "moved back");
	}
	/* Byte by byte: what lies between is decoded or not, and in the end it is there. */
	for (unsigned i = 0; i < 4; i++) pci_write8(device, PCI_BAR0 + 4 * bar.index + i, (uint8_t)(to >> (8 * i)));
	check_move(to, "new address, written in bytes");
	pci_move_bar(device, &bar, bar.address);
}

/* The window above RAM begins at 64 GiB, or in the middle of what the processor addresses. */
static void bar_moves_above_4_gib(void) {
	if (!can_probe) return skip("no register to recognise the BAR by");
	if (!bar.is_64) return skip("not a 64-bit BAR");
	unsigned bits = cpuid(0x80000008, 0).eax & 0xff;
	uint64_t to = bits > 36 ? 1ul << 36 : 1ul << (bits - 1);
	/* A prefetchable BAR may have been given that place. */
	if (to == bar.address) to = other_place();
	unsigned at = PCI_BAR0 + 4 * bar.index;
	/* Upper half first, so that the halves are in force one after the other. */
	pci_write32(device, at + 4, (uint32_t)(to >> 32));
	pci_write32(device, at, (uint32_t)to);
	check_move(to, "new address above 4 GiB");
	pci_write32(device, at, (uint32_t)bar.address);
	pci_write32(device, at + 4, (uint32_t)(bar.address >> 32));
	CHECK_EQUAL(probe(bar.address), probe_value, "moved back");
	CHECK_EQUAL(probe(to), 0xffffffff, "left address");
}

static void impossible_places_are_not_decoded(void) {
	if (!can_probe) return skip("no register to recognise the BAR by");
	static const uint64_t places[] = {0, 0x1000000, 0xe0000000, 0xfec00000, 0xfee00000, 0xfff00000};
	static uint8_t before[0x1000];
	memcpy(before, (void *)0x1000000ul, sizeof before);
	uint32_t bridge = pci_read32(pci_at(0, 0, 0), 0);
	for (unsigned i = 0; i < sizeof places / sizeof places[0]; i++) {
		uint64_t place = places[i] & -bar.size;
		pci_move_bar(device, &bar, place);
		CHECK_EQUAL(probe(bar.address), 0xffffffff, "old address while the BAR is where it cannot be");
		CHECK_EQUAL(pci_read32(pci_at(0, 0, 0), 0), bridge, "ECAM");
		CHECK_EQUAL((ioapic_read(1) >> 16) & 0xff, 23, "IOAPIC");
		check_that(memcmp(before, (void *)0x1000000ul, sizeof before) == 0, "RAM hidden by the BAR at 0x%lx", place);
	}
	pci_move_bar(device, &bar, bar.address);
	CHECK_EQUAL(probe(bar.address), probe_value, "moved back");
}

static void d3hot_hides_the_bar(void) {
	unsigned at = pci_capability(device, PCI_CAP_PM);
	if (!at) return skip("no power management");
	if (!can_probe) return skip("no register to recognise the BAR by");
	bool keeps = pci_read16(device, at + 4) & 8;
	pci_write16(device, at + 4, 3);
	delay_us(10000);
	CHECK_EQUAL(pci_read16(device, at + 4) & 3, 3, "power state");
	CHECK_EQUAL(probe(bar.address), 0xffffffff, "register in D3hot");
	CHECK_EQUAL(pci_read16(device, PCI_VENDOR), arg_number("id", pci_read16(device, 0)) & 0xffff, "vendor in D3hot");
	pci_write16(device, at + 4, 0);
	delay_us(10000);
	/* Without No_Soft_Reset a device may come back as after a reset (PM 1.2 §5.4.1); the VMM keeps BARs and command. */
	if (!keeps) pci_command(device, PCI_COMMAND_MEMORY, 0);
	CHECK_EQUAL(pci_bar_address(device, &bar), bar.address, "BAR after D3hot");
	CHECK_EQUAL(probe(bar.address), probe_value, "register after D3hot");
}

static void function_level_reset_restores(void) {
	unsigned at = pci_capability(device, PCI_CAP_EXPRESS);
	if (!at || !(pci_read32(device, at + 4) & 0x10000000)) return skip("no function-level reset");
	pci_command(device, PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE, 0);
	pci_write16(device, at + 8, (uint16_t)(pci_read16(device, at + 8) | 0x8000));
	delay_us(100000);
	CHECK_EQUAL(pci_read16(device, PCI_COMMAND) & 0x407, 0, "command after the reset");
	CHECK_EQUAL(pci_bar_address(device, &bar), bar.address, "BAR after the reset");
	if (!can_probe) return;
	CHECK_EQUAL(probe(bar.address), 0xffffffff, "register before decode is on again");
	pci_command(device, PCI_COMMAND_MEMORY, 0);
	CHECK_EQUAL(probe(bar.address), probe_value, "register after the reset");
}

void payload_main(void) {
	device = pci_device_of_args();
	if (pci_read32(device, 0) == 0xffffffff) bail_out("nothing answers at device %u", device.id >> 3);
	if (pci_first_memory_bar(device, &bar)) {
		pci_command(device, PCI_COMMAND_MEMORY, 0);
		probe_offset = arg_number("probe", 0);
		probe_value = probe(bar.address);
		can_probe = probe_value != 0xffffffff && probe_value != 0;
		print("# BAR%u at 0x%lx, 0x%lx bytes, reads 0x%x\n", bar.index, bar.address, bar.size, probe_value);
	}
	static const struct test tests[] = {
		/* Enforces C21, H76. */
		{"BARs have the hardware's sizes and kinds and are placed", bars_have_the_hardwares_sizes},
		/* Enforces C21, P1, P9. */
		{"BAR sizing works in all widths and halves", sizing_works_in_all_widths},
		/* Enforces P1. */
		{"BAR sizing with decode on moves nothing", sizing_with_decode_on_moves_nothing},
		/* Enforces C21, D48. */
		{"absent BARs and the ROM read 0", absent_bars_read_zero},
		/* Enforces D39, D40, P5. */
		{"decode off and on", decode_switches_the_bar},
		/* Enforces D41. */
		{"a BAR moves with decode off", bar_moves_with_decode_off},
		/* Enforces D41, P3. */
		{"a BAR moves with decode on", bar_moves_with_decode_on},
		/* Enforces P2. */
		{"a BAR moves above 4 GiB and back", bar_moves_above_4_gib},
		/* Enforces D42, P4. */
		{"a BAR over RAM, ECAM or the APICs is not decoded", impossible_places_are_not_decoded},
		/* Enforces D43, P7. */
		{"D3hot hides the BAR, D0 brings it back", d3hot_hides_the_bar},
		/* Enforces G68. */
		{"a function-level reset restores config space", function_level_reset_restores},
	};
	RUN_TESTS(tests);
}
