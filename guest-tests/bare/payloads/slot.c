/*
 * The guest's end of native hot-plug, without an operating system: turns the first slot's power on when a card comes, has
 * the NVMe controller on it work, and turns the power off when the slot's button is pressed. cycles=N
 */
#include "../lib/nvme.h"
#include "../lib/payload.h"

#define CLASS_BRIDGE 0x0604u
#define BRIDGE_SECONDARY_BUS 0x19
#define BRIDGE_MEMORY_BASE 0x20
/* In the PCI Express capability (PCIe 6.0 §7.5.3). */
#define LINK_STATUS 0x12
#define LINK_ACTIVE 0x2000
#define SLOT_CONTROL 0x18
#define SLOT_ON 0x01c0
#define SLOT_OFF 0x07c0
#define SLOT_STATUS 0x1a
#define SLOT_BUTTON 0x0001
#define SLOT_PRESENT 0x0040
#define SLOT_EVENTS 0x011f
#define WAIT_MS 60000
/* Each look is an exit. */
#define POLL_US 1000
/* The host looks at what it holds while its guest still runs. */
#define LAST_WAIT_US 3000000

static struct pci_function port, card;
static unsigned express;
static uint64_t window;
static uint8_t data[4096] __attribute__((aligned(4096)));

static bool reads(unsigned offset, uint16_t mask, uint16_t value) {
	delay_us(POLL_US);
	return (pci_read16(port, express + offset) & mask) == value;
}

static void turn_power(uint16_t control) {
	pci_write16(port, express + SLOT_CONTROL, control);
	pci_write16(port, express + SLOT_STATUS, SLOT_EVENTS);
}

static bool controller_works(unsigned turn) {
	struct bar bar;
	if (!check_that(pci_bar(card, 0, &bar), "card %u has no BAR0", turn)) return false;
	pci_move_bar(card, &bar, window);
	pci_command(card, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE, 0);
	if (!check_that(nvme_start(window), "controller %u does not become ready", turn)) return false;
	struct nvme_command identify = {
		.opcode = NVME_IDENTIFY, .data = {(uint64_t)data, 0}, .words = {NVME_IDENTIFY_CONTROLLER}};
	memset(data, 0, sizeof data);
	if (!check_that(nvme_run(0, &identify) == 0, "controller %u does not identify", turn)) return false;
	uint16_t vendor = (uint16_t)(data[0] | data[1] << 8);
	return check_that(vendor == pci_read16(card, PCI_VENDOR), "controller %u says that its vendor is %x", turn, vendor);
}

static bool card_comes(unsigned turn) {
	bool came = WAIT_FOR(reads(SLOT_STATUS, SLOT_PRESENT, SLOT_PRESENT), WAIT_MS);
	if (!check_that(came, "card %u does not come", turn)) return false;
	turn_power(SLOT_ON);
	bool up = WAIT_FOR(reads(LINK_STATUS, LINK_ACTIVE, LINK_ACTIVE), WAIT_MS);
	return check_that(up, "card %u has no link", turn) && controller_works(turn);
}

static bool card_leaves(unsigned turn) {
	bool pressed = WAIT_FOR(reads(SLOT_STATUS, SLOT_BUTTON, SLOT_BUTTON), WAIT_MS);
	if (!check_that(pressed, "nobody wants card %u back", turn)) return false;
	pci_command(card, 0, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	turn_power(SLOT_OFF);
	bool left = WAIT_FOR(reads(SLOT_STATUS, SLOT_PRESENT, 0), WAIT_MS);
	uint32_t id = pci_read32(card, PCI_VENDOR);
	return check_that(left && id == 0xffffffff, "card %u is still there: %x", turn, id);
}

static void cards_come_and_go(void) {
	unsigned cycles = (unsigned)arg_number("cycles", 1);
	print("GUEST-WAITS\n");
	for (unsigned turn = 0; turn < cycles; turn++) {
		if (!card_comes(turn)) return;
		print("CARD-WORKS %u \n", turn);
		if (!card_leaves(turn)) return;
		print("CARD-GONE %u \n", turn);
	}
	delay_us(LAST_WAIT_US);
}

void payload_main(void) {
	unsigned device = 0;
	do port = pci_at(0, device, 0);
	while (pci_read32(port, PCI_REVISION) >> 16 != CLASS_BRIDGE && ++device < 32);
	express = device < 32 ? pci_capability(port, PCI_CAP_EXPRESS) : 0;
	if (!express) bail_out("there is no root port");
	card = pci_at(pci_read8(port, BRIDGE_SECONDARY_BUS), 0, 0);
	window = (uint64_t)(pci_read16(port, BRIDGE_MEMORY_BASE) & 0xfff0) << 16;
	pci_command(port, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
	static const struct test tests[] = {{"cards come and go", cards_come_and_go}};
	RUN_TESTS(tests);
}
