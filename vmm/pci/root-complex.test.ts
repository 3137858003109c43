import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GIB, MIB } from '../base/bits.ts';
import { contains } from '../base/ranges.ts';
import { BRIDGE } from './bridge-windows.ts';
import type { ConfigStore } from './config-window.ts';
import { EXP, LINK_ACTIVE, LINK_DISABLE, SLOT_CONTROL, SLOT_STATUS } from './hot-plug-slot.ts';
import { PlainFunction, PORT_EXPRESS, TestHierarchy } from './test-hierarchy.test-util.ts';
import { numberFunctions } from './topology.ts';

const NIC = [{ index: 0, sizeBytes: 0x2_0000, kind: 'memory', is64: false, prefetchable: false }] as const;
const GPU = [
  { index: 0, sizeBytes: 16 * MIB, kind: 'memory', is64: false, prefetchable: false },
  { index: 1, sizeBytes: 8 * GIB, kind: 'memory', is64: true, prefetchable: true },
  { index: 3, sizeBytes: 0x80, kind: 'port', is64: false, prefetchable: false },
] as const;
const { PRESENT, PRESENCE_CHANGED, LINK_CHANGED, BUTTON, COMMAND_COMPLETED, POWER_FAULT } = SLOT_STATUS;

/** A spare port at 00:01.0, and a card that is not plugged in yet. */
function spare() {
  let card: PlainFunction | undefined;
  const guest = new TestHierarchy((store) => {
    card = new PlainFunction(store, 'card', NIC);
    return [{ port: 'p', functions: [] }];
  });
  return { guest, card: card!, functions: [{ fn: card!, number: 0 }] };
}

/** A port at 00:01.0 with a card in it from the start. */
function occupied(bars: PlainFunction['bars'] = NIC) {
  let card: PlainFunction | undefined;
  const guest = new TestHierarchy((store) => {
    card = new PlainFunction(store, 'card', bars);
    return [{ port: 'p', functions: [{ fn: card, number: 0 }] }];
  });
  return { guest, card: card! };
}

describe('a spare port', () => {
  test('is a bridge with an empty, unpowered slot that can do hot-plug', () => {
    const { guest } = spare();
    expect(guest.read(0, 1, 0x0e, 1)).toBe(1);
    expect(guest.read(0, 1, 0x0a, 2)).toBe(0x0604);
    expect(guest.read(0, 1, PORT_EXPRESS + EXP.FLAGS, 2) & 0x1f0).toBe(0x140);
    expect(guest.read(0, 1, PORT_EXPRESS + EXP.SLOT_CAPABILITIES, 4) & 0x7f).toBe(0x5b);
    expect(guest.slotStatus(1)).toBe(0);
    expect(guest.slotControl(1) & SLOT_CONTROL.POWER_OFF).not.toBe(0);
    expect(guest.linkStatus(1) & LINK_ACTIVE).toBe(0);
    expect(guest.read(1, 0, 0, 4)).toBe(0xffff_ffff);
    expect(guest.layout.ecam.size).toBe(2 * MIB);
  });

  test('to a guest that does not listen to the link the button is pressed', () => {
    const { guest, functions } = spare();
    guest.listen(1);
    guest.command(1, guest.slotControl(1) & ~SLOT_CONTROL.LINK_STATE);
    guest.clear(1, COMMAND_COMPLETED);
    guest.pci.plug('p', functions);
    expect(guest.slotStatus(1)).toBe(PRESENT | PRESENCE_CHANGED | BUTTON);
  });

  test('a card that comes is told by an interrupt; the guest powers the slot and has it', () => {
    const { guest, card, functions } = spare();
    guest.listen(1);
    guest.pci.plug('p', functions);
    expect(guest.slotStatus(1)).toBe(PRESENT | PRESENCE_CHANGED | LINK_CHANGED);
    expect(guest.interrupts()).toEqual([0x41]);
    expect(card.calls).toEqual([]);
    guest.clear(1, PRESENCE_CHANGED | LINK_CHANGED);
    guest.power(1, true);
    expect(card.calls).toEqual(['on']);
    expect(card.services).toMatchObject({ address: { bus: 1, device: 0, function: 0 }, intxPin: 1, isReset: true });
    // Nobody but the guest gives it addresses.
    expect(card.placed.get(0)).toBe(0);
    expect(guest.linkStatus(1) & LINK_ACTIVE).not.toBe(0);
    expect(guest.slotStatus(1)).toBe(PRESENT | LINK_CHANGED);
    expect(guest.read(1, 0, 0, 4)).toBe(0x5678_1234);
  });

  test('every write to slot control completes, byte-wise ones too; one to slot status alone does not count', () => {
    const { guest } = spare();
    const control = PORT_EXPRESS + EXP.SLOT_CONTROL;
    for (const [offset, width] of [
      [control, 1],
      [control + 1, 1],
      [control, 2],
      [control, 4],
    ] as const) {
      guest.clear(1, 0xffff);
      expect(guest.slotStatus(1)).toBe(0);
      guest.write(0, 1, offset, width, 0);
      expect(guest.slotStatus(1)).toBe(COMMAND_COMPLETED);
    }
  });

  test('a second plug into the same port is refused', () => {
    const { guest, functions } = spare();
    guest.pci.plug('p', functions);
    expect(() => guest.pci.plug('p', functions)).toThrow(expect.objectContaining({ code: 'PORT_UNAVAILABLE' }));
    expect(() => guest.pci.plug('q', functions)).toThrow(/no port q/);
  });

  test('a card that cannot be powered on is a power fault, tried again after the guest turns the power off and on', () => {
    const { guest, card, functions } = spare();
    guest.listen(1);
    guest.pci.plug('p', functions);
    card.failsToPowerOn = true;
    guest.power(1, true);
    expect(guest.slotStatus(1) & POWER_FAULT).not.toBe(0);
    expect(guest.linkStatus(1) & LINK_ACTIVE).toBe(0);
    expect(guest.read(1, 0, 0, 4)).toBe(0xffff_ffff);
    expect(guest.warnings.join()).toContain('card is broken');
    card.failsToPowerOn = false;
    guest.command(1, guest.slotControl(1));
    expect(card.services).toBeUndefined();
    guest.power(1, false);
    guest.power(1, true);
    expect(card.services).toBeDefined();
  });
});

describe('letting go', () => {
  test('the button is an event; once power and indicator are off the card is out of reach and the owner hears of it', () => {
    const { guest, card } = occupied();
    guest.listen(1);
    guest.pci.pressButton('p');
    expect(guest.slotStatus(1) & BUTTON).not.toBe(0);
    expect(guest.interrupts()).toHaveLength(1);
    const kept = guest.slotControl(1) & ~SLOT_CONTROL.POWER_INDICATOR;
    guest.command(1, kept | SLOT_CONTROL.POWER_OFF | SLOT_CONTROL.POWER_INDICATOR_ON);
    expect(card.calls).toEqual(['on', 'off']);
    expect(guest.turnedOff).toEqual([]);
    guest.command(1, kept | SLOT_CONTROL.POWER_OFF | SLOT_CONTROL.POWER_INDICATOR_OFF);
    expect(guest.turnedOff).toEqual(['p']);
    expect(guest.pci.isInUse('p')).toBe(false);
    expect(guest.read(1, 0, 0, 4)).toBe(0xffff_ffff);
    guest.pci.unplug('p');
    expect(guest.slotStatus(1) & PRESENT).toBe(0);
  });

  test('a removal that is announced leaves the card in reach until the power is off', () => {
    const { guest, card } = occupied();
    guest.listen(1);
    guest.pci.announceRemoval('p');
    expect(guest.slotStatus(1) & (PRESENT | PRESENCE_CHANGED | LINK_CHANGED)).toBe(PRESENCE_CHANGED | LINK_CHANGED);
    expect(guest.linkStatus(1) & LINK_ACTIVE).toBe(0);
    expect(guest.read(1, 0, 0, 4)).toBe(0x5678_1234);
    expect(guest.pci.isInUse('p')).toBe(true);
    guest.power(1, false);
    expect(card.calls).toEqual(['on', 'off']);
    expect(guest.turnedOff).toEqual(['p']);
  });

  test('a card taken away by force is off before the guest hears of it', () => {
    const { guest, card } = occupied();
    guest.listen(1);
    guest.pci.unplug('p');
    expect(card.calls).toEqual(['on', 'off']);
    expect(guest.read(1, 0, 0, 4)).toBe(0xffff_ffff);
    expect(guest.interrupts()).toHaveLength(1);
  });

  test('functions on the root bus can be revoked, and only those', () => {
    let both: PlainFunction[] = [];
    const guest = new TestHierarchy((store) => {
      both = [new PlainFunction(store, 'a'), new PlainFunction(store, 'b')];
      return both.map((fn) => ({ port: undefined, functions: [{ fn, number: 0 }] }));
    });
    guest.pci.revoke([both[0]!]);
    expect(both.map(({ calls }) => calls)).toEqual([['on', 'off'], ['on']]);
    expect([1, 2].map((device) => guest.read(0, device, 0, 4))).toEqual([0xffff_ffff, 0x5678_1234]);
    guest.pci.powerOff();
    expect(both.map(({ calls }) => calls)).toEqual([
      ['on', 'off'],
      ['on', 'off'],
    ]);
  });
});

describe('windows', () => {
  test('firmware gives a port windows that hold its card, and a spare one room', () => {
    const { guest, card } = occupied(GPU);
    guest.write(0, 1, 4, 2, 0x0003);
    const { memoryWindows, portWindow } = card.services!;
    const [memory, prefetch] = memoryWindows;
    expect(contains(memory!, { start: card.placed.get(0)!, size: 16 * MIB })).toBe(true);
    expect(contains(prefetch!, { start: card.placed.get(1)!, size: 8 * GIB })).toBe(true);
    expect(prefetch!.start).toBeGreaterThanOrEqual(guest.layout.mmio64.start);
    expect(contains(portWindow, { start: card.placed.get(3)!, size: 0x80 })).toBe(true);
    const empty = spare().guest;
    expect(empty.read(0, 1, BRIDGE.MEMORY_LIMIT, 2)).toBeGreaterThan(empty.read(0, 1, BRIDGE.MEMORY_BASE, 2));
  });

  test('nothing is handed on while decode is off, and what the guest programs counts', () => {
    const { guest, card } = occupied();
    expect(card.services!.memoryWindows).toEqual([]);
    guest.write(0, 1, 4, 2, 0x0002);
    expect(card.services!.memoryWindows).toHaveLength(2);
    expect(card.calls).toEqual(['on', 'windows']);
    guest.write(0, 1, BRIDGE.MEMORY_BASE, 4, 0xd010_d000);
    expect(card.services!.memoryWindows[0]).toEqual({ start: 0xd000_0000, size: 2 * MIB });
    // Base above limit closes it; what lies outside of the host bridge's own windows is cut off.
    guest.write(0, 1, BRIDGE.MEMORY_BASE, 4, 0x0000_fff0);
    guest.write(0, 1, BRIDGE.PREFETCH_BASE, 4, 0xfff1_0001);
    guest.write(0, 1, BRIDGE.PREFETCH_BASE_HIGH, 4, 0);
    guest.write(0, 1, BRIDGE.PREFETCH_LIMIT_HIGH, 4, 0xffff_ffff);
    for (const window of card.services!.memoryWindows) {
      expect([guest.layout.mmio32, guest.layout.mmio64].some((host) => contains(host, window))).toBe(true);
    }
  });

  test('a bus number that the guest gives is where the card answers; two alike lead to the first', () => {
    let cards: PlainFunction[] = [];
    const guest = new TestHierarchy((store) => {
      cards = [new PlainFunction(store, 'a'), new PlainFunction(store, 'b')];
      return cards.map((fn, i) => ({ port: `p${i}`, functions: [{ fn, number: 0 }] }));
    });
    expect([1, 2].map((bus) => guest.read(bus, 0, 0, 4))).toEqual([0x5678_1234, 0x5678_1234]);
    guest.write(0, 2, BRIDGE.SECONDARY_BUS, 2, 0x0909);
    expect([1, 2, 9].map((bus) => guest.read(bus, 0, 0, 4))).toEqual([0x5678_1234, 0xffff_ffff, 0x5678_1234]);
    expect(cards[1]!.services!.address.bus).toBe(9);
    guest.write(0, 2, BRIDGE.SECONDARY_BUS, 2, 0x0101);
    guest.write(1, 0, 0x40, 1, 7);
    expect(cards.map(({ calls }) => calls.includes('write'))).toEqual([true, false]);
    guest.write(0, 2, BRIDGE.SECONDARY_BUS, 2, 0);
    expect(guest.read(0, 0, 0, 2)).toBe(0x1b36);
  });
});

test('a secondary bus reset and a disabled link take the card through power-on', () => {
  const { guest, card } = occupied();
  guest.write(0, 1, BRIDGE.CONTROL, 2, 0x40);
  expect(card.calls).toEqual(['on', 'off', 'on']);
  guest.write(0, 1, BRIDGE.CONTROL, 2, 0);
  guest.write(0, 1, PORT_EXPRESS + EXP.LINK_CONTROL, 2, LINK_DISABLE);
  expect(card.services).toBeUndefined();
  expect(guest.read(1, 0, 0, 4)).toBe(0xffff_ffff);
  guest.write(0, 1, PORT_EXPRESS + EXP.LINK_CONTROL, 2, 0);
  expect(card.services).toBeDefined();
  // A link that goes down is no power that is turned off.
  expect(guest.turnedOff).toEqual([]);
});

test('functions of one device keep their numbers and get a pin each', () => {
  expect(numberFunctions([0, 1, 3])).toEqual([0, 1, 3]);
  expect(numberFunctions([3, 2])).toEqual([3, 0]);
  let cards: PlainFunction[] = [];
  const guest = new TestHierarchy((store) => {
    cards = [new PlainFunction(store, 'a'), new PlainFunction(store, 'b'), new PlainFunction(store, 'c')];
    return [
      {
        port: undefined,
        functions: [
          { fn: cards[0]!, number: 0 },
          { fn: cards[1]!, number: 1 },
        ],
      },
      { port: 'p', functions: [{ fn: cards[2]!, number: 0 }] },
    ];
  });
  expect(cards.map(({ services }) => services!.intxPin)).toEqual([1, 2, 1]);
  expect(cards.map(({ services }) => services!.intxGsi)).toEqual([16, 17, 18]);
  expect(cards.map(({ services }) => services!.isMultiFunction)).toEqual([true, true, false]);
  expect(guest.read(0, 1, 0, 4, 1)).toBe(0x5678_1234);
  expect(guest.pci.intx).toContainEqual({ device: 1, pin: 1, gsi: 17 });
  expect(guest.pci.intx.filter(({ device }) => device === 2).map(({ gsi }) => gsi)).toEqual([18, 18, 18, 18]);
});

test('a machine that powers off gives every window back', () => {
  const { guest } = occupied();
  guest.pci.powerOff();
  expect(guest.store.windows.filter(({ inUse }) => inUse)).toHaveLength(1);
  expect(guest.bus.windowOf.every((index) => index === 0)).toBe(true);
});

type Step =
  | { readonly do: 'write'; readonly offset: number; readonly width: number; readonly value: number }
  | { readonly do: 'plug' | 'button' | 'announce' | 'unplug' };

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('write' as const),
      // Most of them where something is.
      offset: fc.oneof(
        { weight: 5, arbitrary: fc.integer({ min: 0, max: 0x9f }) },
        { weight: 1, arbitrary: fc.nat(4095) },
      ),
      width: fc.constantFrom(1, 2, 4),
      value: fc.oneof(fc.integer({ min: 0, max: 0xffff_ffff }), fc.constantFrom(0, 0x400, 0x700, 0xffff_ffff)),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('plug', 'button', 'announce', 'unplug' as const) }) },
);

test('whatever a guest writes to a port, at any time, it stays a port that tells the truth', () => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 80 }), (steps) => {
      let card: PlainFunction | undefined;
      const guest = new TestHierarchy((store: ConfigStore) => {
        card = new PlainFunction(store, 'card', NIC);
        return [
          { port: 'p', functions: [] },
          { port: 'q', functions: [{ fn: new PlainFunction(store, 'other', NIC), number: 0 }] },
        ];
      });
      const fixed = (): number[] =>
        [0, 8, 0x0e, 0x34, PORT_EXPRESS, PORT_EXPRESS + EXP.SLOT_CAPABILITIES].map((at) => guest.read(0, 1, at, 4));
      const before = fixed();
      let isPlugged = false;
      for (const step of steps) {
        if (step.do === 'write') guest.write(0, 1, step.offset, step.width, step.value);
        else if (step.do === 'plug' && !isPlugged) {
          guest.pci.plug('p', [{ fn: card!, number: 0 }]);
          isPlugged = true;
        } else if (step.do === 'button') guest.pci.pressButton('p');
        else if (step.do === 'announce') guest.pci.announceRemoval('p');
        else if (step.do === 'unplug') {
          guest.pci.unplug('p');
          isPlugged = false;
        }
        expect(fixed()).toEqual(before);
        const isPowered = (guest.slotControl(1) & SLOT_CONTROL.POWER_OFF) === 0;
        const hasLink = (guest.read(0, 1, PORT_EXPRESS + EXP.LINK_CONTROL, 2) & LINK_DISABLE) === 0;
        expect(card!.services !== undefined).toBe(isPlugged && isPowered && hasLink);
        if ((guest.linkStatus(1) & LINK_ACTIVE) !== 0) expect(card!.services).toBeDefined();
        if ((guest.slotStatus(1) & PRESENT) !== 0) expect(isPlugged).toBe(true);
        expect(guest.read(0, 0, 0, 4)).toBe(0x0008_1b36);
        expect(guest.read(0, 2, 0, 4)).toBe(0x000c_1b36);
        for (const window of card!.services?.memoryWindows ?? []) {
          expect([guest.layout.mmio32, guest.layout.mmio64].some((host) => contains(host, window))).toBe(true);
        }
      }
      guest.pci.powerOff();
      expect(card!.services).toBeUndefined();
    }),
    { numRuns: 300 },
  );
});
