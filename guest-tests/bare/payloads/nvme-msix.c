/* MSI-X with an NVMe controller as the source: each command is one completion is one interrupt. device=N, loops=N */
#include "../lib/nvme.h"
#include "../lib/payload.h"

#define FIRST_VECTOR 0x60
#define OTHER_VECTOR 0x70
#define INTX_VECTOR 0x40
#define WAIT_MS 3000
#define QUIET_US 20000
#define MOST_LOOPS 4096

static struct pci_function function;
static struct bar bar;
static struct msix msix;
static uint8_t data[4096] __attribute__((aligned(4096)));
/* MSI-X entry of each queue. */
static const unsigned entry_of[NVME_QUEUES] = {0, 1, 2};
static uint32_t latencies[MOST_LOOPS];
/* Accesses to the table and the pending bits, which trap. */
static uint64_t trapped;

static void set(unsigned index, unsigned vector) {
	trapped += 3;
	msix_set(&msix, index, vector);
}

static void mask(unsigned index, bool masked) {
	trapped++;
	msix_mask(&msix, index, masked);
}

static bool pending(unsigned index) {
	trapped++;
	return msix_is_pending(&msix, index);
}

/* Harmless, without data, and known to every controller: the volatile write cache's or the arbitration's setting. */
static const struct nvme_command get_arbitration = {.opcode = NVME_GET_FEATURES, .words = {1}};
static const struct nvme_command read_first_block = {
	.opcode = NVME_READ, .namespace_id = 1, .data = {(uint64_t)0, 0}};

static struct nvme_command command_for(unsigned queue) {
	struct nvme_command command = queue == 0 ? get_arbitration : read_first_block;
	if (queue != 0) command.data[0] = (uint64_t)data;
	return command;
}

static void submit(unsigned queue) {
	struct nvme_command command = command_for(queue);
	nvme_submit(queue, &command);
}

static bool finish(unsigned queue) {
	bool came = WAIT_FOR(nvme_is_complete(queue), WAIT_MS);
	if (!check_that(came, "queue %u: no completion", queue)) return false;
	CHECK_EQUAL(nvme_take(queue), 0, "status of the command");
	return true;
}

static void fresh_vectors(void) {
	for (unsigned queue = 0; queue < NVME_QUEUES; queue++) {
		interrupt_handle(FIRST_VECTOR + queue, NULL);
		interrupt_handle(OTHER_VECTOR + queue, NULL);
		/* A message is changed behind the mask only: else it need not be heard of (PCI 3.0 §6.8.2). */
		mask(entry_of[queue], true);
		set(entry_of[queue], FIRST_VECTOR + queue);
		mask(entry_of[queue], false);
	}
	interrupts_on();
}

static void table_is_masked_and_keeps_messages(void) {
	metric("vectors", msix.count, "vectors");
	for (unsigned index = 0; index < msix.count; index++) {
		trapped++;
		REQUIRE(mmio_read32(msix_entry(&msix, index) + 12) & 1, "entry %u is not masked after power-on", index);
	}
	uint64_t last = msix_entry(&msix, msix.count - 1);
	trapped += 6;
	mmio_write64(last, 0x00000000fee01234ul);
	mmio_write32(last + 8, 0xabcd);
	CHECK_EQUAL(mmio_read32(last), 0xfee01234, "address");
	CHECK_EQUAL(mmio_read64(last + 8), 0x10000abcdul, "data and mask in one piece");
	mmio_write64(last, 0);
	mmio_write32(last + 8, 0);
}

static void controller_starts(void) {
	set(0, FIRST_VECTOR);
	mask(0, false);
	msix_enable(&msix, true);
	interrupts_on();
	REQUIRE(nvme_start(bar.address), "the controller does not become ready");
	struct nvme_command identify = {
		.opcode = NVME_IDENTIFY, .data = {(uint64_t)data, 0}, .words = {NVME_IDENTIFY_CONTROLLER}};
	nvme_submit(0, &identify);
	if (!finish(0)) return;
	CHECK_EQUAL(data[0] | data[1] << 8, pci_read16(function, PCI_VENDOR), "vendor in the identify data");
	check_that(WAIT_FOR(interrupt_count(FIRST_VECTOR) == 1, WAIT_MS), "%lu interrupts", interrupt_count(FIRST_VECTOR));
}

/* Entries 1 and 2 are enabled while entry 0 has been in use. */
static void later_vectors_work(void) {
	fresh_vectors();
	for (unsigned queue = 1; queue < NVME_QUEUES; queue++) {
		REQUIRE(nvme_create_queue(queue, entry_of[queue]), "queue %u cannot be created", queue);
		submit(queue);
		if (!finish(queue)) return;
		check_that(WAIT_FOR(interrupt_count(FIRST_VECTOR + queue) == 1, WAIT_MS), "no interrupt of queue %u", queue);
	}
	delay_us(QUIET_US);
	for (unsigned queue = 1; queue < NVME_QUEUES; queue++) {
		CHECK_EQUAL(interrupt_count(FIRST_VECTOR + queue), 1, "interrupts of a queue");
	}
}

static void masked_vector_waits(void) {
	fresh_vectors();
	for (unsigned queue = 0; queue < NVME_QUEUES; queue++) {
		unsigned entry = entry_of[queue];
		mask(entry, true);
		check_that(!pending(entry), "entry %u is pending before anything happened", entry);
		submit(queue);
		if (!finish(queue)) return;
		delay_us(QUIET_US);
		CHECK_EQUAL(interrupt_count(FIRST_VECTOR + queue), 0, "interrupts of a masked vector");
		check_that(pending(entry), "entry %u is not pending", entry);
		mask(entry, false);
		check_that(WAIT_FOR(interrupt_count(FIRST_VECTOR + queue) >= 1, WAIT_MS), "entry %u: no interrupt at unmask", entry);
		delay_us(QUIET_US);
		CHECK_EQUAL(interrupt_count(FIRST_VECTOR + queue), 1, "interrupts at unmask");
		check_that(!pending(entry), "entry %u is still pending", entry);
	}
}

static void masked_interrupts_merge(void) {
	fresh_vectors();
	mask(1, true);
	for (unsigned i = 0; i < 3; i++) {
		submit(1);
		if (!finish(1)) return;
	}
	mask(1, false);
	check_that(WAIT_FOR(interrupt_count(FIRST_VECTOR + 1) >= 1, WAIT_MS), "no interrupt at unmask");
	delay_us(QUIET_US);
	CHECK_EQUAL(interrupt_count(FIRST_VECTOR + 1), 1, "interrupts for three completions behind the mask");
}

static void function_mask_keeps_single_masks(void) {
	fresh_vectors();
	mask(2, true);
	msix_mask_function(&msix, true);
	for (unsigned queue = 0; queue < NVME_QUEUES; queue++) {
		submit(queue);
		if (!finish(queue)) return;
	}
	delay_us(QUIET_US);
	for (unsigned queue = 0; queue < NVME_QUEUES; queue++) {
		CHECK_EQUAL(interrupt_count(FIRST_VECTOR + queue), 0, "interrupts behind the function mask");
	}
	msix_mask_function(&msix, false);
	check_that(WAIT_FOR(interrupt_count(FIRST_VECTOR) == 1 && interrupt_count(FIRST_VECTOR + 1) == 1, WAIT_MS),
		"%lu and %lu interrupts after it", interrupt_count(FIRST_VECTOR), interrupt_count(FIRST_VECTOR + 1));
	CHECK_EQUAL(interrupt_count(FIRST_VECTOR + 2), 0, "interrupts of the vector with its own mask");
	mask(2, false);
	check_that(WAIT_FOR(interrupt_count(FIRST_VECTOR + 2) == 1, WAIT_MS), "no interrupt after both masks");
}

static void message_changed_behind_the_mask(void) {
	fresh_vectors();
	mask(1, true);
	submit(1);
	if (!finish(1)) return;
	set(1, OTHER_VECTOR + 1);
	mask(1, false);
	check_that(WAIT_FOR(interrupt_count(OTHER_VECTOR + 1) == 1, WAIT_MS), "no interrupt by the new message");
	CHECK_EQUAL(interrupt_count(FIRST_VECTOR + 1), 0, "interrupts by the old message");
}

static void nothing_is_lost(void) {
	fresh_vectors();
	unsigned loops = (unsigned)arg_number("loops", 200), done = 0;
	for (; done < loops && done < MOST_LOOPS; done++) {
		uint64_t sent = read_tsc();
		submit(1);
		bool came = WAIT_FOR(interrupt_count(FIRST_VECTOR + 1) > done, WAIT_MS);
		if (!check_that(came, "interrupt %u of %u is lost", done + 1, loops)) break;
		latencies[done] = (uint32_t)clock_ns(interrupt_tsc() - sent);
		if (!finish(1)) break;
	}
	CHECK_EQUAL(interrupt_count(FIRST_VECTOR + 1), done, "interrupts");
	distribution("command-to-interrupt", latencies, done, "ns");
}

static void route_changes_lose_nothing(void) {
	fresh_vectors();
	unsigned loops = (unsigned)arg_number("loops", 200) / 2;
	for (unsigned done = 0; done < loops; done++) {
		submit(2);
		/* As an operating system moves an interrupt: mask, new message, unmask, while it fires. */
		mask(2, true);
		set(2, done & 1 ? FIRST_VECTOR + 2 : OTHER_VECTOR + 2);
		mask(2, false);
		bool came = WAIT_FOR(interrupt_count(FIRST_VECTOR + 2) + interrupt_count(OTHER_VECTOR + 2) > done, WAIT_MS);
		REQUIRE(came, "interrupt %u of %u is lost", done + 1, loops);
		if (!finish(2)) return;
	}
	CHECK_EQUAL(interrupt_count(FIRST_VECTOR + 2) + interrupt_count(OTHER_VECTOR + 2), loops, "interrupts");
	check_that(interrupt_count(OTHER_VECTOR + 2) > 0, "nothing came by the second route");
}

static void disabled_falls_back_to_intx(void) {
	fresh_vectors();
	/* Moderation off, mask clear: the pin follows the completion queue. */
	if (pci_read8(function, PCI_INTERRUPT_PIN) == 0) return skip("no INTx");
	for (unsigned round = 0; round < 2; round++) {
		interrupt_handle(INTX_VECTOR, NULL);
		msix_enable(&msix, false);
		submit(0);
		bool complete = WAIT_FOR(nvme_is_complete(0), WAIT_MS);
		/* Enabled only now: the level is up, and every interrupt is followed by the next until the entry is taken. */
		intx_enable(function, INTX_VECTOR);
		check_that(complete && WAIT_FOR(interrupt_count(INTX_VECTOR) >= 1, WAIT_MS), "no INTx with MSI-X off");
		CHECK_EQUAL(nvme_take(0), 0, "status");
		delay_us(QUIET_US);
		uint64_t count = interrupt_count(INTX_VECTOR);
		delay_us(QUIET_US);
		CHECK_EQUAL(interrupt_count(INTX_VECTOR), count, "INTx after the completion was taken");
		intx_mask(function, INTX_VECTOR);
		uint64_t before = interrupt_count(FIRST_VECTOR);
		msix_enable(&msix, true);
		submit(0);
		if (!finish(0)) return;
		check_that(WAIT_FOR(interrupt_count(FIRST_VECTOR) == before + 1, WAIT_MS), "no MSI-X after it was enabled again");
	}
}

static void nothing_else_came(void) {
	CHECK_EQUAL(interrupt_count(SPURIOUS_VECTOR), 0, "spurious interrupts");
	interrupts_off();
	msix_enable(&msix, false);
	metric("trapped-accesses", trapped, "accesses");
}

void payload_main(void) {
	function = pci_device_of_args();
	if (pci_read32(function, PCI_REVISION) >> 8 != NVME_CLASS || !pci_bar(function, 0, &bar)) {
		bail_out("device %u is not an NVMe controller", function.id >> 3);
	}
	pci_command(function, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, PCI_COMMAND_INTX_DISABLE);
	if (!msix_find(function, &msix) || msix.count < NVME_QUEUES) bail_out("too few MSI-X vectors");
	static const struct test tests[] = {
		/* Enforces D46. */
		{"the table is masked after power-on and keeps messages", table_is_masked_and_keeps_messages},
		/* Enforces E49. */
		{"the controller starts, identifies and interrupts by vector 0", controller_starts},
		/* Enforces E52, P19. */
		{"vectors that are enabled later work", later_vectors_work},
		/* Enforces E50, P22. */
		{"a masked vector waits, is pending, and comes once", masked_vector_waits},
		{"interrupts behind a mask merge into one", masked_interrupts_merge},
		/* Enforces E51. */
		{"the function mask masks all and keeps single masks", function_mask_keeps_single_masks},
		{"a message changed behind the mask is the one that comes", message_changed_behind_the_mask},
		{"MSI-X loses nothing", nothing_is_lost},
		/* Enforces E58, P32. */
		{"MSI-X loses nothing while its route changes", route_changes_lose_nothing},
		/* Enforces E57, P24. */
		{"MSI-X and INTx take turns", disabled_falls_back_to_intx},
		{"nothing came that nobody sent", nothing_else_came},
	};
	RUN_TESTS(tests);
}
