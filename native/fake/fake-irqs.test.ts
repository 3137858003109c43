/** The fake keeps the rules of SET_IRQS and of irqfds, from the device's message to the guest's vector. */

import { beforeEach, describe, expect, it } from 'vitest';
import type { Fd, Gsi, VfioIrqSet } from '../types.ts';
import { VFIO_PCI_IRQ } from '../vfio-abi.ts';
import type { FakeDevice } from './fake-device.ts';
import { FakeKernel } from './fake-kernel.ts';
import { nicSpec, openDevice } from './fixtures.ts';

const code = (name: string) => expect.objectContaining({ name: 'KernelError', code: name });
const { INTX, MSI, MSIX, ERR, REQ } = VFIO_PCI_IRQ;
const gsi = 24 as Gsi;

let kernel: FakeKernel;
let nic: FakeDevice;
let device: Fd;
let vm: Fd;

beforeEach(() => {
  kernel = new FakeKernel();
  nic = kernel.addPciDevice(nicSpec());
  ({ device } = openDevice(kernel));
  vm = kernel.kvmCreateVm(kernel.open('/dev/kvm', 'rw'));
  kernel.vmCreateIrqchip(vm);
});

function trigger(index: number, fds: readonly number[] | null, start = 0, count: number = fds?.length ?? 0): number {
  const data = fds === null ? null : Int32Array.from(fds);
  return kernel.vfioSetIrqs(device, { index, start, count, action: 'trigger', data });
}

function act(index: number, action: VfioIrqSet['action'], data: VfioIrqSet['data'] = null): void {
  kernel.vfioSetIrqs(device, { index, start: 0, count: 1, action, data });
}

describe('SET_IRQS', () => {
  // Enforces I88.
  it('turns on one index at a time', () => {
    const fd = kernel.eventfd();
    trigger(INTX, [fd]);
    expect(() => trigger(MSIX, [fd])).toThrow(code('EINVAL'));
    trigger(INTX, null);
    trigger(MSIX, [fd]);
    expect(() => trigger(MSI, null)).toThrow(code('EINVAL'));
  });

  it('checks ranges and actions', () => {
    const fd = kernel.eventfd();
    expect(() => trigger(MSIX, [fd], 5)).toThrow(code('EINVAL'));
    expect(() => trigger(MSIX, [fd, fd], 4)).toThrow(code('EINVAL'));
    expect(() => act(MSIX, 'mask')).toThrow(code('ENOTTY'));
    expect(() => act(INTX, 'unmask')).toThrow(code('EINVAL'));
    expect(() => act(5, 'trigger')).toThrow(code('EINVAL'));
  });

  it('fires vectors into their eventfds and skips those with -1', () => {
    const fd = kernel.eventfd();
    trigger(MSIX, [-1, fd]);
    expect([nic.fireMsix(0), nic.fireMsix(1)]).toEqual([false, true]);
    expect(kernel.eventfdTake(fd)).toBe(1);
    trigger(MSIX, null, 0, 2); // loopback
    expect(kernel.eventfdTake(fd)).toBe(1);
  });

  it('silences a whole block when one fd is bad', () => {
    const fd = kernel.eventfd();
    trigger(MSIX, [fd]);
    expect(() => trigger(MSIX, [fd, 99])).toThrow(code('EBADF'));
    expect(nic.fireMsix(0)).toBe(false);
  });

  it('adds vectors later only where the kernel can allocate them', () => {
    const fd = kernel.eventfd();
    expect(kernel.vfioIrqInfo(device, MSIX)).toEqual({ flags: 1, count: 5 });
    trigger(MSIX, [-1]);
    trigger(MSIX, [fd], 3);
    expect(nic.fireMsix(3)).toBe(true);
    kernel.addPciDevice(nicSpec({ bdf: '0000:02:00.0', group: 8, vfio: { dynamicMsix: false } }));
    ({ device } = openDevice(kernel, '0000:02:00.0', 8));
    expect(kernel.vfioIrqInfo(device, MSIX).flags).toBe(9);
    trigger(MSIX, [-1]);
    expect(() => trigger(MSIX, [fd], 3)).toThrow(code('EINVAL'));
  });

  it('returns how many vectors are to be had when they are fewer, and turns on nothing', () => {
    kernel.addPciDevice(nicSpec({ bdf: '0000:02:00.0', group: 8, vfio: { availableVectors: 2 } }));
    ({ device } = openDevice(kernel, '0000:02:00.0', 8));
    expect(trigger(MSIX, [-1, -1, -1])).toBe(2);
    expect(kernel.devices.get('0000:02:00.0')!.irqs.active).toBeUndefined();
    expect(trigger(MSIX, [-1, -1])).toBe(0);
  });

  it('signals errors and requests to whoever listens', () => {
    const fd = kernel.eventfd();
    expect(nic.fireError()).toBe(false);
    expect(() => act(REQ, 'trigger')).toThrow(code('EINVAL'));
    trigger(ERR, [fd]);
    expect(nic.fireError()).toBe(true);
  });
});

describe('INTx', () => {
  it('masks itself, and comes again at unmask while the line is up', () => {
    const fd = kernel.eventfd();
    trigger(INTX, [fd]);
    nic.fireIntx();
    nic.fireIntx();
    expect(kernel.eventfdTake(fd)).toBe(1);
    act(INTX, 'unmask');
    expect(kernel.eventfdTake(fd)).toBe(1);
    nic.clearIntx();
    act(INTX, 'unmask');
    expect(kernel.eventfdTake(fd)).toBe(0);
  });

  it('goes round through a resample irqfd', () => {
    const [fd, resampleFd] = [kernel.eventfd(), kernel.eventfd()];
    const pin = 16 as Gsi;
    kernel.vmAssignIrqfd(vm, { fd, gsi: pin, resampleFd });
    trigger(INTX, [fd]);
    act(INTX, 'unmask', Int32Array.of(resampleFd));
    expect(() => act(INTX, 'unmask', Int32Array.of(resampleFd))).toThrow(code('EBUSY'));
    nic.fireIntx();
    kernel.kvm.vm.endOfInterrupt(pin); // the line is still up: again
    nic.clearIntx();
    kernel.kvm.vm.endOfInterrupt(pin);
    expect(kernel.kvm.vm.injections.map((each) => each.gsi)).toEqual([pin, pin]);
  });

  it('waits while the guest disables it in COMMAND', () => {
    const fd = kernel.eventfd();
    trigger(INTX, [fd]);
    const command = 7 * 2 ** 40 + 4;
    kernel.pwrite(device, command, Uint8Array.of(0x03, 0x04), 0, 2);
    nic.fireIntx();
    expect(kernel.isReadable(fd)).toBe(false);
    kernel.pwrite(device, command, Uint8Array.of(0x03, 0x00), 0, 2);
    expect(kernel.isReadable(fd)).toBe(true);
  });
});

describe('irqfds', () => {
  const msi = { kind: 'msi', gsi, addressLo: 0xfee00000, addressHi: 0, data: 0x41 } as const;

  it('records what the guest gets, by the route of that moment', () => {
    const fd = kernel.eventfd();
    kernel.vmAssignIrqfd(vm, { fd, gsi });
    trigger(MSIX, [fd]);
    nic.fireMsix(0);
    kernel.vmSetGsiRouting(vm, [msi]);
    nic.fireMsix(0);
    expect(kernel.kvm.vm.injections.map((each) => each.route)).toEqual([undefined, msi]);
    expect(kernel.isReadable(fd)).toBe(false);
  });

  it('injects an eventfd that is already signalled, at assign', () => {
    const fd = kernel.eventfd();
    kernel.vmSetGsiRouting(vm, [msi]);
    kernel.eventfdSignal(fd, 3);
    kernel.vmAssignIrqfd(vm, { fd, gsi });
    expect(kernel.kvm.vm.injections).toHaveLength(1);
    expect(kernel.eventfdTake(fd)).toBe(0);
  });

  it('takes one irqfd per eventfd, and ends it by fd and GSI', () => {
    const fd = kernel.eventfd();
    kernel.vmAssignIrqfd(vm, { fd, gsi });
    expect(() => kernel.vmAssignIrqfd(vm, { fd, gsi: 25 as Gsi })).toThrow(code('EBUSY'));
    kernel.vmDeassignIrqfd(vm, { fd, gsi: 25 as Gsi });
    expect(kernel.kvm.vm.irqfds).toHaveLength(1);
    kernel.vmDeassignIrqfd(vm, { fd, gsi });
    kernel.eventfdSignal(fd, 1);
    expect(kernel.isReadable(fd)).toBe(true);
  });

  it('needs an interrupt controller', () => {
    const bare = kernel.kvmCreateVm(kernel.open('/dev/kvm', 'rw'));
    expect(() => kernel.vmAssignIrqfd(bare, { fd: kernel.eventfd(), gsi })).toThrow(code('EINVAL'));
    expect(() => kernel.vmCreatePit(bare)).toThrow(code('ENOENT'));
  });
});
