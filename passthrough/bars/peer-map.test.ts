import { expect, test } from 'vitest';
import type { FakeContainer } from '../../native/fake/fake-container.ts';
import type { FakeKernel } from '../../native/fake/fake-kernel.ts';
import { GIB } from '../../vmm/base/bits.ts';
import { everything } from '../fixtures/devices.ts';
import { RAM_BYTES, TestMachine } from '../fixtures/test-machine.ts';

function booted(p2p: boolean, spec = everything()): TestMachine {
  const machine = new TestMachine([spec], undefined, { p2p });
  machine.boot();
  return machine;
}

const container = (machine: TestMachine): FakeContainer => machine.kernel.vfio.containers[0]!;
/** What is mapped for DMA beside RAM. */
const peers = (machine: TestMachine): [number, number, number][] =>
  [...container(machine).mappings.values()]
    .filter(({ iova }) => iova >= RAM_BYTES)
    .map(({ iova, sizeBytes, hva }) => [iova, sizeBytes, hva]);
const slots = (machine: TestMachine): [number, number, number][] =>
  machine.vm.barSlots.map(({ gpa, sizeBytes, hva }) => [gpa, sizeBytes, hva]);
const byAddress = (a: number[], b: number[]): number => a[0]! - b[0]!;

// Enforces F66, P34.
test('off by default: nothing but RAM is mapped for DMA', () => {
  const machine = booted(false);
  machine.command(6);
  expect(slots(machine).length).toBeGreaterThan(0);
  expect(peers(machine)).toEqual([]);
  expect(machine.fn.report().bars.some((bar) => 'p2p' in bar)).toBe(false);
});

// Enforces F66, P34.
test('what is direct is mapped at the same address; decode off, a move, D3hot, FLR and the end take it away', () => {
  const machine = booted(true);
  expect(peers(machine)).toEqual([]);
  const check = (): void => expect(peers(machine).sort(byAddress)).toEqual(slots(machine).sort(byAddress));
  machine.command(6);
  expect(slots(machine).length).toBeGreaterThan(2);
  check();
  expect(machine.fn.report().bars.map(({ index, p2p }) => [index, p2p])).toEqual([
    [0, 'mapped'],
    [1, undefined],
    [2, 'mapped'],
    [4, 'mapped'],
  ]);
  machine.fn.writeConfig(0x10, 4, 0xc900_0000);
  check();
  const power = machine.capability(1) + 4;
  for (const [off, on] of [
    [() => machine.command(4), () => machine.command(6)],
    [() => machine.fn.writeConfig(power, 2, 3), () => machine.fn.writeConfig(power, 2, 0)],
    [() => machine.fn.writeConfig(machine.capability(0x10) + 8, 2, 0x8000), () => machine.command(6)],
  ] as const) {
    off();
    expect(peers(machine)).toEqual([]);
    on();
    expect(peers(machine).length).toBeGreaterThan(2);
    check();
  }
  machine.fn.powerOff();
  expect(peers(machine)).toEqual([]);
  machine.session.close();
  expect(machine.warnings).toEqual([]);
});

test('the order: gone from the IOMMU before the slot, and both before the hardware; back the other way round', () => {
  const machine = booted(true);
  const order = (): string[] => {
    const steps = machine.kernel.journal.flatMap(({ call, args }) => {
      if (call === 'vmSetMemorySlot') return [args[3] === 0 ? 'slot off' : 'slot on'];
      if (call === 'vfioMapDma') return ['dma on'];
      if (call === 'vfioUnmapDma') return ['dma off'];
      return call === 'pwrite' ? ['hardware'] : [];
    });
    machine.kernel.journalBook.clear();
    return [...new Set(steps)];
  };
  machine.kernel.journalBook.clear();
  machine.command(6);
  expect(order()).toEqual(['hardware', 'slot on', 'dma on']);
  machine.command(0);
  expect(order()).toEqual(['dma off', 'slot off', 'hardware']);
});

// Enforces P34.
test('what the IOMMU cannot map is told with the reason, and the guest has its BAR all the same', () => {
  const machine = new TestMachine(
    [everything()],
    (kernel) => {
      const open = kernel.vfio.openContainer.bind(kernel.vfio);
      kernel.vfio.openContainer = () => {
        const made = open();
        made.ranges = [{ start: 0, end: 0xbfff_ffff }];
        return made;
      };
    },
    { p2p: true },
  );
  machine.boot();
  machine.command(6);
  machine.command(0);
  machine.command(6);
  expect(machine.fn.report().bars.find(({ index }) => index === 2)?.p2p).toBe(
    'no (the IOMMU cannot map it there (EINVAL))',
  );
  expect(slots(machine).length).toBeGreaterThan(2);
  expect(machine.warnings.filter((warning) => /BAR2: other devices cannot reach/.test(warning))).toHaveLength(1);
  machine.session.close();
});

// Enforces D38, P17.
test('a BAR of 8 GiB is sized, placed and mapped as one piece, for huge pages and for other devices', () => {
  const address = 0x38_0000_0000;
  const { msix: _, ...spec } = everything();
  const bars = [{ sizeBytes: 8 * GIB, is64: true, prefetch: true, address }];
  const prepare = (kernel: FakeKernel): void => {
    kernel.files.addFile('/sys/module/kvm_amd/parameters/npt', '1\n');
  };
  const machine = new TestMachine([{ ...spec, bars }], prepare, { p2p: true });
  machine.fn.powerOn(machine.vm.services);
  machine.fn.writeConfig(0x10, 4, 0xffff_ffff);
  machine.fn.writeConfig(0x14, 4, 0xffff_ffff);
  expect([machine.readConfig(0x10, 4), machine.readConfig(0x14, 4)]).toEqual([0x0000_000c, 0xffff_fffe]);
  machine.fn.placeBar(0, 72 * GIB);
  machine.command(6);
  const [slot, ...rest] = machine.vm.barSlots;
  expect(rest).toEqual([]);
  expect(slot).toMatchObject({ gpa: 72 * GIB, sizeBytes: 8 * GIB });
  expect(slot!.hva % GIB).toBe(address % GIB);
  expect(peers(machine)).toEqual([[72 * GIB, 8 * GIB, slot!.hva]]);
  expect(machine.fn.report().bars[0]?.wc?.largestPageBytes).toBe(GIB);
  // Its low half alone moves it nowhere: the address bits are all in the upper one.
  machine.fn.writeConfig(0x10, 4, 0xc000_0000);
  expect(machine.barAddress(0)).toBe(72 * GIB);
  machine.fn.writeConfig(0x14, 4, 20);
  expect(machine.vm.barSlots.map(({ gpa }) => gpa)).toEqual([80 * GIB]);
  machine.session.close();
});
