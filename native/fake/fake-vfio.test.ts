/** The fake keeps VFIO's rules, so that tests of the layers above mean something. */

import { beforeEach, describe, expect, it } from 'vitest';
import type { Hva, Iova } from '../types.ts';
import type { FakeDevice } from './fake-device.ts';
import { FakeKernel } from './fake-kernel.ts';
import { nicSpec, type OpenedDevice, openDevice } from './fixtures.ts';

const code = (name: string) => expect.objectContaining({ name: 'KernelError', code: name });
const CONFIG = 7 * 2 ** 40;
const EIO = -5;

let kernel: FakeKernel;
let nic: FakeDevice;

beforeEach(() => {
  kernel = new FakeKernel();
  nic = kernel.addPciDevice(nicSpec());
});

function read(device: OpenedDevice['device'], offset: number, width: number): number {
  const bytes = new Uint8Array(8);
  const result = kernel.pread(device, offset, bytes, 0, width);
  return result < 0 ? result : Number(new DataView(bytes.buffer).getBigUint64(0, true));
}

function write(device: OpenedDevice['device'], offset: number, width: number, value: number): number {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return kernel.pwrite(device, offset, bytes, 0, width);
}

describe('groups and containers', () => {
  it('opens a group once', () => {
    openDevice(kernel);
    expect(() => kernel.open('/dev/vfio/7', 'rw')).toThrow(
      expect.objectContaining({ code: 'EBUSY', path: '/dev/vfio/7' }),
    );
  });

  it('gives no device before the container has an IOMMU', () => {
    const group = kernel.open('/dev/vfio/7', 'rw');
    expect(() => kernel.vfioGroupGetDevice(group, '0000:01:00.0')).toThrow(code('EINVAL'));
  });

  it('refuses a group with a member on a native driver', () => {
    kernel.addPciDevice(nicSpec({ bdf: '0000:01:00.1', driver: 'e1000e' }));
    const group = kernel.open('/dev/vfio/7', 'rw');
    expect(kernel.vfioGroupStatus(group)).toBe(0);
    const container = kernel.open('/dev/vfio/vfio', 'rw');
    expect(() => kernel.vfioGroupSetContainer(group, container)).toThrow(code('EPERM'));
  });

  it('refuses an IOMMU without interrupt remapping', () => {
    kernel.vfio.interruptRemapping = false;
    expect(() => openDevice(kernel)).toThrow(code('EPERM'));
    kernel.vfio.allowUnsafeInterrupts = true;
    for (const { fd } of kernel.openFds()) kernel.close(fd);
    expect(() => openDevice(kernel)).not.toThrow();
  });

  it('wants the token of a VF', () => {
    nic.vfToken = 'f00d';
    expect(() => openDevice(kernel)).toThrow(code('EACCES'));
    for (const { fd } of kernel.openFds()) kernel.close(fd);
    expect(() => openDevice(kernel, '0000:01:00.0 vf_token=f00d')).not.toThrow();
  });

  it('keeps a group busy while its device is open, and while KVM holds it', () => {
    const { container, group, device } = openDevice(kernel);
    const vm = kernel.kvmCreateVm(kernel.open('/dev/kvm', 'rw'));
    const kvmVfio = kernel.vmCreateDevice(vm, 'vfio');
    kernel.kvmVfioAddFile(kvmVfio, group);
    expect(() => kernel.kvmVfioAddFile(kvmVfio, group)).toThrow(code('EEXIST'));
    expect(() => kernel.kvmVfioAddFile(kvmVfio, vm)).toThrow(code('EINVAL'));
    expect(() => kernel.vmCreateDevice(vm, 'vfio')).toThrow(code('EBUSY'));
    expect(() => kernel.vfioGroupUnsetContainer(group)).toThrow(code('EBUSY'));
    for (const fd of [device, group, container]) kernel.close(fd);
    expect(() => kernel.open('/dev/vfio/7', 'rw')).toThrow(code('EBUSY'));
    kernel.close(kvmVfio);
    expect(() => kernel.open('/dev/vfio/7', 'rw')).not.toThrow();
  });
});

describe('DMA', () => {
  const map = (container: OpenedDevice['container'], hva: number, iova: number, size: number) =>
    kernel.vfioMapDma(container, hva as Hva, iova as Iova, size);

  it('keeps the rules of type1', () => {
    const { container } = openDevice(kernel);
    const ram = kernel.mapAnonymous(0x100000);
    map(container, ram, 0, 0x10000);
    expect(() => map(container, ram, 0x8000, 0x1000)).toThrow(code('EEXIST'));
    expect(() => map(container, ram, 0x20000, 0x800)).toThrow(code('EINVAL'));
    expect(() => map(container, ram, 0xfee00000, 0x1000)).toThrow(code('EINVAL'));
    expect(() => map(container, 0x1000, 0x20000, 0x1000)).toThrow(code('EFAULT'));
    expect(() => kernel.vfioUnmapDma(container, 0 as Iova, 0x8000)).toThrow(code('EINVAL'));
    expect(kernel.vfioUnmapDma(container, 0x40000 as Iova, 0x1000)).toBe(0);
    expect(kernel.vfioUnmapDma(container, 0 as Iova, 0x20000)).toBe(0x10000);
  });

  it('runs into the memlock limit and into the number of mappings', () => {
    const { container } = openDevice(kernel);
    const ram = kernel.mapAnonymous(0x100000);
    kernel.process.limits.memlock = { soft: 0x2000, hard: 0x100000 };
    map(container, ram, 0, 0x2000);
    expect(() => map(container, ram, 0x10000, 0x1000)).toThrow(code('ENOMEM'));
    kernel.setResourceLimit('memlock', 0x100000, 0x100000);
    map(container, ram, 0x10000, 0x1000);
    kernel.vfio.containers[0]!.maxMappings = 2;
    expect(() => map(container, ram, 0x20000, 0x1000)).toThrow(code('ENOSPC'));
  });
});

describe('configuration space', () => {
  it('sizes BARs and keeps their type bits', () => {
    const { device } = openDevice(kernel);
    for (const at of [0x10, 0x14, 0x18, 0x1c]) write(device, CONFIG + at, 4, 0xffffffff);
    expect(read(device, CONFIG + 0x10, 4)).toBe(0xfffe0000);
    expect(read(device, CONFIG + 0x14, 4)).toBe(0);
    expect(read(device, CONFIG + 0x18, 4)).toBe(0xffffffe1);
    expect(nic.config.hardware[0x13]).toBe(0xfe); // the hardware's BAR did not move
  });

  it('sizes 64-bit BARs', () => {
    kernel.addPciDevice(
      nicSpec({ bdf: '0000:02:00.0', group: 8, bars: [{ sizeBytes: 2 ** 33, is64: true, prefetch: true }] }),
    );
    const { device } = openDevice(kernel, '0000:02:00.0', 8);
    write(device, CONFIG + 0x10, 4, 0xffffffff);
    write(device, CONFIG + 0x14, 4, 0xffffffff);
    expect(read(device, CONFIG + 0x10, 4)).toBe(0xc);
    expect(read(device, CONFIG + 0x14, 4)).toBe(0xfffffffe);
  });

  // Enforces I88.
  it('drops writes to read-only fields with success, and lets gap bytes through to the hardware', () => {
    const { device } = openDevice(kernel);
    expect(write(device, CONFIG, 2, 0x1234)).toBe(0);
    expect(read(device, CONFIG, 2)).toBe(0x8086);
    write(device, CONFIG + 0x72, 2, 0x8000); // MSI-X Enable
    expect(read(device, CONFIG + 0x72, 2)).toBe(4);
    write(device, CONFIG + 0xf8, 4, 0xdeadbeef);
    expect(new DataView(nic.config.hardware.buffer).getUint32(0xf8, true)).toBe(0xdeadbeef);
    expect(read(device, CONFIG + 4096, 4)).toBe(-14);
  });

  it('stops answering on BARs without COMMAND.MEM and in D3', () => {
    const { device } = openDevice(kernel);
    const mapping = kernel.map(device, 0, 0x1000);
    expect(write(device, 0x10, 4, 0x55)).toBe(0);
    expect(kernel.mmioRead(mapping, 0x10, 4)).toBe(0x55n);
    write(device, CONFIG + 4, 2, 0x0001);
    expect(read(device, 0x10, 4)).toBe(EIO);
    expect(() => kernel.mmioRead(mapping, 0x10, 4)).toThrow(code('EIO'));
    write(device, CONFIG + 4, 2, 0x0002);
    expect(read(device, 0x10, 4)).toBe(0x55);
    write(device, CONFIG + 0x44, 2, 3);
    expect(read(device, 0x10, 4)).toBe(EIO);
    expect(nic.accesses.map(({ width, write, via }) => [width, write, via])).toEqual([
      [4, true, 'fd'],
      [4, false, 'mmap'],
      [4, false, 'fd'],
    ]);
  });

  it('resets at FLR and clears the bit', () => {
    const { device } = openDevice(kernel);
    write(device, CONFIG + 0x88, 2, 0x8000);
    expect(read(device, CONFIG + 0x88, 2) & 0x8000).toBe(0);
    expect(nic.resets).toEqual(['open', 'flr']);
  });
});

describe('regions', () => {
  it('hides the MSI-X table from the fd and shows it to a mapping', () => {
    const { device } = openDevice(kernel);
    const bar3 = 3 * 2 ** 40;
    expect(read(device, bar3, 4)).toBe(0xffffffff);
    const mapping = kernel.map(device, bar3, 0x1000);
    expect(kernel.mmioRead(mapping, 0, 4)).toBe(0n);
  });

  it('refuses to map I/O BARs and beyond a BAR, and to view device memory', () => {
    const { device } = openDevice(kernel);
    expect(() => kernel.map(device, 2 * 2 ** 40, 0x1000)).toThrow(code('EINVAL'));
    expect(() => kernel.map(device, 0, 0x40000)).toThrow(code('EINVAL'));
    const mapping = kernel.map(device, 0, 0x20000, { align: 0x200000, phase: 0x20000 });
    expect(mapping % 0x200000).toBe(0x20000);
    expect(() => kernel.view(mapping, 0x1000)).toThrow(/device memory/);
  });

  it('returns scripted bytes, malformed ones too', () => {
    const raw = Uint8Array.of(1, 2, 3);
    kernel.addPciDevice(nicSpec({ bdf: '0000:03:00.0', group: 9, vfio: { rawRegionInfo: { 0: raw, 1: null } } }));
    const { device } = openDevice(kernel, '0000:03:00.0', 9);
    expect(kernel.vfioRegionInfo(device, 0)).toEqual(raw);
    expect(() => kernel.vfioRegionInfo(device, 1)).toThrow(code('EINVAL'));
    expect(() => kernel.vfioRegionInfo(device, 8)).toThrow(code('EINVAL'));
  });
});

describe('resets', () => {
  it('wants all affected groups for a hot reset', () => {
    kernel.addPciDevice(nicSpec({ bdf: '0000:01:00.1', group: 8 }));
    const { group, device } = openDevice(kernel);
    expect(kernel.vfioHotResetInfo(device).length).toBe(12 + 2 * 8);
    expect(() => kernel.vfioHotReset(device, [group])).toThrow(code('EINVAL'));
    const other = kernel.open('/dev/vfio/8', 'rw');
    kernel.vfioHotReset(device, [group, other]);
    expect(nic.resets).toEqual(['open', 'hot']);
  });

  it('fails when the function has none, or when told to', () => {
    const { device } = openDevice(kernel);
    kernel.failNext('vfioDeviceReset', 'EAGAIN');
    expect(() => kernel.vfioDeviceReset(device)).toThrow(code('EAGAIN'));
    kernel.vfioDeviceReset(device);
    expect(kernel.calls('vfioDeviceReset')).toEqual(['vfioDeviceReset!EAGAIN', 'vfioDeviceReset']);
    expect(() => kernel.vfioDeviceFeature(device, 0x10000 | 1, new Uint8Array(8))).toThrow(code('ENOTTY'));
  });
});
