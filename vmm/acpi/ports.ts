/** The fixed hardware of ACPI as the FADT describes it. The tables and the power device share these numbers. */

/** PM1a event block: a 16-bit status register (write 1 to clear), then a 16-bit enable register. ACPI 6.5 §4.8.3.1. */
export const PM1A_EVENT_PORT = 0x600;
export const PM1A_STATUS_PORT: number = PM1A_EVENT_PORT;
export const PM1A_ENABLE_PORT: number = PM1A_EVENT_PORT + 2;
/** Bytes of the event block. */
export const PM1A_EVENT_SIZE = 4;
/** PM1a control register, 16 bits. ACPI 6.5 §4.8.3.2.1. */
export const PM1A_CONTROL_PORT = 0x604;
export const PM1A_CONTROL_SIZE = 2;

/** PM1 status and enable: the power button was pressed. */
export const PM1_POWER_BUTTON: number = 1 << 8;
/** PM1 control: ACPI mode is on. There is no SMI command, so this bit always reads as 1. */
export const PM1_SCI_ENABLE: number = 1 << 0;
/** PM1 control: place of the three SLP_TYP bits. */
export const PM1_SLEEP_TYPE_SHIFT = 10;
/** PM1 control: write-only; enters the sleep state that SLP_TYP names. */
export const PM1_SLEEP_ENABLE: number = 1 << 13;
/** SLP_TYP of S5 (soft off), as `\_S5` in the DSDT says. The only sleep state. */
export const SLEEP_TYPE_S5 = 5;

/** The SCI: level-triggered, active high. */
export const SCI_GSI = 9;

/** Reset control register, and the value that the FADT tells the guest to write there. */
export const RESET_PORT = 0xcf9;
export const RESET_VALUE = 0x06;
