import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { FakeKernel } from '../../native/fake/fake-kernel.ts';
import { endOf, overlaps, type Range } from '../../vmm/base/ranges.ts';
import { BURST_ACCESSES } from '../../vmm/bus/trap.ts';
import type { BarRequest } from '../../vmm/pci/function.ts';
import type { MsixLayout } from '../../vmm/pci/msix.ts';
import { e1000e, everything, xhci } from '../fixtures/devices.ts';
import { TestMachine } from '../fixtures/test-machine.ts';
import { placeMsix } from './msix-relocation.ts';

function booted(spec: ReturnType<typeof xhci>, msixRelocation: 'auto' | 'bar0' | 'bar1' | 'bar2' | 'off'): TestMachine {
  const machine = new TestMachine([spec], undefined, { msixRelocation });
  machine.boot();
  return machine;
}

/** Arms a vector as a driver does, from what the capability says. */
function driveMsix(machine: TestMachine): { table: number; pending: number } {
  const msix = machine.capability(0x11);
  const at = (dword: number): number =>
    machine.barAddress(machine.readConfig(dword, 4) & 7) + ((machine.readConfig(dword, 4) & ~7) >>> 0);
  const [table, pending] = [at(msix + 4), at(msix + 8)];
  machine.fn.writeConfig(msix + 2, 2, 0x8000);
  machine.armMsix(1, 0x55, table);
  machine.device.fireMsix(1);
  expect(machine.injected()).toEqual([0x55]);
  machine.vm.write(table + 16 + 12, 4, 1);
  machine.device.fireMsix(1);
  expect(machine.vm.read(pending, 4), 'pending').toBe(2);
  machine.vm.write(table + 16 + 12, 4, 0);
  expect(machine.injected()).toEqual([0x55, 0x55]);
  return { table, pending };
}

// Enforces P13.
test('in a free BAR, the device’s own is direct as a whole', () => {
  const machine = booted(xhci(), 'auto');
  machine.command(6);
  expect(machine.fn.bars.map(({ index, sizeBytes, is64 }) => [index, sizeBytes, is64])).toEqual([
    [0, 0x4000, true],
    [2, 0x1000, false],
  ]);
  expect(machine.vm.barSlots.map(({ gpa, sizeBytes }) => [gpa, sizeBytes])).toEqual([[machine.barAddress(0), 0x4000]]);
  const { table } = driveMsix(machine);
  expect(table).toBe(machine.barAddress(2));
  expect(machine.device.accesses.filter(({ write }) => write)).toEqual([]);
  expect(machine.fn.report().msixRelocation).toBe('moved to BAR2, added to 4 KiB');
  expect(machine.warnings).toEqual([]);
  machine.session.close();
});

test('behind the end of a BAR that grows for it', () => {
  const machine = booted(xhci(), 'bar0');
  machine.command(6);
  expect(machine.fn.bars.map(({ index, sizeBytes }) => [index, sizeBytes])).toEqual([[0, 0x8000]]);
  machine.fn.writeConfig(0x10, 4, 0xffff_ffff);
  expect(machine.readConfig(0x10, 4) & ~0xf).toBe(0xffff_8000 | 0);
  machine.fn.writeConfig(0x10, 4, 0xc100_0000);
  machine.fn.writeConfig(0x14, 4, 0);
  expect(machine.vm.barSlots.map(({ gpa, sizeBytes }) => [gpa, sizeBytes])).toEqual([[0xc100_0000, 0x4000]]);
  expect(driveMsix(machine).table).toBe(0xc100_4000);
  expect(machine.fn.report().msixRelocation).toBe('moved to BAR0, grown to 32 KiB');
  machine.session.close();
});

// Enforces D46.
test('pages with nothing but the real table stay closed', () => {
  const spec = everything();
  const machine = booted(
    { ...spec, msix: { ...spec.msix!, vectors: 600, tableOffset: 0x2800, pbaOffset: 0x8000 } },
    'auto',
  );
  machine.command(2);
  const bar0 = machine.fn.report().bars.find(({ index }) => index === 0)!;
  // The table is at 0x2800 to 0x4d80: page 0x3000 is all table; 0x2000 and 0x4000 have registers, too.
  expect(bar0.areas.map(({ offset, sizeBytes, mode, why }) => [offset, sizeBytes, why ?? mode])).toEqual([
    [0, 0x3000, 'direct'],
    [0x3000, 0x1000, "the device's table"],
    [0x4000, 0xc000, 'direct'],
  ]);
  // What reaches it goes by the fd, where the kernel hides the table.
  machine.vm.write(machine.barAddress(0) + 0x3010, 4, 0x1234);
  expect(machine.device.memory.get(0)?.slice(0x3010, 0x3014) ?? new Uint8Array(4)).toEqual(new Uint8Array(4));
  machine.session.close();
});

test('an interrupt that only the hardware knows of is still read from the hardware’s own pending bits', () => {
  const machine = booted(xhci(), 'auto');
  machine.command(6);
  const msix = machine.capability(0x11);
  machine.fn.writeConfig(msix + 2, 2, 0x8000);
  machine.device.onRead = (bar, offset) => (bar === 0 && offset === 0x3800 ? 0x04n : undefined);
  expect(machine.vm.read(machine.barAddress(2) + (machine.readConfig(msix + 8, 4) & ~7), 1)).toBe(4);
  machine.session.close();
});

test('without isolated interrupts nothing is moved, and the report says why', () => {
  const unsafe = (kernel: FakeKernel): void =>
    kernel.files.addFile('/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts', 'Y\n');
  const machine = new TestMachine([xhci()], unsafe, { msixRelocation: 'auto' });
  machine.boot();
  machine.command(2);
  expect(machine.fn.bars).toHaveLength(1);
  expect(machine.vm.barSlots.map(({ sizeBytes }) => sizeBytes)).toEqual([0x3000]);
  expect(machine.fn.report().msixRelocation).toMatch(/not moved: .*allow_unsafe_interrupts is on/);
});

test('a BAR that cannot take it keeps the VM from starting; without MSI-X there is nothing to move', () => {
  expect(() => booted(xhci(), 'bar1')).toThrow(/upper half of BAR0/);
  expect(() => booted(e1000e(), 'bar2')).toThrow(/a BAR of ports/);
  const spec = everything();
  const { msix: _, ...without } = spec;
  expect(booted(without, 'auto').fn.report().msixRelocation).toBeUndefined();
});

test('wherever it goes, table and pending bits lie in their BAR and over nothing of the device’s', () => {
  const bar = fc.record({
    size: fc.integer({ min: 12, max: 33 }).map((n) => 2 ** n),
    kind: fc.constantFrom<'memory' | 'port' | 'none'>('memory', 'memory', 'port', 'none'),
    is64: fc.boolean(),
  });
  fc.assert(
    fc.property(
      fc.array(bar, { minLength: 6, maxLength: 6 }),
      fc.integer({ min: 1, max: 2048 }),
      fc.constantFrom('auto', 'bar0', 'bar1', 'bar2', 'bar3', 'bar4', 'bar5'),
      (shapes, vectorCount, wish) => {
        const bars: BarRequest[] = [];
        for (const [index, { size, kind, is64 }] of shapes.entries()) {
          if (kind === 'none' || (bars.at(-1)?.is64 && bars.at(-1)!.index === index - 1)) continue;
          const wide = kind === 'memory' && is64 && index < 5;
          const sizeBytes = kind === 'port' ? 64 : wide ? size : Math.min(size, 2 ** 31);
          bars.push({ index, sizeBytes, kind, is64: wide, prefetchable: wide });
        }
        const hardware: MsixLayout = {
          vectorCount,
          table: { bar: 0, offset: 0, sizeBytes: 16 * vectorCount },
          pending: { bar: 0, offset: 0x9000, sizeBytes: 8 * Math.ceil(vectorCount / 64) },
        };
        let placed: ReturnType<typeof placeMsix>;
        try {
          placed = placeMsix(wish as 'auto', hardware, bars, { unsafe: undefined, label: 'x', pageBytes: 4096 });
        } catch (error) {
          expect(wish).not.toBe('auto');
          expect(String(error)).toMatch(/cannot be moved/);
          return;
        }
        if (!placed.isRelocated) return;
        const { table, pending } = placed.guest;
        const range = ({ offset, sizeBytes }: typeof table): Range => ({ start: offset, size: sizeBytes });
        const home = placed.bars.find(({ index }) => index === table.bar)!;
        expect(pending.bar).toBe(table.bar);
        expect(overlaps(range(table), range(pending))).toBe(false);
        expect(endOf(range(pending))).toBeLessThanOrEqual(home.sizeBytes);
        expect(Number.isInteger(Math.log2(home.sizeBytes))).toBe(true);
        expect([table.offset % 8, pending.offset % 8]).toEqual([0, 0]);
        const before = bars.find(({ index }) => index === table.bar);
        if (before) expect(table.offset).toBeGreaterThanOrEqual(before.sizeBytes);
        for (const other of bars) if (other !== before) expect(placed.bars).toContainEqual(other);
      },
    ),
  );
});

// Enforces P13.
test('a trapped page that is touched often is named once, with a remedy, and counted over power cycles', () => {
  const machine = booted(xhci(), 'off');
  machine.command(2);
  const registers = machine.barAddress(0) + 0x3900;
  machine.vm.touch(registers, 100);
  machine.nowMs = 3_600_000;
  machine.vm.touch(registers, BURST_ACCESSES);
  expect(machine.warnings, 'an hour for a burst is nothing').toEqual([]);
  machine.nowMs += 5000;
  machine.vm.touch(registers, BURST_ACCESSES);
  machine.vm.touch(registers, 4 * BURST_ACCESSES);
  expect(machine.warnings).toHaveLength(1);
  expect(machine.warnings[0]).toMatch(/BAR0\+0x3000 \(beside msix\) is trapped and hot: 16384 accesses within 5 s/);
  expect(machine.warnings[0]).toMatch(/msixRelocation "auto"/);
  machine.vm.touch(machine.barAddress(0) + 0x3010, 7);
  const accesses = 100 + 6 * BURST_ACCESSES;
  const pages = [
    { bar: 0, offset: 0x3000, why: 'beside msix', accesses, isHot: true },
    { bar: 0, offset: 0x3000, why: 'msix-table', accesses: 7, isHot: false },
  ];
  expect(machine.fn.report().trappedPages).toEqual(pages);
  machine.command(0);
  expect(machine.fn.report().trappedPages, 'decode off takes the traps, not the counts').toEqual(pages);
  machine.fn.powerOff();
  machine.newVm();
  machine.fn.powerOn(machine.vm.services);
  machine.command(2);
  machine.vm.touch(registers, 1);
  expect(machine.fn.report().trappedPages![0]).toMatchObject({ accesses: accesses + 1 });
});
