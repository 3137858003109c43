/** Several functions in one address space: whose BAR gets the addresses, and who gets them next. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { FakePciSpec } from '../../native/fake/pci-spec.ts';
import { overlaps, type Range } from '../../vmm/base/ranges.ts';
import { e1000e, xhci } from '../fixtures/devices.ts';
import { MEMORY_WINDOWS, TestMachine } from '../fixtures/test-machine.ts';

const BASE = MEMORY_WINDOWS[0]!.start;

function pair(specs: readonly FakePciSpec[]): TestMachine {
  const machine = new TestMachine(specs);
  machine.session.functions.forEach((fn, i) => {
    const address = { bus: 0, device: 1 + i, function: 0 };
    fn.powerOn({ ...machine.vm.services, address, intxGsi: (16 + i) as never });
  });
  return machine;
}

/** A BAR of 16 KiB with the MSI-X table in the middle: slots and traps. */
const two = () => pair([e1000e('0000:03:00.0', 12), e1000e('0000:04:00.0', 13)]);

const place = (machine: TestMachine, fn: number, bar: number, address: number): void =>
  machine.session.functions[fn]!.writeConfig(0x10 + 4 * bar, 4, address);
const command = (machine: TestMachine, fn: number, value: number): void =>
  machine.session.functions[fn]!.writeConfig(4, 2, value);
const slotsAt = (machine: TestMachine, start: number, size: number) =>
  machine.vm.barSlots.filter(({ gpa }) => gpa >= start && gpa < start + size).length;

// Enforces D42, P3.
test('a BAR that met another function’s is mapped as soon as that one goes away', () => {
  for (const leave of [
    (machine: TestMachine) => command(machine, 0, 0),
    (machine: TestMachine) => place(machine, 0, 0, BASE + 0x80_0000),
    (machine: TestMachine) => machine.session.functions[0]!.writeConfig(machineCapability(machine, 0, 1) + 4, 2, 3),
    (machine: TestMachine) => machine.session.functions[0]!.powerOff(),
  ]) {
    const machine = two();
    place(machine, 0, 0, BASE);
    place(machine, 1, 0, BASE);
    command(machine, 0, 2);
    const owner = machine.vm.barSlots[0]!.hva;
    command(machine, 1, 2);
    expect(slotsAt(machine, BASE, 0x20000)).toBe(1);
    expect(machine.vm.barSlots[0]!.hva, 'who came first keeps it').toBe(owner);
    expect(machine.warnings.join()).toMatch(/BAR0 at 0xc0000000 is not mapped/);
    leave(machine);
    const now = machine.vm.barSlots.filter(({ gpa }) => gpa === BASE);
    expect(now).toHaveLength(1);
    expect(now[0]!.hva).not.toBe(owner);
    machine.session.close();
  }
});

function machineCapability(machine: TestMachine, fn: number, id: number): number {
  const { image } = machine.session.functions[fn]!.window;
  let at = image[0x34]!;
  while (image[at] !== id) at = image[at + 1]!;
  return at;
}

// Enforces D42.
test('a slot of one function never lies over a trap of another', () => {
  const machine = pair([xhci('0000:03:00.0', 12), e1000e('0000:04:00.0', 13)]);
  place(machine, 0, 0, BASE);
  command(machine, 0, 2);
  const traps = machine.vm.memoryTraps.list.size;
  expect(traps).toBeGreaterThan(0);
  // The e1000e's first BAR is one slot; at 0x3000 the xHCI has its table.
  place(machine, 1, 0, BASE);
  command(machine, 1, 2);
  expect(slotsAt(machine, BASE, 0x20000)).toBe(1);
  expect(machine.vm.memoryTraps.list.size).toBe(traps);
  command(machine, 0, 0);
  expect(machine.vm.barSlots.find(({ gpa }) => gpa === BASE)?.sizeBytes).toBe(0x20000);
  command(machine, 0, 2);
  expect(machine.vm.memoryTraps.list.size, 'and the other way round').toBe(0);
  machine.session.close();
});

// Enforces D42, P3.
test('however two functions move, no two mappings overlap, and no decoded BAR with free addresses stays out', () => {
  const step = fc.record({
    fn: fc.constantFrom(0, 1),
    bar: fc.constantFrom(0, 1, 3),
    address: fc.integer({ min: 0, max: 7 }).map((n) => BASE + n * 0x1_0000),
    decode: fc.constantFrom(0, 2, 2, 2),
  });
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 30 }), (steps) => {
      const machine = two();
      for (const { fn, bar, address, decode } of steps) {
        place(machine, fn, bar, address);
        command(machine, fn, decode);
        const held = heldRanges(machine);
        for (const [i, a] of held.entries()) {
          for (const b of held.slice(i + 1)) expect(overlaps(a, b), `${a.start} and ${b.start}`).toBe(false);
        }
        for (const wanted of decodedButOut(machine, held)) {
          expect(
            held.some((range) => overlaps(range, wanted)),
            `nothing is in the way of ${wanted.start}`,
          ).toBe(true);
        }
      }
      machine.session.close();
    }),
    { numRuns: 60 },
  );
}, 120_000);

function heldRanges(machine: TestMachine): Range[] {
  return [
    ...machine.vm.barSlots.map(({ gpa, sizeBytes }) => ({ start: gpa, size: sizeBytes })),
    ...[...machine.vm.memoryTraps.list.values()].map(({ start, size }) => ({ start, size })),
  ];
}

/** BARs that a function reports at an address, of which nothing starts there. */
function decodedButOut(machine: TestMachine, held: readonly Range[]): Range[] {
  return machine.session.functions.flatMap((fn) =>
    fn
      .report()
      .bars.filter(({ kind, gpa }) => kind === 'memory' && gpa !== undefined)
      .map(({ gpa, sizeBytes }) => ({ start: gpa!, size: sizeBytes }))
      .filter((range) => !held.some(({ start }) => start === range.start)),
  );
}
