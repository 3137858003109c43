/** The fake's files, drivers, fds, memory and slots. */

import { beforeEach, describe, expect, it } from 'vitest';
import type { Gpa, Hva } from '../types.ts';
import { FakeKernel } from './fake-kernel.ts';
import { nicSpec, openDevice } from './fixtures.ts';

const code = (name: string) => expect.objectContaining({ name: 'KernelError', code: name });
const BDF = '0000:01:00.0';
const sysfs = `/sys/bus/pci/devices/${BDF}`;

let kernel: FakeKernel;
const text = (path: string) => new TextDecoder().decode(kernel.readFile(path));

beforeEach(() => {
  kernel = new FakeKernel();
});

describe('sysfs', () => {
  it('shows a function with its links', () => {
    kernel.addPciDevice(nicSpec({ driver: 'e1000e' }));
    expect(text(`${sysfs}/vendor`)).toBe('0x8086\n');
    expect(text(`${sysfs}/class`)).toBe('0x020000\n');
    expect(kernel.readLink(`${sysfs}/driver`)).toBe('../../../bus/pci/drivers/e1000e');
    expect(kernel.readLink(`${sysfs}/iommu_group`)).toMatch(/\/iommu_groups\/7$/);
    expect(kernel.readDir(`${sysfs}/iommu_group/devices`)).toEqual([BDF]);
    expect(kernel.readDir(`${sysfs}/driver`)).toContain(BDF);
    expect(text(`${sysfs}/resource`).split('\n')[0]).toBe('0x00000000febc0000 0x00000000febdffff 0x0000000000040200');
    expect(kernel.readFile(`${sysfs}/config`)).toHaveLength(4096);
    expect(kernel.exists('/dev/vfio/7')).toBe(false);
  });

  it('moves a function to vfio-pci and back the way the kernel does', () => {
    kernel.addPciDevice(nicSpec({ driver: 'e1000e' }));
    kernel.writeFile(`${sysfs}/driver_override`, 'vfio-pci');
    kernel.writeFile(`${sysfs}/driver/unbind`, BDF);
    expect(kernel.exists(`${sysfs}/driver`)).toBe(false);
    kernel.writeFile('/sys/bus/pci/drivers_probe', BDF);
    expect(kernel.readLink(`${sysfs}/driver`)).toMatch(/vfio-pci$/);
    expect(kernel.exists('/dev/vfio/7')).toBe(true);
    kernel.writeFile(`${sysfs}/driver_override`, '\n');
    expect(text(`${sysfs}/driver_override`)).toBe('(null)\n');
    kernel.writeFile(`${sysfs}/driver/unbind`, BDF);
    kernel.writeFile('/sys/bus/pci/drivers_probe', BDF);
    expect(kernel.readLink(`${sysfs}/driver`)).toMatch(/e1000e$/);
    expect(kernel.exists('/dev/vfio/7')).toBe(false);
  });

  it('says what the kernel says', () => {
    kernel.addPciDevice(nicSpec({ driver: 'e1000e' }));
    const bind = '/sys/bus/pci/drivers/vfio-pci/bind';
    expect(() => kernel.writeFile(bind, BDF)).toThrow(expect.objectContaining({ code: 'ENODEV', path: bind }));
    kernel.writeFile(`${sysfs}/driver_override`, 'vfio-pci');
    expect(() => kernel.writeFile(bind, BDF)).toThrow(code('EBUSY'));
    expect(() => kernel.writeFile('/sys/bus/pci/drivers/vfio-pci/unbind', BDF)).toThrow(code('ENODEV'));
    expect(() => kernel.writeFile('/sys/bus/pci/drivers_probe', '0000:09:00.0')).toThrow(code('ENODEV'));
    const ids = '/sys/bus/pci/drivers/vfio-pci/new_id';
    kernel.writeFile(ids, '1af4 1041');
    expect(() => kernel.writeFile(ids, '1af4 1041')).toThrow(code('EEXIST'));
    expect(() => kernel.writeFile(`${sysfs}/nothing`, '1')).toThrow(code('ENOENT'));
  });

  it('probes with success and binds nothing where there is no IOMMU', () => {
    const { group: _, ...spec } = nicSpec();
    const { driver: __, ...bare } = spec;
    kernel.addPciDevice(bare);
    kernel.writeFile(`${sysfs}/driver_override`, 'vfio-pci');
    kernel.writeFile('/sys/bus/pci/drivers_probe', BDF);
    expect(kernel.exists(`${sysfs}/driver`)).toBe(false);
    expect(() => kernel.writeFile('/sys/bus/pci/drivers/vfio-pci/bind', BDF)).toThrow(code('EINVAL'));
  });

  it('asks for an open device back before it is unbound', () => {
    const nic = kernel.addPciDevice(nicSpec());
    const { device } = openDevice(kernel);
    const fd = kernel.eventfd();
    kernel.vfioSetIrqs(device, { index: 4, start: 0, count: 1, action: 'trigger', data: Int32Array.of(fd) });
    expect(() => kernel.writeFile(`${sysfs}/driver/unbind`, BDF)).toThrow(/blocks for ever/);
    expect(kernel.eventfdTake(fd)).toBe(1);
    kernel.close(device);
    kernel.writeFile(`${sysfs}/driver/unbind`, BDF);
    expect(nic.driver).toBeUndefined();
  });

  it('refuses what is not permitted', () => {
    kernel.addPciDevice(nicSpec());
    kernel.files.deny('/dev/vfio/7', 'rw');
    expect(() => kernel.open('/dev/vfio/7', 'rw')).toThrow(code('EACCES'));
    expect(kernel.access('/dev/vfio/7', 'rw')).toBe(-13);
    expect(kernel.access('/dev/kvm', 'rw')).toBe(0);
    expect(kernel.access('/dev/iommu', 'rw')).toBe(-2);
  });
});

describe('fds and memory', () => {
  it('delivers watches at flush or on the event loop, coalesced', async () => {
    const fd = kernel.eventfd();
    const counts: number[] = [];
    kernel.watch(fd, (count) => counts.push(count));
    kernel.eventfdSignal(fd, 2);
    kernel.eventfdSignal(fd, 3);
    kernel.flush();
    expect(counts).toEqual([5]);
    kernel.eventfdSignal(fd, 1);
    await new Promise((resolve) => setImmediate(resolve));
    expect(counts).toEqual([5, 1]);
    kernel.eventfdSignal(fd, 1);
    kernel.unwatch(fd);
    kernel.flush();
    expect(counts).toEqual([5, 1]);
    expect(kernel.isReadable(fd)).toBe(true);
  });

  it('keeps the bytes of a memfd and detaches views at unmap', () => {
    const memory = kernel.memfd('ram', 0x10000, 0);
    const hva = kernel.map(memory, 0, 0x10000);
    const view = new Uint8Array(kernel.view(hva, 0x10000));
    view[5] = 42;
    expect(new Uint8Array(kernel.view(hva, 0x10000))[5]).toBe(42);
    kernel.unmap(hva);
    kernel.unmap(hva);
    expect(view.length).toBe(0);
    const again = kernel.map(memory, 0, 0x10000);
    expect(new Uint8Array(kernel.view(again, 0x10000))[5]).toBe(42);
    expect(() => kernel.view((again + 0x8000) as Hva, 0x10000)).toThrow(code('EFAULT'));
  });

  it('reports leaks, also a device that only a mapping keeps open', () => {
    const nic = kernel.addPciDevice(nicSpec());
    const { container, group, device } = openDevice(kernel);
    const hva = kernel.map(device, 0, 0x1000);
    for (const fd of [device, group, container]) kernel.close(fd);
    expect(kernel.openFds()).toEqual([]);
    expect(nic.isOpen).toBe(true);
    expect(kernel.liveMappings()).toMatchObject([{ hva, sizeBytes: 0x1000, label: `vfio-device ${BDF}` }]);
    kernel.unmap(hva);
    expect(nic.isOpen).toBe(false);
    expect(() => kernel.close(device)).toThrow(code('EBADF'));
  });
});

describe('KVM', () => {
  it('keeps the rules of memory slots', () => {
    const vm = kernel.kvmCreateVm(kernel.open('/dev/kvm', 'rw'));
    const hva = kernel.mapAnonymous(0x10000);
    const set = (slot: number, gpa: number, size: number, from: number = hva, readonly = false) =>
      kernel.vmSetMemorySlot(vm, slot, gpa as Gpa, size, from as Hva, readonly);
    set(0, 0, 0x10000);
    expect(() => set(1, 0xf000, 0x1000)).toThrow(code('EEXIST'));
    expect(() => set(1, 0x20800, 0x1000)).toThrow(code('EINVAL'));
    expect(() => set(0, 0, 0x8000)).toThrow(code('EINVAL'));
    expect(() => set(0, 0, 0x10000, hva, true)).toThrow(code('EINVAL'));
    set(0, 0x100000, 0x10000); // moves
    expect(kernel.kvm.vm.slotAt(0x100000)?.slot).toBe(0);
    set(0, 0x100000, 0);
    expect(kernel.kvm.vm.slots.size).toBe(0);
    expect(() => set(3, 0, 0)).toThrow(code('EINVAL'));
  });

  it('plays scripted exits and is kicked', () => {
    const kvm = kernel.open('/dev/kvm', 'rw');
    const vcpu = kernel.vmCreateVcpu(kernel.kvmCreateVm(kvm), 0);
    const { hva, sizeBytes } = kernel.vcpuMapRun(kvm, vcpu);
    kernel.kvm.vcpus[0]!.exits.push((run) => {
      run.setUint32(8, 5, true);
      return 0;
    });
    expect(kernel.vcpuRun(vcpu)).toBe(0);
    expect(new DataView(kernel.view(hva, sizeBytes)).getUint32(8, true)).toBe(5);
    kernel.vcpuKick(vcpu);
    expect(kernel.vcpuRun(vcpu)).toBe(-4);
  });
});

describe('journal', () => {
  it('keeps calls in order with arguments as they were, and injects faults', () => {
    const fd = kernel.eventfd();
    kernel.failNext('eventfdSignal', 'EIO', ([, count]) => count === 2);
    kernel.eventfdSignal(fd, 1);
    expect(() => kernel.eventfdSignal(fd, 2)).toThrow(code('EIO'));
    kernel.failNext('pread', 'EIO');
    expect(kernel.pread(fd, 0, new Uint8Array(4), 0, 4)).toBe(-5);
    expect(kernel.calls()).toEqual(['eventfd', 'eventfdSignal', 'eventfdSignal!EIO', 'pread!EIO']);
    expect(kernel.journal[1]).toMatchObject({ call: 'eventfdSignal', args: [fd, 1] });
    expect(kernel.journal[3]).toMatchObject({ args: [fd, 0, 4] });
    expect(kernel.journalBook.unusedFaults()).toEqual([]);
  });
});
