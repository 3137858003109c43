import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FakeBus } from './fake-bus.ts';
import { RTC_DATA_PORT, RTC_INDEX_PORT, Rtc } from './rtc.ts';
import { RTC, STATUS_B, timeFromRegisters, timeToRegisters } from './rtc-time.ts';

class Guest {
  readonly bus = new FakeBus();
  now = Date.UTC(2031, 11, 28, 23, 59, 58, 250);
  readonly rtc = new Rtc(() => this.now);

  constructor() {
    this.rtc.attach(this.bus);
  }

  read(register: number): number {
    this.bus.out(RTC_INDEX_PORT, register);
    return this.bus.in(RTC_DATA_PORT);
  }

  write(register: number, value: number): void {
    this.bus.out(RTC_INDEX_PORT, register);
    this.bus.out(RTC_DATA_PORT, value);
  }

  get time(): number[] {
    return [RTC.century, RTC.year, RTC.month, RTC.day, RTC.hours, RTC.minutes, RTC.seconds].map((r) => this.read(r));
  }
}

test('shows UTC in BCD and 24 hours, and says that it is valid', () => {
  const guest = new Guest();
  expect(guest.time).toEqual([0x20, 0x31, 0x12, 0x28, 0x23, 0x59, 0x58]);
  expect(guest.read(RTC.weekday)).toBe(1);
  expect(guest.read(RTC.statusB)).toBe(STATUS_B.hours24);
  expect(guest.read(RTC.statusC)).toBe(0);
  expect(guest.read(RTC.statusD)).toBe(0x80);
  guest.now += 2000;
  expect(guest.time).toEqual([0x20, 0x31, 0x12, 0x29, 0x00, 0x00, 0x00]);
});

test('shows binary and 12 hours when asked', () => {
  const guest = new Guest();
  guest.write(RTC.statusB, STATUS_B.binary);
  expect(guest.time).toEqual([20, 31, 12, 28, 11 | 0x80, 59, 58]);
});

test('warns of an update just before it happens', () => {
  const guest = new Guest();
  expect(guest.read(RTC.statusA)).toBe(0x26);
  guest.now = guest.now - (guest.now % 1000) + 999;
  expect(guest.read(RTC.statusA)).toBe(0xa6);
});

test('the guest sets the clock, and it runs on from there', () => {
  const guest = new Guest();
  guest.write(RTC.statusB, STATUS_B.hours24 | STATUS_B.set);
  guest.now += 5000;
  expect(guest.read(RTC.seconds)).toBe(0x58);
  const parts = [0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59];
  const registers = [RTC.century, RTC.year, RTC.month, RTC.day, RTC.hours, RTC.minutes, RTC.seconds];
  for (const [i, register] of registers.entries()) guest.write(register, parts[i]!);
  guest.write(RTC.statusB, STATUS_B.hours24);
  expect(guest.time).toEqual(parts);
  guest.now += 1000;
  expect(guest.time).toEqual([0x20, 0, 1, 1, 0, 0, 0]);
  guest.rtc.reset();
  expect(guest.read(RTC.century)).toBe(0x20);
});

test('memory keeps bytes; the NMI bit is no part of the index; the index port reads back', () => {
  const guest = new Guest();
  guest.write(0x0f | 0x80, 0xa5);
  guest.rtc.reset();
  expect(guest.read(0x0f)).toBe(0xa5);
  guest.write(RTC.statusD, 0);
  expect(guest.read(RTC.statusD)).toBe(0x80);
  expect(guest.bus.in(RTC_INDEX_PORT)).toBe(RTC.statusD);
});

test('every time comes back from the registers, in each of the four formats', () => {
  const seconds = fc.integer({ min: Date.UTC(1900, 0) / 1000, max: Date.UTC(2099, 11, 31) / 1000 });
  fc.assert(
    fc.property(seconds, fc.constantFrom(0, 2, 4, 6), (time, status) => {
      const registers = new Uint8Array(128);
      registers[RTC.statusB] = status;
      timeToRegisters(time * 1000, registers);
      return timeFromRegisters(registers) === time * 1000;
    }),
  );
});

test('whatever a guest writes, reads are bytes', () => {
  const write = fc.tuple(fc.nat(255), fc.nat(255));
  fc.assert(
    fc.property(fc.array(write, { maxLength: 40 }), (writes) => {
      const guest = new Guest();
      for (const [register, value] of writes) guest.write(register, value);
      for (let register = 0; register < 256; register++) {
        const value = guest.read(register);
        if (!(value >= 0 && value <= 255)) return false;
      }
      return true;
    }),
  );
});
