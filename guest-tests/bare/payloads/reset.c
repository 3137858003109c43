/* Ends the power cycle in the way that `how` names, after one line for whoever counts boots. */
#include "../lib/payload.h"

/* As the FADT gives them. */
#define RESET_PORT_FIELD 120
#define RESET_VALUE_FIELD 128
#define PM1A_CONTROL_FIELD 64
#define SLEEP_TYPE_S5 (5u << 10)
#define SLEEP_ENABLE (1u << 13)

static void triple_fault(void) {
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) nothing = {0, 0};
	__asm__ volatile("lidt %0; ud2" : : "m"(nothing));
}

void payload_main(void) {
	print("# boot\n");
	const struct acpi_table *fadt = acpi_table("FACP");
	const char *how = arg_text("how", "");
	if (text_equal(how, "triple-fault")) triple_fault();
	if (text_equal(how, "keyboard-controller")) out8(0x64, 0xfe);
	if (text_equal(how, "reset-register")) {
		out8((uint16_t)acpi_field(fadt, RESET_PORT_FIELD, 8), (uint8_t)acpi_field(fadt, RESET_VALUE_FIELD, 1));
	}
	if (text_equal(how, "power-off")) {
		out16((uint16_t)acpi_field(fadt, PM1A_CONTROL_FIELD, 4), SLEEP_TYPE_S5 | SLEEP_ENABLE);
	}
	bail_out("still here after %s", how);
}
