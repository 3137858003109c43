/** What decode, power states and resets mean for BARs, on hardware that forgets, has no memory enable, or lies. */
import { expect, test } from 'vitest';
import type { FakePciSpec } from '../../native/fake/pci-spec.ts';
import type { Hva } from '../../native/types.ts';
import { e1000e, everything } from '../fixtures/devices.ts';
import { TestMachine } from '../fixtures/test-machine.ts';

const MEMORY = 2;
const MASTER = 4;

function booted(spec: FakePciSpec): TestMachine {
  const machine = new TestMachine([spec]);
  machine.boot();
  return machine;
}

/** A load through the guest's slot; undefined where there is none. */
function load(machine: TestMachine, gpa: number): bigint | undefined {
  const slot = machine.vm.vm.slotAt(gpa);
  return slot && machine.kernel.mmioRead(slot.hva as Hva, gpa - slot.gpa, 4);
}

function store(machine: TestMachine, gpa: number, value: bigint): void {
  const slot = machine.vm.vm.slotAt(gpa)!;
  machine.kernel.mmioWrite(slot.hva as Hva, gpa - slot.gpa, 4, value);
}

// Enforces D40, D39.
test('decode off and on again: the register is gone, and back with what it held', () => {
  const machine = booted(e1000e());
  machine.command(MEMORY);
  const register = machine.barAddress(0) + 0x100;
  store(machine, register, 0x1234_5678n);
  for (let i = 0; i < 3; i++) {
    machine.command(0);
    expect(load(machine, register)).toBeUndefined();
    expect(machine.vm.read(register, 4)).toBe(0xffff_ffff);
    machine.vm.write(register, 4, 0);
    machine.command(MEMORY);
    expect(load(machine, register)).toBe(0x1234_5678n);
  }
});

// Enforces D41.
test('a BAR that moves with decode on is never at two addresses, and at the old one no more', () => {
  const machine = booted(e1000e());
  machine.command(MEMORY);
  const from = machine.barAddress(0);
  const to = from + 0x100_0000;
  const seen: number[][] = [];
  const setSlot = machine.kernel.vmSetMemorySlot.bind(machine.kernel);
  machine.kernel.vmSetMemorySlot = (...args) => {
    setSlot(...args);
    seen.push([from, to].filter((at) => machine.vm.vm.slotAt(at)));
  };
  machine.fn.writeConfig(0x10, 4, to);
  expect(seen).toEqual([[], [to]]);
  expect(machine.vm.vm.slotAt(from)).toBeUndefined();
});

// Enforces P7, D43.
test('COMMAND that is written in D3hot takes hold in D0, on hardware that forgets it in between', () => {
  const machine = booted(e1000e());
  const power = machine.capability(1) + 4;
  machine.command(MEMORY | MASTER);
  machine.fn.writeConfig(power, 2, 3);
  machine.command(0);
  machine.fn.writeConfig(power, 2, 0);
  expect(machine.device.config.decodesMemory).toBe(false);
  expect(machine.device.config.isBusMaster).toBe(false);
  expect(machine.vm.barSlots).toEqual([]);

  machine.fn.writeConfig(power, 2, 3);
  machine.command(MEMORY);
  expect(machine.vm.barSlots).toEqual([]);
  machine.fn.writeConfig(power, 2, 0);
  expect(machine.device.config.decodesMemory).toBe(true);
  expect(machine.vm.barSlots).toHaveLength(4);
});

// Enforces P38, P52.
test('a guest that ends in D3hot leaves no bus master behind: the device is woken first', () => {
  const machine = booted(e1000e());
  machine.command(MASTER);
  machine.fn.writeConfig(machine.capability(1) + 4, 2, 3);
  machine.fn.powerOff();
  expect(machine.device.config.powerState).toBe(0);
  expect(machine.device.config.isBusMaster).toBe(false);
});

// Enforces P52.
test('a device that idled in D3hot is in D0 when the guest gets it', () => {
  const config = e1000e().config!.slice();
  config[0xcc]! |= 3;
  const machine = booted({ ...e1000e(), config });
  expect(machine.readConfig(machine.capability(1) + 4, 2) & 3).toBe(0);
  machine.command(MEMORY);
  expect(machine.device.config.powerState).toBe(0);
  expect(load(machine, machine.barAddress(0))).toBe(0n);
});

// Enforces P8.
test('a virtual function, whose silicon has no memory enable, is mapped like every other', () => {
  const machine = booted({ ...everything(), isVf: true, interruptPin: 0 });
  machine.device.config.hardware[4] = 0;
  machine.command(MEMORY | MASTER);
  expect(machine.device.config.hardware[4]! & MEMORY, 'nothing to see in its own register').toBe(0);
  expect(load(machine, machine.barAddress(2))).toBe(0n);
  const { length } = machine.vm.barSlots;
  machine.command(0);
  expect(machine.vm.barSlots).toEqual([]);
  machine.command(MEMORY);
  expect(machine.vm.barSlots).toHaveLength(length);
  expect(machine.fn.report().interrupts.mode, 'a VF has no line').toBe('none');
});

// Enforces P14, D46, P12.
test.each([
  ['the table runs past its BAR', { tableOffset: 0xff00, pbaOffset: 0x3800 }, 0xf000],
  ['the pending bits lie outside', { tableOffset: 0x2000, pbaOffset: 0x1_0000 }, 0x2000],
])('%s: MSI-X is hidden, and the real table stays out of reach all the same', (_name, places, page) => {
  const spec = everything();
  const machine = booted({ ...spec, msix: { ...spec.msix!, ...places } });
  expect(machine.warnings).toEqual([expect.stringContaining('MSI-X lies outside its BAR and is hidden')]);
  expect(() => machine.capability(0x11)).toThrow();
  machine.command(MEMORY);
  const bar = machine.barAddress(0);
  expect(machine.vm.vm.slotAt(bar)).toBeDefined();
  expect(machine.vm.vm.slotAt(bar + page)).toBeUndefined();
  expect(machine.vm.vm.slotAt(bar + page + 0xfff)).toBeUndefined();
  machine.vm.write(bar + places.tableOffset, 4, 0xdead_beef);
  expect(machine.device.memory.get(0)?.[places.tableOffset] ?? 0, 'VFIO drops it').toBe(0);
});

// Enforces D46.
test('where VFIO has fewer vectors than the table, all of the table is trapped, and none of it is another’s memory', () => {
  const machine = new TestMachine([everything()], (kernel) => {
    const info = kernel.vfioIrqInfo.bind(kernel);
    kernel.vfioIrqInfo = (device, index) => (index === 2 ? { flags: 1, count: 4 } : info(device, index));
  });
  machine.boot();
  machine.command(MEMORY);
  expect(machine.readConfig(machine.capability(0x11) + 2, 2) & 0x7ff).toBe(3);
  const hit = machine.vm.memoryTraps.at(machine.barAddress(0) + 0x2000 + 16 * 19)!;
  expect(hit.trap.kind).toBe('msix-table');
  expect(hit.trap.kind === 'msix-table' && hit.trap.bytes.length).toBe(16 * 20);
});

// Enforces P16, A3.
test('ports are forwarded one to one: each access once, as wide as the guest made it', () => {
  const machine = booted(e1000e());
  machine.command(1);
  const port = machine.barAddress(2);
  for (const width of [1, 2, 4] as const) machine.vm.write(port + 4, width, 0x1122_3344, 'port');
  machine.vm.read(port + 2, 1, 'port');
  expect(
    machine.device.accesses.map(({ region, offset, width, write, via }) => [region, offset, width, write, via]),
  ).toEqual([
    [2, 4, 1, true, 'fd'],
    [2, 4, 2, true, 'fd'],
    [2, 4, 4, true, 'fd'],
    [2, 2, 1, false, 'fd'],
  ]);
  machine.command(0);
  expect(machine.vm.read(port, 4, 'port')).toBe(0xffff_ffff);
});
