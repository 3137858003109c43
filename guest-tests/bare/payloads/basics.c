/* The machine without devices: what any operating system relies on before it looks at its first PCI function. */
#include "../lib/payload.h"
#include "../lib/smp.h"

#define TIMER_VECTOR 0x30
#define NOWHERE_PORT 0x5550
#define NOWHERE_ADDRESS 0xd8000000ul
#define PIT_PIN 2

static void start_info_is_plausible(void) {
	const struct start_info *info = start_info();
	CHECK_EQUAL(info->version, 1, "version");
	REQUIRE(info->memory_map_count >= 2 && info->memory_map_count < 32, "%u map entries", info->memory_map_count);
	uint64_t ram = 0, end = 0;
	for (unsigned i = 0; i < info->memory_map_count; i++) {
		const struct memory_map_entry *entry = memory_map(i);
		check_that(entry->start >= end, "entry %u begins at 0x%lx, before the end 0x%lx of the last", i, entry->start, end);
		check_that(entry->size > 0, "entry %u is empty", i);
		end = entry->start + entry->size;
		if (entry->type == MEMORY_MAP_RAM) ram += entry->size;
	}
	uint64_t wanted = arg_number("memory", 0);
	metric("ram", ram, "bytes");
	/* The legacy hole, the tables and ECAM are not RAM. */
	if (wanted) check_that(ram <= wanted && ram >= wanted - 0x200000, "0x%lx bytes of RAM, expected 0x%lx", ram, wanted);
}

static void ram_keeps_what_is_written(void) {
	/* The first and last page of what the map calls RAM above 1 MiB, beside this program. */
	extern uint8_t payload_end[];
	uint64_t end = low_ram_end();
	uint64_t pages[] = {0x100000, ((uint64_t)payload_end + 0xfff) & ~0xffful, end - 0x1000};
	for (unsigned i = 0; i < 3; i++) fill_pattern((void *)pages[i], 0x1000, i + 1);
	static uint8_t wanted[0x1000];
	for (unsigned i = 0; i < 3; i++) {
		fill_pattern(wanted, sizeof wanted, i + 1);
		check_that(memcmp(wanted, (void *)pages[i], sizeof wanted) == 0, "the page at 0x%lx changed", pages[i]);
	}
}

static void acpi_tables_are_sound(void) {
	const struct rsdp *rsdp = acpi_rsdp();
	REQUIRE(rsdp != NULL, "the start info names no RSDP");
	check_that(acpi_scan_rsdp() == rsdp, "a search of the BIOS area finds another RSDP");
	check_that(byte_sum(rsdp, 20) == 0 && byte_sum(rsdp, rsdp->length) == 0, "the RSDP's sums are wrong");
	const struct acpi_table *xsdt = (const struct acpi_table *)rsdp->xsdt;
	REQUIRE(memcmp(xsdt->signature, "XSDT", 4) == 0, "no XSDT at 0x%lx", rsdp->xsdt);
	CHECK_EQUAL(byte_sum(xsdt, xsdt->length), 0, "sum of the XSDT");
	static const char *const names[] = {"FACP", "APIC", "MCFG"};
	for (unsigned i = 0; i < 3; i++) {
		const struct acpi_table *table = acpi_table(names[i]);
		REQUIRE(table != NULL, "no table %s", names[i]);
		check_that(byte_sum(table, table->length) == 0, "the sum of %s is wrong", names[i]);
	}
	const struct acpi_table *dsdt = (const struct acpi_table *)acpi_field(acpi_table("FACP"), 140, 8);
	check_that(memcmp(dsdt->signature, "DSDT", 4) == 0 && byte_sum(dsdt, dsdt->length) == 0, "the DSDT is wrong");
}

static void madt_names_the_processors(void) {
	const struct acpi_table *madt = acpi_table("APIC");
	REQUIRE(madt != NULL, "no MADT");
	unsigned processors = 0, controllers = 0;
	bool me = false;
	for (uint32_t at = 44; at + 2 <= madt->length;) {
		unsigned type = (unsigned)acpi_field(madt, at, 1), length = (unsigned)acpi_field(madt, at + 1, 1);
		REQUIRE(length >= 2 && at + length <= madt->length, "entry at %u has length %u", at, length);
		if (type == 0 && (acpi_field(madt, at + 4, 4) & 1)) {
			processors++;
			if (acpi_field(madt, at + 3, 1) == apic_id()) me = true;
		}
		if (type == 1) {
			controllers++;
			CHECK_EQUAL(acpi_field(madt, at + 4, 4), 0xfec00000, "address of the IOAPIC");
		}
		at += length;
	}
	check_that(me, "the processor that runs this (ID %u) is not listed", apic_id());
	CHECK_EQUAL(controllers, 1, "IOAPICs");
	CHECK_EQUAL(processors, arg_number("cpus", 1), "processors");
	CHECK_EQUAL((ioapic_read(1) >> 16) & 0xff, 23, "last pin of the IOAPIC");
}

static void cpuid_topology_fits(void) {
	uint64_t cpus = arg_number("cpus", 1);
	CHECK_EQUAL((cpuid(1, 0).ebx >> 16) & 0xff, cpus, "logical processors of leaf 1");
	CHECK_EQUAL(cpuid(1, 0).ebx >> 24, apic_id(), "APIC ID of leaf 1");
	check_that((cpuid(1, 0).ecx >> 31) & 1, "leaf 1 does not say that there is a hypervisor");
	if (cpuid(0, 0).eax >= 0xb) {
		CHECK_EQUAL(cpuid(0xb, 0).ebx & 0xffff, 1, "threads of a core");
		CHECK_EQUAL(cpuid(0xb, 1).ebx & 0xffff, cpus, "processors of leaf 0xb");
		CHECK_EQUAL(cpuid(0xb, 0).edx, apic_id(), "x2APIC ID of leaf 0xb");
	}
	CHECK_EQUAL((cpuid(1, 0).edx >> 16) & 1, 1, "page attribute table");
}

static void mcfg_leads_to_config_space(void) {
	struct pci_function bridge = pci_at(0, 0, 0);
	uint32_t id = pci_read32(bridge, PCI_VENDOR);
	check_that(id != 0xffffffff, "nothing answers at 00:00.0");
	CHECK_EQUAL(pci_port_read(bridge, PCI_VENDOR, 4), id, "00:00.0 by port");
	CHECK_EQUAL(pci_read16(bridge, 10), 0x0600, "class of the host bridge");
	CHECK_EQUAL(pci_read32(pci_at(0, 31, 7), 0), 0xffffffff, "an absent function");
}

static void nowhere_reads_ones(void) {
	out32(NOWHERE_PORT, 0x12345678);
	CHECK_EQUAL(in8(NOWHERE_PORT), 0xff, "8-bit port");
	CHECK_EQUAL(in16(NOWHERE_PORT), 0xffff, "16-bit port");
	CHECK_EQUAL(in32(NOWHERE_PORT), 0xffffffff, "32-bit port");
	mmio_write64(NOWHERE_ADDRESS, 0);
	CHECK_EQUAL(mmio_read8(NOWHERE_ADDRESS + 1), 0xff, "8-bit memory");
	CHECK_EQUAL(mmio_read16(NOWHERE_ADDRESS + 2), 0xffff, "16-bit memory");
	CHECK_EQUAL(mmio_read32(NOWHERE_ADDRESS + 4), 0xffffffff, "32-bit memory");
	CHECK_EQUAL(mmio_read64(NOWHERE_ADDRESS + 8), ~0ul, "64-bit memory");
	/* Across a page border, where KVM makes two of it. */
	CHECK_EQUAL(mmio_read64(NOWHERE_ADDRESS + 0xffc), ~0ul, "64-bit memory across two pages");
}

static void exceptions_are_delivered(void) {
	struct exception seen;
	TRY_INSTRUCTION(&seen, "ud2", "i"(0));
	check_that(seen.happened && seen.vector == 6, "ud2: happened %d, vector %u", seen.happened, seen.vector);
	TRY_INSTRUCTION(&seen, "rdmsr", "c"(0x12345678));
	check_that(seen.happened && seen.vector == 13, "unknown MSR: happened %d, vector %u", seen.happened, seen.vector);
	TRY_INSTRUCTION(&seen, "mov (%[bad]), %%al", [bad] "r"(0x7f0000001000ul));
	check_that(seen.happened && seen.vector == 14, "unmapped: happened %d, vector %u", seen.happened, seen.vector);
	CHECK_EQUAL(seen.address, 0x7f0000001000ul, "cr2");
}

static void lapic_timer_interrupts(void) {
	interrupt_handle(TIMER_VECTOR, NULL);
	interrupts_on();
	apic_timer(TIMER_VECTOR, APIC_TIMER_ONCE, 1000000);
	check_that(WAIT_FOR(interrupt_count(TIMER_VECTOR) == 1, 2000), "no interrupt of the one-shot timer");
	check_that(apic_timer_left() == 0, "the one-shot timer counts on");
	apic_timer(TIMER_VECTOR, APIC_TIMER_PERIODIC, 2000000);
	check_that(WAIT_FOR(interrupt_count(TIMER_VECTOR) >= 4, 5000), "the periodic timer came %lu times",
		interrupt_count(TIMER_VECTOR) - 1);
	apic_timer_stop();
	uint64_t before = interrupt_count(TIMER_VECTOR);
	delay_us(10000);
	check_that(interrupt_count(TIMER_VECTOR) <= before + 1, "the stopped timer goes on");
	interrupts_off();
}

static void lapic_timer_wakes_a_halted_processor(void) {
	interrupt_handle(TIMER_VECTOR, NULL);
	for (unsigned i = 0; i < 20; i++) {
		apic_timer(TIMER_VECTOR, APIC_TIMER_ONCE, 500000);
		while (interrupt_count(TIMER_VECTOR) == i) {
			interrupts_on_and_wait();
			interrupts_off();
		}
	}
	CHECK_EQUAL(interrupt_count(TIMER_VECTOR), 20, "interrupts");
	apic_timer_stop();
}

static void tsc_deadline_interrupts(void) {
	if (!((cpuid(1, 0).ecx >> 24) & 1)) return skip("CPUID has no TSC deadline");
	interrupt_handle(TIMER_VECTOR, NULL);
	apic_timer(TIMER_VECTOR, APIC_TIMER_DEADLINE, 0);
	interrupts_on();
	uint64_t deadline = read_tsc() + clock_ticks(2000);
	write_msr(0x6e0, deadline);
	check_that(WAIT_FOR(interrupt_count(TIMER_VECTOR) == 1, 2000), "no interrupt of the deadline");
	check_that(interrupt_tsc() >= deadline, "%lu ticks early", deadline - interrupt_tsc());
	interrupts_off();
	apic_timer_stop();
}

static void pit_interrupts_through_the_ioapic(void) {
	interrupt_handle(TIMER_VECTOR, NULL);
	ioapic_set(PIT_PIN, TIMER_VECTOR, IOAPIC_EDGE);
	out8(0x43, 0x34);
	out8(0x40, 0x9c);
	out8(0x40, 0x2e);
	interrupts_on();
	bool came = WAIT_FOR(interrupt_count(TIMER_VECTOR) >= 3, 5000);
	interrupts_off();
	ioapic_set(PIT_PIN, TIMER_VECTOR, IOAPIC_MASKED);
	check_that(came, "%lu interrupts at 100 Hz", interrupt_count(TIMER_VECTOR));
}

static volatile uint32_t seen_ids[SMP_MOST];

static void note_id(unsigned index) { seen_ids[index] = apic_id(); }

static void other_processors_start(void) {
	unsigned cpus = (unsigned)arg_number("cpus", 1);
	if (cpus == 1) return skip("there is one processor");
	/* Twice: INIT must work on a processor that has run, too. */
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < cpus; i++) seen_ids[i] = ~0u;
		REQUIRE(smp_run(cpus, note_id, 5000), "not all processors ran in round %u", round);
		for (unsigned i = 0; i < cpus; i++) CHECK_EQUAL(seen_ids[i], i, "APIC ID");
	}
}

static void serial_output_comes_in_order(void) {
	/* KVM re-enters the guest after 1024 iterations at the latest (arch/x86/kvm/emulate.c). */
	static char text[1101];
	memset(text, '.', sizeof text);
	memcpy(text, "# marker ", 9);
	for (unsigned i = 0; i < 10; i++) text[100 + i * 100] = (char)('0' + i);
	text[sizeof text - 1] = '\n';
	console_write(text, sizeof text);
}

void payload_main(void) {
	metric("tsc", clock_tsc_khz(), "kHz");
	static const struct test tests[] = {
		{"the start info and its memory map are plausible", start_info_is_plausible},
		{"RAM keeps what is written, first and last page", ram_keeps_what_is_written},
		{"ACPI tables are found, by pointer and by search, and sum up", acpi_tables_are_sound},
		{"the MADT names processors and IOAPIC", madt_names_the_processors},
		{"CPUID tells the topology", cpuid_topology_fits},
		{"MCFG leads to the host bridge, as the ports do", mcfg_leads_to_config_space},
		{"ports and memory that nobody claims read ones", nowhere_reads_ones},
		{"exceptions are delivered", exceptions_are_delivered},
		{"LAPIC timer: once and periodic", lapic_timer_interrupts},
		{"LAPIC timer wakes a halted processor", lapic_timer_wakes_a_halted_processor},
		{"TSC deadline interrupts, and not early", tsc_deadline_interrupts},
		{"PIT interrupts through the IOAPIC", pit_interrupts_through_the_ioapic},
		{"the other processors start, twice", other_processors_start},
		{"a long string instruction to the console stays whole", serial_output_comes_in_order},
	};
	RUN_TESTS(tests);
}
