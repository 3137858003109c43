/* Interrupts of QEMU's edu: INTx and MSI, raised and acknowledged by register. device=N, loops=N, flood=N, flood_ms=N */
#include "../lib/edu.h"
#include "../lib/payload.h"

#define INTX_VECTOR 0x40
#define MSI_VECTOR 0x50
#define OTHER_MSI_VECTOR 0x51
#define WAIT_MS 2000
/* Long enough for an interrupt that should not come. */
#define QUIET_US 20000
#define MOST_LOOPS 4096

static struct pci_function edu;
static uint64_t registers;
static volatile unsigned refuse_acknowledge;
static uint32_t latencies[MOST_LOOPS];

static void raise(uint32_t cause) { mmio_write32(registers + EDU_INTERRUPT_RAISE, cause); }
static void acknowledge(void) {
	mmio_write32(registers + EDU_INTERRUPT_ACKNOWLEDGE, mmio_read32(registers + EDU_INTERRUPT_STATUS));
}

static void on_intx(unsigned vector) {
	(void)vector;
	if (refuse_acknowledge) {
		refuse_acknowledge--;
		return;
	}
	acknowledge();
	/* The write is posted: read back, or the line may still be up when the interrupt ends. */
	mmio_read32(registers + EDU_INTERRUPT_STATUS);
}

static void on_msi(unsigned vector) {
	(void)vector;
	acknowledge();
}

static void use_intx(void) {
	acknowledge();
	interrupt_handle(INTX_VECTOR, on_intx);
	intx_enable(edu, INTX_VECTOR);
	interrupts_on();
}

static void end_intx(void) {
	interrupts_off();
	intx_mask(edu, INTX_VECTOR);
	acknowledge();
}

static void use_msi(void) {
	acknowledge();
	interrupt_handle(MSI_VECTOR, on_msi);
	interrupt_handle(OTHER_MSI_VECTOR, on_msi);
	check_that(msi_enable(edu, MSI_VECTOR), "no MSI");
	interrupts_on();
}

static void end_msi(void) {
	interrupts_off();
	msi_disable(edu);
	acknowledge();
}

static void device_is_alive(void) {
	CHECK_EQUAL(mmio_read32(registers + EDU_IDENTIFICATION) & 0xffff, 0x00ed, "identification");
	mmio_write32(registers + EDU_LIVENESS, 0x12345678);
	CHECK_EQUAL(mmio_read32(registers + EDU_LIVENESS), ~0x12345678u, "liveness");
	mmio_write32(registers + EDU_FACTORIAL, 10);
	check_that(WAIT_FOR(!(mmio_read32(registers + EDU_STATUS) & EDU_STATUS_COMPUTING), WAIT_MS), "still computing");
	CHECK_EQUAL(mmio_read32(registers + EDU_FACTORIAL), 3628800, "10!");
	CHECK_EQUAL(pci_read8(edu, PCI_INTERRUPT_PIN), 1, "interrupt pin");
}

static void intx_fires_once(void) {
	use_intx();
	raise(1);
	check_that(WAIT_FOR(interrupt_count(INTX_VECTOR) >= 1, WAIT_MS), "no interrupt");
	delay_us(QUIET_US);
	CHECK_EQUAL(interrupt_count(INTX_VECTOR), 1, "interrupts");
	CHECK_EQUAL(mmio_read32(registers + EDU_INTERRUPT_STATUS), 0, "status");
	end_intx();
}

static void intx_fires_again_until_acknowledged(void) {
	use_intx();
	refuse_acknowledge = 3;
	raise(1);
	check_that(WAIT_FOR(interrupt_count(INTX_VECTOR) >= 4, WAIT_MS), "%lu interrupts", interrupt_count(INTX_VECTOR));
	delay_us(QUIET_US);
	CHECK_EQUAL(interrupt_count(INTX_VECTOR), 4, "interrupts");
	refuse_acknowledge = 0;
	end_intx();
}

static void loop(const char *name, unsigned first, unsigned second, unsigned loops) {
	if (loops > MOST_LOOPS) loops = MOST_LOOPS;
	uint64_t start = interrupt_count(first) + interrupt_count(second);
	unsigned done = 0;
	for (; done < loops; done++) {
		uint64_t sent = read_tsc();
		raise(1);
		/* The route changes while the interrupt is on its way. */
		if (first != second) msi_set_vector(edu, done & 1 ? first : second);
		if (!WAIT_FOR(interrupt_count(first) + (first == second ? 0 : interrupt_count(second)) > start + done, WAIT_MS)) {
			check_that(false, "interrupt %u of %u is lost", done + 1, loops);
			break;
		}
		latencies[done] = (uint32_t)clock_ns(interrupt_tsc() - sent);
	}
	distribution(name, latencies, done, "ns");
}

static void intx_loses_nothing(void) {
	use_intx();
	unsigned loops = (unsigned)arg_number("loops", 200);
	interrupt_handle(INTX_VECTOR, on_intx);
	unsigned done = 0;
	for (; done < loops && done < MOST_LOOPS; done++) {
		uint64_t sent = read_tsc();
		raise(1);
		if (!check_that(WAIT_FOR(interrupt_count(INTX_VECTOR) > done, WAIT_MS), "interrupt %u is lost", done + 1)) break;
		latencies[done] = (uint32_t)clock_ns(interrupt_tsc() - sent);
	}
	delay_us(QUIET_US);
	CHECK_EQUAL(interrupt_count(INTX_VECTOR), done, "interrupts");
	distribution("intx-latency", latencies, done, "ns");
	end_intx();
}

static void intx_waits_behind_the_ioapic_mask(void) {
	use_intx();
	intx_mask(edu, INTX_VECTOR);
	raise(1);
	delay_us(QUIET_US);
	CHECK_EQUAL(interrupt_count(INTX_VECTOR), 0, "interrupts of a masked pin");
	intx_enable(edu, INTX_VECTOR);
	check_that(WAIT_FOR(interrupt_count(INTX_VECTOR) >= 1, WAIT_MS), "no interrupt after the pin was unmasked");
	delay_us(QUIET_US);
	CHECK_EQUAL(interrupt_count(INTX_VECTOR), 1, "interrupts");
	end_intx();
}

static void intx_disable_suppresses(void) {
	use_intx();
	pci_command(edu, PCI_COMMAND_INTX_DISABLE, 0);
	raise(1);
	delay_us(QUIET_US);
	CHECK_EQUAL(interrupt_count(INTX_VECTOR), 0, "interrupts while disabled");
	check_that(pci_read16(edu, PCI_STATUS) & PCI_STATUS_INTX, "the status register does not show the pending interrupt");
	pci_command(edu, 0, PCI_COMMAND_INTX_DISABLE);
	check_that(WAIT_FOR(interrupt_count(INTX_VECTOR) >= 1, WAIT_MS), "no interrupt after it was enabled");
	delay_us(QUIET_US);
	CHECK_EQUAL(interrupt_count(INTX_VECTOR), 1, "interrupts");
	end_intx();
}

static void factorial_interrupts(void) {
	use_intx();
	mmio_write32(registers + EDU_STATUS, EDU_STATUS_INTERRUPT);
	mmio_write32(registers + EDU_FACTORIAL, 5);
	check_that(WAIT_FOR(interrupt_count(INTX_VECTOR) >= 1, WAIT_MS), "no interrupt");
	CHECK_EQUAL(mmio_read32(registers + EDU_FACTORIAL), 120, "5!");
	mmio_write32(registers + EDU_STATUS, 0);
	end_intx();
}

static void msi_fires_once(void) {
	use_msi();
	raise(1);
	check_that(WAIT_FOR(interrupt_count(MSI_VECTOR) >= 1, WAIT_MS), "no interrupt");
	delay_us(QUIET_US);
	CHECK_EQUAL(interrupt_count(MSI_VECTOR), 1, "interrupts");
	end_msi();
}

static void msi_loses_nothing(void) {
	use_msi();
	loop("msi-latency", MSI_VECTOR, MSI_VECTOR, (unsigned)arg_number("loops", 200));
	end_msi();
}

/* So many that a rare loss shows, or as many as there is time for. Every interrupt is awaited; now and then its latency is kept. */
static void msi_flood_loses_nothing(void) {
	unsigned flood = (unsigned)arg_number("flood", 0), every = flood / MOST_LOOPS + 1, kept = 0, done = 0;
	if (flood == 0) return skip("not asked for: flood=N");
	uint64_t end = read_tsc() + clock_ticks(arg_number("flood_ms", 100000) * 1000);
	use_msi();
	for (; done < flood && read_tsc() < end; done++) {
		uint64_t sent = read_tsc();
		raise(1);
		bool came = WAIT_FOR(interrupt_count(MSI_VECTOR) > done, WAIT_MS);
		if (!check_that(came, "interrupt %u of %u is lost", done + 1, flood)) break;
		if (done % every == 0) latencies[kept++] = (uint32_t)clock_ns(interrupt_tsc() - sent);
	}
	delay_us(QUIET_US);
	CHECK_EQUAL(interrupt_count(MSI_VECTOR), done, "interrupts");
	metric("msi-flood", done, "interrupts");
	distribution("msi-flood-latency", latencies, kept, "ns");
	end_msi();
}

static void msi_route_changes_lose_nothing(void) {
	use_msi();
	loop("msi-rerouted", MSI_VECTOR, OTHER_MSI_VECTOR, (unsigned)arg_number("loops", 200) / 2);
	check_that(interrupt_count(OTHER_MSI_VECTOR) > 0, "nothing came by the second route");
	end_msi();
}

static void modes_switch_without_a_trace(void) {
	for (unsigned i = 0; i < 3; i++) {
		use_msi();
		interrupt_handle(INTX_VECTOR, on_intx);
		intx_enable(edu, INTX_VECTOR);
		raise(1);
		check_that(WAIT_FOR(interrupt_count(MSI_VECTOR) == 1, WAIT_MS), "round %u: no MSI", i);
		delay_us(QUIET_US / 4);
		CHECK_EQUAL(interrupt_count(INTX_VECTOR), 0, "INTx while MSI is on");
		end_msi();
		use_intx();
		raise(1);
		check_that(WAIT_FOR(interrupt_count(INTX_VECTOR) == 1, WAIT_MS), "round %u: no INTx", i);
		delay_us(QUIET_US / 4);
		CHECK_EQUAL(interrupt_count(MSI_VECTOR), 1, "MSI while it is off");
		end_intx();
	}
}

static void nothing_else_came(void) {
	CHECK_EQUAL(interrupt_count(SPURIOUS_VECTOR), 0, "spurious interrupts");
	interrupts_on();
	uint64_t before = interrupts_in_total();
	delay_us(QUIET_US);
	CHECK_EQUAL(interrupts_in_total(), before, "interrupts of an idle device");
	interrupts_off();
}

void payload_main(void) {
	edu = pci_device_of_args();
	struct bar bar;
	if (pci_read32(edu, 0) != EDU_ID || !pci_bar(edu, 0, &bar)) bail_out("device %u is not an edu", edu.id >> 3);
	registers = map_memory(bar.address, bar.size, MEMORY_UNCACHED);
	pci_command(edu, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, PCI_COMMAND_INTX_DISABLE);
	static const struct test tests[] = {
		{"the device answers and computes", device_is_alive},
		{"INTx fires once", intx_fires_once},
		/* Enforces E55, P26. */
		{"INTx fires again until it is acknowledged, and no more", intx_fires_again_until_acknowledged},
		/* Enforces E55. */
		{"INTx loses nothing", intx_loses_nothing},
		{"INTx waits behind the IOAPIC's mask", intx_waits_behind_the_ioapic_mask},
		/* Enforces E56, P31. */
		{"INTx disable holds it back, and clearing it delivers", intx_disable_suppresses},
		{"the factorial unit interrupts", factorial_interrupts},
		{"MSI fires once", msi_fires_once},
		{"MSI loses nothing", msi_loses_nothing},
		{"MSI loses nothing in a flood", msi_flood_loses_nothing},
		/* Enforces E58, P32. */
		{"MSI loses nothing while its route changes", msi_route_changes_lose_nothing},
		/* Enforces E57, P24. */
		{"INTx and MSI take turns without a trace", modes_switch_without_a_trace},
		{"nothing came that nobody sent", nothing_else_came},
	};
	RUN_TESTS(tests);
}
