/** BARs that the kernel maps in part, or not at all, from its answer to the guest's address space. */
import { expect, test } from 'vitest';
import { VFIO_CAP_SPARSE_MMAP, VFIO_REGION_CAP, VFIO_REGION_FLAGS, VFIO_REGION_INFO } from '../../native/vfio-abi.ts';
import { e1000e, everything } from '../fixtures/devices.ts';
import { TestMachine } from '../fixtures/test-machine.ts';

const KIB = 1024;

/** VFIO_DEVICE_GET_REGION_INFO with a sparse-mmap capability. */
function sparseRegion(index: number, sizeBytes: number, areas: readonly (readonly [number, number])[]): Uint8Array {
  const { READ, WRITE, MMAP, CAPS } = VFIO_REGION_FLAGS;
  const { bytes, argsz, flags, capOffset, size, offset } = VFIO_REGION_INFO;
  const view = new DataView(new ArrayBuffer(bytes + VFIO_CAP_SPARSE_MMAP.areas + areas.length * 16));
  view.setUint32(argsz, view.byteLength, true);
  view.setUint32(flags, READ | WRITE | MMAP | CAPS, true);
  view.setUint32(VFIO_REGION_INFO.index, index, true);
  view.setUint32(capOffset, bytes, true);
  view.setBigUint64(size, BigInt(sizeBytes), true);
  view.setBigUint64(offset, BigInt(index) * 2n ** 40n, true);
  view.setUint16(bytes, VFIO_REGION_CAP.SPARSE_MMAP, true);
  view.setUint16(bytes + 2, 1, true);
  view.setUint32(bytes + VFIO_CAP_SPARSE_MMAP.nrAreas, areas.length, true);
  for (const [i, [start, length]] of areas.entries()) {
    view.setBigUint64(bytes + VFIO_CAP_SPARSE_MMAP.areas + 16 * i, BigInt(start), true);
    view.setBigUint64(bytes + VFIO_CAP_SPARSE_MMAP.areas + 16 * i + 8, BigInt(length), true);
  }
  return new Uint8Array(view.buffer);
}

// Enforces P11.
test('sparse areas are mapped as they are offered, one mmap each; what lies between is trapped with its width', () => {
  const areas = [
    [0, 8 * KIB],
    [32 * KIB, 64 * KIB],
  ] as const;
  const machine = new TestMachine([{ ...e1000e(), vfio: { rawRegionInfo: { 0: sparseRegion(0, 128 * KIB, areas) } } }]);
  machine.boot();
  machine.command(2);
  const bar = machine.barAddress(0);
  const inBar = machine.vm.barSlots.filter(({ gpa }) => gpa >= bar && gpa < bar + 128 * KIB);
  expect(inBar.map(({ gpa, sizeBytes }) => [gpa - bar, sizeBytes])).toEqual(areas.map((area) => [...area]));
  const maps = machine.kernel.journal.filter(({ call, args }) => call === 'map' && Number(args[1]) < 2 ** 40);
  expect(maps.map(({ args }) => [Number(args[1]), Number(args[2])])).toEqual(areas.map((area) => [...area]));
  machine.vm.write(bar + 8 * KIB, 2, 0xbeef);
  machine.vm.write(bar + 96 * KIB + 4, 4, 0x1234_5678);
  const writes = machine.device.accesses.filter(({ write, via }) => write && via === 'fd');
  expect(writes.map(({ offset, width }) => [offset, width])).toEqual([
    [8 * KIB, 2],
    [96 * KIB + 4, 4],
  ]);
  machine.session.close();
});

// Enforces A5, P10.
test('a BAR below a page that the kernel does not map is trapped, and nothing answers behind its end', () => {
  const spec = everything();
  const bars = spec.bars!.map((bar, index) => (index === 4 && bar ? { ...bar, mmap: false } : bar));
  const machine = new TestMachine([{ ...spec, bars }]);
  machine.boot();
  machine.command(2);
  const bar = machine.barAddress(4);
  expect(bar % 4096).toBe(0);
  expect(machine.vm.vm.slotAt(bar)).toBeUndefined();
  machine.vm.write(bar + 0xfc, 4, 0x55aa_1234);
  expect(machine.vm.read(bar + 0xfc, 4)).toBe(0x55aa_1234);
  expect(machine.vm.read(bar + 0x100, 4), 'nobody’s').toBe(0xffff_ffff);
  machine.fn.writeConfig(0x20, 4, 0xc800_0000);
  expect(machine.vm.read(0xc800_00fc, 4), 'it can move').toBe(0x55aa_1234);
  machine.session.close();
});

// Enforces E52, P19.
test('vectors that cannot be added later are all there from the start, so that none is lost to a new set-up', () => {
  const machine = new TestMachine([{ ...everything(), vfio: { dynamicMsix: false } }]);
  machine.boot();
  machine.command(6);
  const table = machine.barAddress(0) + 0x2000;
  machine.fn.writeConfig(machine.capability(0x11) + 2, 2, 0x8000);
  machine.armMsix(0, 0x30, table);
  const enabled = machine.kernel.calls('vfioSetIrqs').length;
  for (let vector = 1; vector < 20; vector++) {
    machine.armMsix(vector, 0x30 + vector, table);
    machine.device.fireMsix(0);
  }
  machine.device.fireMsix(19);
  expect(machine.injected()).toEqual([...Array.from({ length: 19 }, () => 0x30), 0x43]);
  const later = machine.kernel.journal.filter(({ call }) => call === 'vfioSetIrqs').slice(enabled);
  expect(
    later.every(({ args }) => (args[1] as { count: number }).count > 0),
    'never turned off',
  ).toBe(true);
  machine.session.close();
});
