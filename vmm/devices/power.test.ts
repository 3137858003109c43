import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  PM1_POWER_BUTTON,
  PM1_SCI_ENABLE,
  PM1_SLEEP_ENABLE,
  PM1_SLEEP_TYPE_SHIFT,
  PM1A_CONTROL_PORT,
  PM1A_ENABLE_PORT,
  PM1A_STATUS_PORT,
  RESET_PORT,
  RESET_VALUE,
  SCI_GSI,
  SLEEP_TYPE_S5,
} from '../acpi/ports.ts';
import { FakeBus } from './fake-bus.ts';
import { Power } from './power.ts';

function board() {
  const bus = new FakeBus();
  const events: string[] = [];
  const power = new Power({ onPowerOff: () => events.push('off'), onReset: (source) => events.push(source) });
  power.attach(bus);
  return { bus, events, power };
}

const S5 = SLEEP_TYPE_S5 << PM1_SLEEP_TYPE_SHIFT;

test('the power button raises the SCI until the guest clears its status', () => {
  const { bus, power } = board();
  bus.out(PM1A_ENABLE_PORT, PM1_POWER_BUTTON, 2);
  power.pressPowerButton();
  expect(bus.irqs.get(SCI_GSI)).toBe(true);
  expect(bus.in(PM1A_STATUS_PORT, 2)).toBe(PM1_POWER_BUTTON);
  bus.out(PM1A_STATUS_PORT, 0xfeff, 2);
  expect(bus.irqs.get(SCI_GSI)).toBe(true);
  bus.out(PM1A_STATUS_PORT, PM1_POWER_BUTTON, 2);
  expect(bus.irqs.get(SCI_GSI)).toBe(false);
  expect(bus.in(PM1A_STATUS_PORT, 2)).toBe(0);
});

test('a button pressed before ACPI is up is told when it is', () => {
  const { bus, power } = board();
  power.pressPowerButton();
  expect(bus.irqChanges).toEqual([]);
  bus.out(PM1A_ENABLE_PORT + 1, PM1_POWER_BUTTON >> 8);
  expect(bus.irqChanges).toEqual(['9+']);
});

test("ACPICA's enable bits read back, and ACPI mode is always on", () => {
  const { bus } = board();
  bus.out(PM1A_ENABLE_PORT, 0xffff, 2);
  expect(bus.in(PM1A_ENABLE_PORT, 2)).toBe(0x0721);
  bus.out(PM1A_CONTROL_PORT, 0, 2);
  expect(bus.in(PM1A_CONTROL_PORT, 2)).toBe(PM1_SCI_ENABLE);
});

test('S5 powers off, once the enable bit is written; other sleep types do nothing', () => {
  const { bus, events } = board();
  for (let type = 0; type < 8; type++) {
    if (type === SLEEP_TYPE_S5) continue;
    bus.out(PM1A_CONTROL_PORT, (type << PM1_SLEEP_TYPE_SHIFT) | PM1_SLEEP_ENABLE, 2);
  }
  bus.out(PM1A_CONTROL_PORT, S5, 2);
  expect(events).toEqual([]);
  bus.out(PM1A_CONTROL_PORT, S5 | PM1_SLEEP_ENABLE, 2);
  expect(events).toEqual(['off']);
  expect(bus.in(PM1A_CONTROL_PORT, 2)).toBe(S5 | PM1_SCI_ENABLE);
});

test('S5 by single bytes', () => {
  const { bus, events } = board();
  bus.out(PM1A_CONTROL_PORT + 1, (S5 | PM1_SLEEP_ENABLE) >> 8);
  expect(events).toEqual(['off']);
});

test.each([
  ["the FADT's value", [RESET_VALUE]],
  ["Linux's reboot=pci", [0x02, 0x06]],
  ['a soft reset', [0x00, 0x04]],
])('%s resets once', (_name, values) => {
  const { bus, events } = board();
  for (const value of values) bus.out(RESET_PORT, value);
  expect(events).toEqual(['cf9']);
});

test('the reset register resets on the rising edge only, and starts low after a reset', () => {
  const { bus, events, power } = board();
  bus.out(RESET_PORT, 0x02);
  bus.out(RESET_PORT, 0x0a);
  expect(events).toEqual([]);
  bus.out(RESET_PORT, 0x06);
  bus.out(RESET_PORT, 0x0e);
  expect(events).toEqual(['cf9']);
  expect(bus.in(RESET_PORT)).toBe(0x0e);
  power.reset();
  bus.out(RESET_PORT, 0x06);
  expect(events).toEqual(['cf9', 'cf9']);
});

test('random writes keep the line equal to status and enable', () => {
  const write = fc.tuple(fc.integer({ min: 0x600, max: 0x605 }), fc.constantFrom(1, 2, 4), fc.nat(0xffff_ffff));
  fc.assert(
    fc.property(fc.array(fc.oneof(write, fc.constant('press' as const)), { maxLength: 40 }), (steps) => {
      const { bus, power } = board();
      for (const step of steps) {
        if (step === 'press') power.pressPowerButton();
        else bus.out(step[0], step[2], step[1]);
      }
      const pending = (bus.in(PM1A_STATUS_PORT, 2) & bus.in(PM1A_ENABLE_PORT, 2)) !== 0;
      return (bus.irqs.get(SCI_GSI) ?? false) === pending;
    }),
  );
});
