/** ACPI's fixed hardware: power button, soft off, and the reset register. ACPI 6.5 §4.8.3. */
import {
  PM1_POWER_BUTTON,
  PM1_SCI_ENABLE,
  PM1_SLEEP_ENABLE,
  PM1_SLEEP_TYPE_SHIFT,
  PM1A_CONTROL_PORT,
  PM1A_CONTROL_SIZE,
  PM1A_EVENT_PORT,
  PM1A_EVENT_SIZE,
  RESET_PORT,
  SCI_GSI,
  SLEEP_TYPE_S5,
} from '../acpi/ports.ts';
import { readLe, writeLe } from '../base/bits.ts';
import type { Device, DeviceBus } from './device.ts';

/** Enable bits that exist: timer, global lock, power and sleep button, RTC. ACPICA reads back what it enabled. */
const ENABLE_MASK = 0x0721;
const SLEEP_TYPE_MASK = 7 << PM1_SLEEP_TYPE_SHIFT;
/** Bus-master reload is a plain bit here. */
const CONTROL_MASK: number = SLEEP_TYPE_MASK | 0x0002;

/** Reset control register (Intel ICH data sheets, "RST_CNT"): the rising edge of the CPU bit resets. */
const RESET_CPU = 0x04;
const RESET_STORED = 0x0e;

export interface PowerOptions {
  /** The guest switched itself off (S5). */
  readonly onPowerOff: () => void;
  /** The guest wrote a reset to port 0xcf9. */
  readonly onReset: (source: 'cf9') => void;
}

export class Power implements Device {
  readonly #options: PowerOptions;
  #bus: DeviceBus | undefined;
  /** Status, then enable. */
  #event: Uint8Array = new Uint8Array(PM1A_EVENT_SIZE);
  #control: Uint8Array = new Uint8Array(PM1A_CONTROL_SIZE);
  #resetControl: Uint8Array = new Uint8Array(1);
  #irqLevel = false;

  constructor(options: PowerOptions) {
    this.#options = options;
  }

  attach(bus: DeviceBus): void {
    this.#bus = bus;
    this.#irqLevel = false;
    this.#event = bus.ports.allocateShared(PM1A_EVENT_SIZE);
    this.#control = bus.ports.allocateShared(PM1A_CONTROL_SIZE);
    this.#resetControl = bus.ports.allocateShared(1);
    this.reset();
    this.#claim(bus, PM1A_EVENT_PORT, this.#event, (offset, width, value) => this.#writeEvent(offset, width, value));
    this.#claim(bus, PM1A_CONTROL_PORT, this.#control, (offset, width, value) =>
      this.#writeControl(offset, width, value),
    );
    this.#claim(bus, RESET_PORT, this.#resetControl, (_offset, _width, value) => this.#writeReset(value & 0xff));
  }

  reset(): void {
    this.#event.fill(0);
    writeLe(this.#control, 0, 2, PM1_SCI_ENABLE);
    this.#resetControl.fill(0);
    this.#updateIrq();
  }

  /** Sets the power button's status; a guest that has ACPI running gets its SCI. */
  pressPowerButton(): void {
    writeLe(this.#event, 0, 2, readLe(this.#event, 0, 2) | PM1_POWER_BUTTON);
    this.#updateIrq();
  }

  #claim(
    bus: DeviceBus,
    port: number,
    bytes: Uint8Array,
    write: (offset: number, width: number, value: number) => void,
  ): void {
    const read = (offset: number, width: number): number => readLe(bytes, offset, width);
    bus.ports.add(port, bytes.length, { kind: 'shared', name: 'power', bytes, handler: { read, write } });
  }

  #writeEvent(offset: number, width: number, value: number): void {
    for (let i = 0; i < width && offset + i < PM1A_EVENT_SIZE; i++) {
      const at = offset + i;
      const byte = (value >>> (8 * i)) & 0xff;
      // The status half clears where ones are written; the enable half stores.
      this.#event[at] = at < 2 ? this.#event[at]! & ~byte : byte & (ENABLE_MASK >> (8 * (at - 2)));
    }
    this.#updateIrq();
  }

  #writeControl(offset: number, width: number, value: number): void {
    const merged = Uint8Array.from(this.#control);
    for (let i = 0; i < width && offset + i < PM1A_CONTROL_SIZE; i++) merged[offset + i] = value >>> (8 * i);
    const written = readLe(merged, 0, 2);
    writeLe(this.#control, 0, 2, (written & CONTROL_MASK) | PM1_SCI_ENABLE);
    const sleepType = (written & SLEEP_TYPE_MASK) >> PM1_SLEEP_TYPE_SHIFT;
    // The DSDT offers no other sleep state, so another number means nothing.
    if (written & PM1_SLEEP_ENABLE && sleepType === SLEEP_TYPE_S5) this.#options.onPowerOff();
  }

  #writeReset(value: number): void {
    const rises = (value & ~this.#resetControl[0]! & RESET_CPU) !== 0;
    this.#resetControl[0] = value & RESET_STORED;
    if (rises) this.#options.onReset('cf9');
  }

  #updateIrq(): void {
    const pending = (readLe(this.#event, 0, 2) & readLe(this.#event, 2, 2)) !== 0;
    if (pending === this.#irqLevel) return;
    this.#irqLevel = pending;
    this.#bus?.setIrq(SCI_GSI, pending);
  }
}
