import { expect, test } from 'vitest';
import { e1000e, everything, xhci } from './fixtures/devices.ts';
import { TestMachine } from './fixtures/test-machine.ts';

const MEMORY_AND_MASTER = 0x6;

function booted(spec = e1000e()): TestMachine {
  const machine = new TestMachine([spec]);
  machine.boot();
  return machine;
}

// Enforces P39, P40, P42.
test('an e1000e looks to the guest as it is, on the root bus, with its BARs where firmware put them', () => {
  const machine = booted();
  expect(machine.readConfig(0x00, 4)).toBe(0x10d3_8086);
  expect(machine.fn.label).toBe('0000:03:00.0 8086:10d3');
  expect(machine.fn.bars.map(({ index, sizeBytes, kind }) => [index, sizeBytes, kind])).toEqual([
    [0, 0x20000, 'memory'],
    [1, 0x20000, 'memory'],
    [2, 0x20, 'port'],
    [3, 0x4000, 'memory'],
  ]);
  const flags = machine.readConfig(machine.capability(0x10) + 2, 2);
  expect((flags >> 4) & 0xf, 'root-complex integrated endpoint').toBe(9);
  expect(machine.readConfig(machine.capability(0x10) + 12, 4), 'link capabilities').toBe(0);
  expect(machine.readConfig(0x3d, 1)).toBe(1);
  expect(machine.readConfig(0x100, 4), 'AER at 0x100 is hidden, the chain leads on').toBe(0x1400_0000);
  expect(machine.readConfig(0x140, 4) & 0xffff).toBe(3);
  expect(machine.warnings).toEqual([]);
});

// Enforces D46, P12.
test('enabling decode maps registers directly and traps the MSI-X pages and the ports', () => {
  const machine = booted();
  expect(machine.vm.barSlots).toEqual([]);
  machine.command(MEMORY_AND_MASTER | 1);
  const slots = machine.vm.barSlots.map(({ gpa, sizeBytes }) => [gpa, sizeBytes]);
  expect(slots).toEqual([
    [machine.barAddress(0), 0x20000],
    [machine.barAddress(1), 0x20000],
    // Table at 0, pending bits at 0x2000: their two pages stay out.
    [machine.barAddress(3) + 0x1000, 0x1000],
    [machine.barAddress(3) + 0x3000, 0x1000],
  ]);
  expect([...machine.vm.portTraps.list.values()].map(({ start, size }) => [start, size])).toEqual([
    [machine.barAddress(2), 0x20],
  ]);
  expect(machine.device.config.isBusMaster).toBe(true);
  const bar3 = machine.fn.report().bars.find(({ index }) => index === 3)!;
  expect(bar3.areas.map(({ offset, why }) => [offset, why])).toEqual([
    [0x0, 'msix-table'],
    [0x50, 'beside msix'],
    [0x1000, undefined],
    [0x2000, 'msix-pba'],
    [0x2008, 'beside msix'],
    [0x3000, undefined],
  ]);
});

// Enforces D39, P5, P6.
test('slots go before COMMAND.MEM=0 reaches the hardware and come after MEM=1', () => {
  const machine = booted();
  const order = (): string[] =>
    machine.kernel.journal.flatMap(({ call, args }) => {
      if (call === 'vmSetMemorySlot') return [args[3] === 0 ? 'unmap' : 'map'];
      return call === 'pwrite' ? ['config'] : [];
    });
  machine.kernel.journalBook.clear();
  machine.command(2);
  expect(order()).toEqual(['config', 'map', 'map', 'map', 'map']);
  machine.kernel.journalBook.clear();
  machine.command(0);
  expect(order()).toEqual(['unmap', 'unmap', 'unmap', 'unmap', 'config']);
});

// Enforces D43, P7.
test('D3hot unmaps before the hardware hears of it; D0 maps again', () => {
  const machine = booted();
  machine.command(MEMORY_AND_MASTER);
  const pmcsr = machine.capability(1) + 4;
  machine.fn.writeConfig(pmcsr, 2, 3);
  expect(machine.vm.barSlots).toEqual([]);
  expect(machine.vm.memoryTraps.list.size).toBe(0);
  expect(machine.device.config.powerState).toBe(3);
  expect(machine.readConfig(pmcsr, 2) & 3).toBe(3);
  machine.fn.writeConfig(pmcsr, 2, 0);
  expect(machine.device.config.powerState).toBe(0);
  expect(machine.vm.barSlots).toHaveLength(4);
  machine.fn.writeConfig(pmcsr, 2, 1);
  expect(machine.readConfig(pmcsr, 2) & 3, 'D1 is not offered').toBe(0);
});

// Enforces E49, E50, E61, P18, P22.
test('MSI-X: a vector reaches the guest, waits while masked, and comes once after', () => {
  const machine = booted();
  machine.command(MEMORY_AND_MASTER);
  const table = machine.barAddress(3);
  const control = machine.capability(0x11) + 2;
  machine.fn.writeConfig(control, 2, 0xc000);
  expect(machine.fn.report().interrupts).toEqual({ mode: 'msix', available: 5, routed: 0 });
  machine.armMsix(2, 0x41, table);
  machine.fn.writeConfig(control, 2, 0x8000);
  expect(machine.fn.report().interrupts.routed).toBe(1);
  expect(machine.device.fireMsix(2)).toBe(true);
  expect(machine.injected()).toEqual([0x41]);

  machine.vm.write(table + 16 * 2 + 12, 4, 1);
  expect(machine.vm.read(table + 0x2000, 4)).toBe(0);
  machine.device.fireMsix(2);
  machine.device.fireMsix(2);
  expect(machine.injected()).toEqual([0x41]);
  expect(machine.vm.read(table + 0x2000, 4), 'pending bit 2').toBe(4);
  machine.vm.write(table + 16 * 2 + 12, 4, 0);
  expect(machine.injected()).toEqual([0x41, 0x41]);
  expect(machine.vm.read(table + 0x2000, 4)).toBe(0);
  expect(
    machine.device.accesses.filter(({ write }) => write),
    'the real table is never written',
  ).toEqual([]);
  expect(machine.warnings).toEqual([]);
});

// Enforces E53, E57, P24.
test('turning MSI-X off frees the host interrupts and brings INTx back', () => {
  const machine = booted();
  machine.command(MEMORY_AND_MASTER);
  expect(machine.fn.report().interrupts.mode).toBe('intx');
  const control = machine.capability(0x11) + 2;
  machine.fn.writeConfig(control, 2, 0x8000);
  machine.armMsix(0, 0x30, machine.barAddress(3));
  expect(machine.vm.vm.irqfds).toHaveLength(1);
  machine.fn.writeConfig(control, 2, 0);
  expect(machine.fn.report().interrupts).toEqual({ mode: 'intx', available: 1, routed: 1 });
  expect(machine.vm.vm.irqfds.map(({ gsi }) => gsi)).toEqual([16]);
  expect(machine.device.fireMsix(0)).toBe(false);
  machine.device.fireIntx();
  expect(machine.vm.vm.injections.at(-1)).toMatchObject({ how: 'irqfd', gsi: 16 });
});

// Enforces E55, E56, P26, P31.
test('INTx: masked at the host on each interrupt, unmasked by the guest’s end of interrupt', () => {
  const machine = booted();
  machine.device.fireIntx();
  expect(machine.vm.vm.injections.filter(({ how }) => how === 'irqfd')).toHaveLength(1);
  machine.vm.vm.endOfInterrupt(16 as never);
  expect(
    machine.vm.vm.injections.filter(({ how }) => how === 'irqfd'),
    'still asserted',
  ).toHaveLength(2);
  machine.device.clearIntx();
  machine.vm.vm.endOfInterrupt(16 as never);
  expect(machine.vm.vm.injections.filter(({ how }) => how === 'irqfd')).toHaveLength(2);
  machine.command(0x400);
  machine.device.fireIntx();
  expect(
    machine.vm.vm.injections.filter(({ how }) => how === 'irqfd'),
    'INTxDisable',
  ).toHaveLength(2);
  machine.command(0);
  expect(machine.vm.vm.injections.filter(({ how }) => how === 'irqfd')).toHaveLength(3);
});

// Enforces P38, P46.
test('a reboot resets the device, turns everything off, and keeps the BARs that firmware placed', () => {
  const machine = booted();
  machine.command(MEMORY_AND_MASTER);
  machine.fn.writeConfig(machine.capability(0x11) + 2, 2, 0x8000);
  machine.armMsix(1, 0x50, machine.barAddress(3));
  const address = machine.barAddress(0);
  const old = machine.vm;
  machine.kernel.journalBook.clear();
  machine.fn.powerOff();
  expect(old.barSlots).toEqual([]);
  expect(old.memoryTraps.list.size + old.portTraps.list.size).toBe(0);
  expect(old.vm.irqfds).toEqual([]);
  expect(machine.device.config.isBusMaster).toBe(false);
  const first = machine.kernel.journal.find(({ call }) => call === 'pwrite' || call === 'vmSetMemorySlot');
  expect(first, 'DMA is stopped first').toMatchObject({ call: 'pwrite' });
  machine.fn.powerOff();

  machine.newVm();
  machine.fn.powerOn(machine.vm.services);
  expect(machine.barAddress(0)).toBe(address);
  expect(machine.readConfig(4, 2)).toBe(0);
  expect(machine.readConfig(machine.capability(0x11) + 2, 2)).toBe(4);
  expect(machine.fn.report().resets.map(({ when, method, ok }) => [when, method, ok])).toEqual([
    ['boot', 'hot reset', true],
    ['reboot', 'hot reset', true],
  ]);
});

// Enforces P38.
test('closing quiets and resets the device and leaves nothing behind', () => {
  const machine = booted();
  machine.command(MEMORY_AND_MASTER);
  machine.fn.writeConfig(machine.capability(0x11) + 2, 2, 0x8000);
  machine.armMsix(0, 0x30, machine.barAddress(3));
  const { fn } = machine;
  machine.session.close();
  machine.session.close();
  expect(fn.report().resets.at(-1)).toMatchObject({ when: 'release', ok: true });
  expect(machine.device.config.isBusMaster).toBe(false);
  expect(machine.device.isOpen).toBe(false);
  const left = machine.kernel.openFds().map(({ label }) => label);
  expect(left.filter((label) => /vfio-(group|cont)|eventfd/.test(label))).toEqual([]);
  expect(machine.kernel.liveMappings().filter(({ label }) => label.includes('vfio'))).toEqual([]);
  expect(fn.window.inUse).toBe(false);
});

// Enforces G68, P46.
test('a function-level reset of the guest unmaps, resets, and keeps the BAR addresses', () => {
  const machine = booted(everything());
  machine.command(MEMORY_AND_MASTER);
  const express = machine.capability(0x10);
  const address = machine.barAddress(2);
  machine.fn.writeConfig(express + 8, 2, 0x8000);
  expect(machine.fn.report().resets.at(-1)).toMatchObject({ when: 'guest', ok: true });
  expect(machine.readConfig(4, 2)).toBe(0);
  expect(machine.vm.barSlots).toEqual([]);
  expect(machine.barAddress(2)).toBe(address);
  expect(machine.readConfig(express + 8, 2) & 0x8000).toBe(0);
  machine.command(MEMORY_AND_MASTER);
  expect(machine.vm.barSlots.length).toBeGreaterThan(0);
});

test('MSI: every enabled vector has its own data, and a mask holds one back', () => {
  const machine = booted(everything());
  const msi = machine.capability(5);
  machine.fn.writeConfig(msi + 4, 4, 0xfee0_1000);
  machine.fn.writeConfig(msi + 12, 2, 0x60);
  machine.fn.writeConfig(msi + 2, 2, 0x0021);
  expect(machine.fn.report().interrupts).toEqual({ mode: 'msi', available: 8, routed: 4 });
  machine.device.fireMsi(3);
  machine.device.fireMsi(0);
  expect(machine.injected()).toEqual([0x63, 0x60]);
  machine.fn.writeConfig(msi + 2, 2, 0);
  expect(machine.fn.report().interrupts.mode).toBe('intx');
});

// Enforces A5, P10.
test('a BAR smaller than a page becomes a page of its own, mapped where the kernel allows it', () => {
  const machine = booted(everything());
  machine.command(2);
  expect(machine.fn.bars.find(({ index }) => index === 4)!.sizeBytes).toBe(4096);
  expect(machine.vm.barSlots.some(({ gpa, sizeBytes }) => gpa === machine.barAddress(4) && sizeBytes === 4096)).toBe(
    true,
  );
});

// Enforces D38.
test('a big BAR is mapped where host-virtual and host-physical addresses agree modulo 2 MiB', () => {
  const machine = booted(everything());
  machine.command(2);
  const slot = machine.vm.barSlots.find(({ sizeBytes }) => sizeBytes === 4096 * 1024)!;
  expect(slot.hva % (2 * 1024 * 1024)).toBe(0x40_0020_0000 % (2 * 1024 * 1024));
});

// Enforces P13.
test('registers beside the table are reached through the device’s fd with the guest’s width', () => {
  const machine = booted(xhci());
  machine.command(2);
  machine.vm.write(machine.barAddress(0) + 0x3100 + 0x20, 2, 0xbeef);
  expect(machine.device.accesses.filter(({ write }) => write)).toMatchObject([{ region: 0, width: 2, offset: 0x3120 }]);
});

// Enforces P48, P49.
test('events of the host reach the listener', () => {
  const machine = booted();
  machine.device.fireRequest();
  machine.device.fireError();
  machine.kernel.flush();
  expect(machine.events.map(({ what }) => what).sort()).toEqual(['error', 'release-request']);
});

// Enforces E52, P19, P20.
test('without dynamic vectors all of them are allocated when MSI-X is enabled', () => {
  const machine = booted({ ...e1000e(), vfio: { dynamicMsix: false, availableVectors: 3 } });
  machine.command(2);
  machine.fn.writeConfig(machine.capability(0x11) + 2, 2, 0x8000);
  for (let vector = 0; vector < 5; vector++) machine.armMsix(vector, 0x40 + vector, machine.barAddress(3));
  expect(machine.fn.report().interrupts.routed).toBe(3);
  expect(machine.warnings).toEqual(['the host gives only 3 of 5 MSI-X vectors']);
});

// Enforces D45.
test('after a revocation that nobody announced BARs are trapped, until the guest enables decode again', () => {
  const machine = booted();
  expect(machine.fn.trapAfterRevocation()).toBe(false);
  machine.command(MEMORY_AND_MASTER);
  expect(machine.fn.trapAfterRevocation()).toBe(true);
  expect(machine.vm.barSlots).toEqual([]);
  machine.vm.write(machine.barAddress(0) + 0x10, 4, 0x1234_5678);
  expect(machine.vm.read(machine.barAddress(0) + 0x10, 4)).toBe(0x1234_5678);
  machine.command(0);
  expect(machine.vm.memoryTraps.list.size).toBe(0);
  machine.command(MEMORY_AND_MASTER);
  expect(machine.vm.barSlots).toHaveLength(4);
});

test('a table too large for the bus’s shared memory is trapped by calls, with the same behaviour', () => {
  const spec = everything();
  const machine = booted({ ...spec, msix: { ...spec.msix!, vectors: 1200, tableOffset: 0x4000, pbaOffset: 0x3000 } });
  machine.command(MEMORY_AND_MASTER);
  machine.fn.writeConfig(machine.capability(0x11) + 2, 2, 0x8000);
  const table = machine.barAddress(0) + 0x4000;
  machine.armMsix(1199, 0x77, table);
  expect(machine.vm.read(table + 1199 * 16 + 8, 4)).toBe(0x77);
  machine.device.fireMsix(1199);
  expect(machine.injected()).toEqual([0x77]);
});

test('a message that is no interrupt is never handed to KVM, and does no harm to the others', () => {
  const machine = booted();
  machine.command(MEMORY_AND_MASTER);
  machine.fn.writeConfig(machine.capability(0x11) + 2, 2, 0x8000);
  const table = machine.barAddress(3);
  machine.vm.write(table + 4, 4, 0xff);
  machine.vm.write(table, 4, 0x1000);
  machine.vm.write(table + 12, 4, 0);
  machine.armMsix(1, 0x51, table);
  machine.device.fireMsix(1);
  expect(machine.injected()).toEqual([0x51]);
  expect(machine.fn.report().interrupts.routed).toBe(1);
  expect(machine.warnings).toEqual([]);
});
