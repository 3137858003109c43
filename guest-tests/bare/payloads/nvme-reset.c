/*
 * Function-level resets of an NVMe controller at work: one processor gives it commands, resets it while they are under way
 * and starts it again; the others load from its registers all the time, mapped or not. device=N, cpus=N, resets=N
 */
#include "../lib/nvme.h"
#include "../lib/payload.h"
#include "../lib/smp.h"

#define VECTOR 0x60
#define NVME_VERSION 0x08
#define DEVICE_CAPABILITIES 4
#define EXPRESS_FLR 0x10000000u
#define DEVICE_CONTROL 8
#define DEVICE_CONTROL_FLR 0x8000u
#define WAIT_MS 10000
#define LIMIT_MS 240000
/* As many as the queue takes. */
#define READS (NVME_QUEUE_ENTRIES - 1)
#define MOST_HEAD_START_US 400
#define QUIET_US 1000
#define UNTOUCHED 0xa5
#define MOST_RESETS 1024

static struct pci_function function;
static struct bar bar;
static struct msix msix;
static unsigned express;
static uint64_t registers;
static uint8_t identity[4096] __attribute__((aligned(4096)));
static uint8_t data[4096] __attribute__((aligned(4096)));
static uint32_t first_identity[1024];
static uint32_t durations[MOST_RESETS];
static volatile bool is_over;
static volatile uint64_t loads[SMP_MOST], loads_of_ones[SMP_MOST];

static void prepare_interrupts(void) {
	for (unsigned entry = 0; entry < 2; entry++) {
		interrupt_handle(VECTOR + entry, NULL);
		msix_set(&msix, entry, VECTOR + entry);
		msix_mask(&msix, entry, false);
	}
	msix_enable(&msix, true);
	interrupts_on();
}

/* From a controller as after power-on to one that says who it is, by one interrupt. */
static bool start_and_identify(unsigned turn) {
	pci_command(function, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE, 0);
	prepare_interrupts();
	if (!check_that(nvme_start(bar.address), "reset %u: the controller does not become ready", turn)) return false;
	memset(identity, 0, sizeof identity);
	struct nvme_command identify = {
		.opcode = NVME_IDENTIFY, .data = {(uint64_t)identity, 0}, .words = {NVME_IDENTIFY_CONTROLLER}};
	if (!check_that(nvme_run(0, &identify) == 0, "reset %u: no identification", turn)) return false;
	bool came = WAIT_FOR(interrupt_count(VECTOR) >= 1, WAIT_MS);
	return check_that(came, "reset %u: the interrupt is lost", turn);
}

static bool reset_under_work(unsigned turn) {
	if (!check_that(nvme_create_queue(1, 1), "reset %u: no queue", turn)) return false;
	memset(data, 0, sizeof data);
	struct nvme_command read = {.opcode = NVME_READ, .namespace_id = 1, .data = {(uint64_t)data, 0}};
	for (unsigned i = 0; i < READS; i++) nvme_submit(1, &read);
	delay_us(turn * 37 % MOST_HEAD_START_US);
	uint16_t control = pci_read16(function, express + DEVICE_CONTROL);
	uint64_t start = read_tsc();
	pci_write16(function, express + DEVICE_CONTROL, control | DEVICE_CONTROL_FLR);
	durations[turn] = (uint32_t)(clock_ns(read_tsc() - start) / 1000);
	uint16_t command = pci_read16(function, PCI_COMMAND);
	if (!check_that((command & 0x407) == 0, "reset %u: command is %x after it", turn, command)) return false;
	/* Whatever was under way is over. */
	memset(data, UNTOUCHED, sizeof data);
	delay_us(QUIET_US);
	for (unsigned i = 0; i < sizeof data; i++) {
		if (!check_that(data[i] == UNTOUCHED, "reset %u: DMA came after it", turn)) return false;
	}
	return check_that(pci_bar_address(function, &bar) == bar.address, "reset %u: the BAR has moved", turn);
}

static void reset_often(void) {
	unsigned resets = (unsigned)arg_number("resets", 1), turn = 0;
	if (resets > MOST_RESETS) bail_out("at most %u resets", MOST_RESETS);
	if (!start_and_identify(0)) return;
	memcpy(first_identity, identity, sizeof first_identity);
	while (turn < resets) {
		if (!reset_under_work(turn) || !start_and_identify(++turn)) return;
		bool same = memcmp(first_identity, identity, sizeof first_identity) == 0;
		if (!check_that(same, "reset %u: it is another controller", turn)) return;
		/* Says that it lives. */
		if (turn % 10 == 0) print("# %u\n", turn);
	}
	metric("resets", turn, "resets");
	distribution("reset", durations, turn, "us");
}

static void work(unsigned index) {
	if (index == 0) {
		reset_often();
		is_over = true;
	}
	while (!is_over) {
		loads[index]++;
		if (mmio_read32(registers + NVME_VERSION) == 0xffffffff) loads_of_ones[index]++;
	}
}

static void resets_under_load_are_survived(void) {
	unsigned cpus = (unsigned)arg_number("cpus", 1);
	check_that(smp_run(cpus, work, LIMIT_MS), "not all processors came to their end");
	uint64_t all = 0, ones = 0;
	for (unsigned i = 0; i < SMP_MOST; i++) all += loads[i], ones += loads_of_ones[i];
	check_that(cpus == 1 || all > 0, "nobody accessed it");
	metric("loads", all, "loads");
	metric("loads-of-ones", ones, "loads");
}

static void controller_is_what_it_was(void) {
	uint32_t version = mmio_read32(registers + NVME_VERSION);
	check_that(version != 0 && version != 0xffffffff, "version %x", version);
	CHECK_EQUAL(interrupt_count(SPURIOUS_VECTOR), 0, "spurious interrupts");
	interrupts_off();
	msix_enable(&msix, false);
	pci_command(function, 0, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

void payload_main(void) {
	function = pci_device_of_args();
	if (pci_read32(function, PCI_REVISION) >> 8 != NVME_CLASS || !pci_bar(function, 0, &bar)) {
		bail_out("device %u is not an NVMe controller", function.id >> 3);
	}
	express = pci_capability(function, PCI_CAP_EXPRESS);
	if (!express || !(pci_read32(function, express + DEVICE_CAPABILITIES) & EXPRESS_FLR)) bail_out("no function-level reset");
	if (!msix_find(function, &msix) || msix.count < 2) bail_out("too few MSI-X vectors");
	/* Mapped before processors share the page tables. */
	registers = map_memory(bar.address, 0x4000, MEMORY_UNCACHED);
	static const struct test tests[] = {
		/* Enforces D44. */
		{"resets under commands and accesses are survived", resets_under_load_are_survived},
		{"the controller is what it was", controller_is_what_it_was},
	};
	RUN_TESTS(tests);
}
