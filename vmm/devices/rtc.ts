/**
 * The MC146818 real-time clock with its CMOS memory, on the host's UTC clock. Time, calendar and the status registers
 * work; alarm, periodic and update interrupts are not raised.
 */
import type { Device, DeviceBus } from './device.ts';
import { RTC, STATUS_A, STATUS_B, STATUS_D, timeFromRegisters, timeToRegisters } from './rtc-time.ts';

export const RTC_INDEX_PORT = 0x70;
export const RTC_DATA_PORT = 0x71;

const CMOS_BYTES = 128;
/** Bit 7 of the index port holds off NMIs, of which there are none. */
const INDEX_MASK = 0x7f;

export class Rtc implements Device {
  readonly #now: () => number;
  readonly #cmos = new Uint8Array(CMOS_BYTES);
  /** Written by the guest, which is asked for it only when it comes for data. */
  #index: Uint8Array = new Uint8Array(1);
  /** Guest time minus host time, milliseconds: what the guest has set survives reboots, as behind a battery. */
  #offsetMs = 0;

  /** @param now Unix time in milliseconds; a test may bring its own */
  constructor(now: () => number = Date.now) {
    this.#now = now;
    this.reset();
  }

  attach(bus: DeviceBus): void {
    this.#index = bus.ports.allocateShared(1);
    bus.ports.add(RTC_INDEX_PORT, 1, { kind: 'latch', name: 'rtc', bytes: this.#index });
    bus.ports.add(RTC_DATA_PORT, 1, {
      kind: 'call',
      name: 'rtc',
      handler: {
        read: () => this.#read(this.#register),
        write: (_offset, _width, value) => this.#write(this.#register, value & 0xff),
      },
    });
    this.reset();
  }

  /** Memory keeps what it holds; the interrupt enables go off, as the reset pin does. */
  reset(): void {
    this.#index[0] = 0;
    this.#cmos[RTC.statusA] = STATUS_A.divider32768 | STATUS_A.rate1024;
    this.#cmos[RTC.statusB] = STATUS_B.hours24;
    this.#cmos[RTC.statusC] = 0;
    this.#cmos[RTC.statusD] = STATUS_D.valid;
  }

  get #register(): number {
    return this.#index[0]! & INDEX_MASK;
  }

  #read(register: number): number {
    if (register === RTC.statusA) {
      return this.#cmos[register]! | (this.#updateIsNear ? STATUS_A.updateInProgress : 0);
    }
    if (timeRegisters.has(register) && !this.#isSet) this.#loadTime();
    return this.#cmos[register]!;
  }

  #write(register: number, value: number): void {
    switch (register) {
      case RTC.statusA:
        this.#cmos[register] = value & ~STATUS_A.updateInProgress;
        return;
      case RTC.statusB:
        this.#writeStatusB(value);
        return;
      case RTC.statusC:
      case RTC.statusD:
        return;
    }
    if (!timeRegisters.has(register)) {
      this.#cmos[register] = value;
      return;
    }
    if (!this.#isSet) this.#loadTime();
    this.#cmos[register] = value;
    if (!this.#isSet) this.#storeTime();
  }

  /** While the SET bit is on, the time registers stand still and may be written one by one. */
  get #isSet(): boolean {
    return (this.#cmos[RTC.statusB]! & STATUS_B.set) !== 0;
  }

  get #updateIsNear(): boolean {
    return !this.#isSet && this.#now() % 1000 === 999;
  }

  #writeStatusB(value: number): void {
    const wasSet = this.#isSet;
    if (!wasSet) this.#loadTime();
    const formatChanged = ((value ^ this.#cmos[RTC.statusB]!) & (STATUS_B.hours24 | STATUS_B.binary)) !== 0;
    this.#cmos[RTC.statusB] = value;
    if (wasSet && !this.#isSet) this.#storeTime();
    // The running clock is shown in the new format; what the guest put there while the clock stood is its own affair.
    else if (!wasSet && formatChanged) this.#loadTime();
  }

  #loadTime(): void {
    timeToRegisters(this.#now() + this.#offsetMs, this.#cmos);
  }

  /** What makes no date is kept in the registers, but does not move the clock. */
  #storeTime(): void {
    const time = timeFromRegisters(this.#cmos);
    if (time === undefined) return;
    const now = this.#now();
    this.#offsetMs = time - (now - (now % 1000));
  }
}

const timeRegisters: ReadonlySet<number> = new Set([
  RTC.seconds,
  RTC.minutes,
  RTC.hours,
  RTC.weekday,
  RTC.day,
  RTC.month,
  RTC.year,
  RTC.century,
]);
