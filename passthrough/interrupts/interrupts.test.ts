/** Interrupts at their corners: what VFIO and KVM are asked for, and in which order. */
import { describe, expect, test } from 'vitest';
import type { FakeKernel } from '../../native/fake/fake-kernel.ts';
import type { FakePciSpec } from '../../native/fake/pci-spec.ts';
import { KVM_CAP } from '../../native/kvm-abi.ts';
import type { Fd, Vfio, VfioIrqSet } from '../../native/types.ts';
import { e1000e, everything } from '../fixtures/devices.ts';
import { TestMachine } from '../fixtures/test-machine.ts';
import { DeviceIrqs } from '../vfio/irqs.ts';

const MSI = 1;
const MSIX = 2;
const GSI = 16 as never;

function booted(spec: FakePciSpec = everything(), prepare?: (kernel: FakeKernel) => void): TestMachine {
  const machine = new TestMachine([spec], prepare);
  machine.boot();
  machine.command(7);
  return machine;
}

/** MSI-X on; returns the guest address of the table. */
function msixOn(machine: TestMachine): number {
  machine.fn.writeConfig(machine.capability(0x11) + 2, 2, 0x8000);
  return machine.barAddress(0) + 0x2000;
}

const setIrqs = (machine: TestMachine): VfioIrqSet[] =>
  machine.kernel.journal.filter(({ call }) => call === 'vfioSetIrqs').map(({ args }) => args[1] as VfioIrqSet);

describe('messages', () => {
  // Enforces P7.
  test('that are turned on, off or over in D3hot take hold in D0', () => {
    const machine = booted();
    const power = machine.capability(1) + 4;
    machine.fn.writeConfig(power, 2, 3);
    msixOn(machine);
    machine.fn.writeConfig(power, 2, 0);
    expect(machine.fn.report().interrupts.mode).toBe('msix');
    expect(machine.device.irqs.active).toBe(MSIX);
    machine.armMsix(0, 0x30, machine.barAddress(0) + 0x2000);
    machine.device.fireMsix(0);
    expect(machine.injected()).toEqual([0x30]);

    machine.fn.writeConfig(power, 2, 3);
    machine.fn.writeConfig(machine.capability(0x11) + 2, 2, 0);
    machine.fn.writeConfig(power, 2, 0);
    expect(machine.device.irqs.active).not.toBe(MSIX);
  });

  // Enforces E58, P32.
  test('one that changes while interrupts come: each interrupt comes once, with the message of its moment', () => {
    const machine = booted();
    const entry = msixOn(machine) + 16 * 3;
    machine.armMsix(3, 0, machine.barAddress(0) + 0x2000);
    const expected: number[] = [];
    for (let i = 0; i < 2000; i++) {
      const data = i & 0xff;
      // As Linux moves an interrupt: mask, message, unmask; the device does not wait for that.
      machine.vm.write(entry + 12, 4, 1);
      machine.device.fireMsix(3);
      machine.vm.write(entry + 8, 4, data);
      machine.vm.write(entry + 12, 4, 0);
      machine.device.fireMsix(3);
      expected.push(data, data);
      machine.kernel.journalBook.clear();
      machine.vm.vm.routeTables.length = 0;
    }
    expect(machine.injected()).toEqual(expected);
  }, 60_000);

  // Enforces E59.
  test('to a destination beyond 255 go where they shall, where KVM has the format for it', () => {
    const machine = booted();
    const table = msixOn(machine);
    machine.armMsix(0, 0x30, table);
    const route = () => machine.vm.vm.routes.find(({ kind }) => kind === 'msi');
    expect(route()).toMatchObject({ addressLo: 0xfee0_0000, addressHi: 0, data: 0x30 });
    // Processor 0x7f05: bits 7:0 in bits 19:12 of the address, 14:8 in bits 11:5.
    machine.vm.write(table, 4, 0xfee0_5fe0);
    expect(route()).toMatchObject({ addressLo: 0xfee0_5000, addressHi: 0x7f00, data: 0x30 });
    machine.device.fireMsix(0);
    expect(machine.injected()).toEqual([0x30]);
  });

  // Enforces E59.
  test('and where it has not, to nobody', () => {
    const machine = booted(everything(), (kernel) => void kernel.kvm.capabilities.delete(KVM_CAP.X2APIC_API));
    const table = msixOn(machine);
    machine.armMsix(0, 0x30, table);
    machine.vm.write(table, 4, 0xfee0_5fe0);
    expect(machine.fn.report().interrupts.routed).toBe(0);
    machine.device.fireMsix(0);
    expect(machine.injected()).toEqual([]);
  });

  // Enforces E59.
  test('past the window of the local APICs are not delivered, least of all to the processor that their low bits name', () => {
    const machine = booted();
    const table = msixOn(machine);
    machine.armMsix(0, 0x30, table);
    machine.vm.write(table + 4, 4, 0x0000_0100);
    expect(machine.fn.report().interrupts.routed).toBe(0);
    machine.device.fireMsix(0);
    expect(machine.injected()).toEqual([]);
    machine.vm.write(table + 4, 4, 0);
    expect(machine.injected(), 'the one that waited').toEqual([0x30]);
  });

  // Enforces P23, E54.
  test('MSI is turned on in VFIO with all messages at once, never in the hardware', () => {
    const machine = booted();
    const msi = machine.capability(5);
    machine.kernel.journalBook.clear();
    machine.device.configAccesses.length = 0;
    machine.fn.writeConfig(msi + 4, 4, 0xfee0_0000);
    machine.fn.writeConfig(msi + 12, 2, 0x40);
    // 32 messages are more than the 8 of the device.
    machine.fn.writeConfig(msi + 2, 2, 0x0051);
    expect(setIrqs(machine).filter(({ index, count }) => index === MSI && count > 0)).toMatchObject([
      { start: 0, count: 8 },
    ]);
    expect(machine.fn.report().interrupts).toEqual({ mode: 'msi', available: 8, routed: 8 });
    expect(machine.device.configAccesses.filter(({ write, offset }) => write && offset >= msi)).toEqual([]);
  });

  // Enforces P25, E51.
  test('the control word of MSI-X never goes to the hardware; its function mask holds back and keeps single masks', () => {
    const machine = booted();
    const table = msixOn(machine);
    const control = machine.capability(0x11) + 2;
    for (const vector of [0, 1]) machine.armMsix(vector, 0x30 + vector, table);
    machine.vm.write(table + 12, 4, 1);
    machine.device.configAccesses.length = 0;
    machine.fn.writeConfig(control, 2, 0xc000);
    for (const vector of [0, 1]) machine.device.fireMsix(vector);
    expect(machine.injected()).toEqual([]);
    expect(machine.vm.read(machine.barAddress(0) + 0x3800, 4), 'both are pending').toBe(3);
    machine.fn.writeConfig(control, 2, 0x8000);
    expect(machine.injected()).toEqual([0x31]);
    expect([0, 1].map((vector) => machine.vm.read(table + 16 * vector + 12, 4))).toEqual([1, 0]);
    machine.vm.write(table + 12, 4, 0);
    expect(machine.injected()).toEqual([0x31, 0x30]);
    expect(machine.device.configAccesses.filter(({ write }) => write)).toEqual([]);
  });

  // Enforces E54, P20.
  test('fewer than asked for is an offer, and so is less than that again', () => {
    const machine = new TestMachine([{ ...everything(), vfio: { availableVectors: 4 } }]);
    machine.boot();
    const set = machine.kernel.vfioSetIrqs.bind(machine.kernel);
    const asked: number[] = [];
    machine.kernel.vfioSetIrqs = (device, request) => {
      if (request.index !== MSI || request.count === 0) return set(device, request);
      asked.push(request.count);
      // Others took two of them in the meantime.
      return request.count === 4 ? 2 : set(device, request);
    };
    machine.fn.writeConfig(machine.capability(5) + 2, 2, 0x0031);
    expect(asked).toEqual([8, 4, 2]);
    expect(machine.fn.report().interrupts.routed).toBe(0);
    machine.fn.writeConfig(machine.capability(5) + 4, 4, 0xfee0_0000);
    expect(machine.fn.report().interrupts.routed).toBe(2);
    expect(machine.device.fireMsi(1)).toBe(true);
    expect(machine.device.fireMsi(2)).toBe(false);
    expect(machine.warnings).toEqual(['the host gives only 2 of 8 MSI vectors']);
  });
});

describe('a failure', () => {
  // Enforces E60.
  test('an fd that is none never reaches SET_IRQS', () => {
    const calls: VfioIrqSet[] = [];
    const vfio = { vfioSetIrqs: (_device: Fd, set: VfioIrqSet) => calls.push(set) } as unknown as Vfio;
    const irqs = new DeviceIrqs(vfio, 3 as Fd, MSIX);
    for (const bad of [-2, 1.5, Number.NaN]) expect(() => irqs.trigger(0, [5, bad])).toThrow(RangeError);
    expect(calls).toEqual([]);
  });

  // Enforces E60.
  test('of one vector leaves the others, is told once, and is tried again when MSI-X is turned on again', () => {
    const machine = booted();
    const table = msixOn(machine);
    machine.armMsix(0, 0x30, table);
    machine.kernel.failNext('vfioSetIrqs', 'ENOSPC');
    machine.armMsix(1, 0x31, table);
    machine.armMsix(2, 0x32, table);
    for (let i = 0; i < 5; i++) {
      machine.vm.write(table + 16 + 12, 4, 1);
      machine.vm.write(table + 16 + 12, 4, 0);
    }
    for (const vector of [0, 1, 2]) machine.device.fireMsix(vector);
    expect(machine.injected()).toEqual([0x30, 0x32]);
    expect(machine.warnings).toEqual([expect.stringMatching(/vector 1 cannot be set up.*ENOSPC/)]);
    const control = machine.capability(0x11) + 2;
    machine.fn.writeConfig(control, 2, 0);
    machine.fn.writeConfig(control, 2, 0x8000);
    for (const vector of [0, 1, 2]) machine.device.fireMsix(vector);
    expect(machine.injected().slice(2)).toEqual([0x30, 0x31, 0x32]);
  });

  // Enforces P54.
  test('to get another eventfd costs that vector and a warning that names the limit', () => {
    const machine = booted();
    const table = msixOn(machine);
    machine.kernel.failNext('eventfd', 'EMFILE');
    machine.armMsix(0, 0x30, table);
    machine.armMsix(1, 0x31, table);
    for (const vector of [0, 1]) machine.device.fireMsix(vector);
    expect(machine.injected()).toEqual([0x31]);
    expect(machine.warnings).toEqual([expect.stringMatching(/vector 0 cannot be set up.*EMFILE/)]);
  });
});

describe('INTx', () => {
  // Enforces P28, P26.
  test('costs no BAR its mapping, from the interrupt to its end', () => {
    const machine = booted(e1000e());
    const slots = machine.vm.barSlots;
    machine.kernel.journalBook.clear();
    machine.device.fireIntx();
    expect(machine.vm.barSlots).toEqual(slots);
    machine.device.clearIntx();
    machine.vm.vm.endOfInterrupt(GSI);
    expect(machine.vm.barSlots).toEqual(slots);
    expect(machine.device.irqs.intxMasked, 'unmasked by the kernel').toBe(false);
    expect(machine.kernel.calls('vmSetMemorySlot', 'vfioSetIrqs'), 'without user space').toEqual([]);
  });

  // Enforces E55.
  test('one end of interrupt is one unmask, and an end without an interrupt brings none', () => {
    const machine = booted(e1000e());
    const count = (): number => machine.vm.vm.injections.filter(({ how }) => how === 'irqfd').length;
    for (let i = 0; i < 3; i++) machine.vm.vm.endOfInterrupt(GSI);
    expect(count()).toBe(0);
    machine.device.fireIntx();
    machine.device.fireIntx();
    expect(count(), 'masked until its end').toBe(1);
  });

  // Enforces E57, P24.
  test('takes turns with MSI and MSI-X, one index of VFIO at a time, nothing left behind', () => {
    const machine = booted();
    const files = (): number => machine.kernel.openFds().filter(({ label }) => label === 'eventfd').length;
    const before = files();
    const [msi, msix] = [machine.capability(5) + 2, machine.capability(0x11) + 2];
    machine.fn.writeConfig(machine.capability(5) + 4, 4, 0xfee0_0000);
    for (let i = 0; i < 20; i++) {
      machine.fn.writeConfig(msi, 2, 0x0011);
      expect(machine.device.irqs.active).toBe(MSI);
      // A driver that forgets to turn the one off before the other: MSI-X wins, and never are both on.
      machine.fn.writeConfig(msix, 2, 0x8000);
      machine.armMsix(0, 0x30, machine.barAddress(0) + 0x2000);
      expect(machine.device.irqs.active).toBe(MSIX);
      expect(machine.device.fireMsi(0)).toBe(false);
      machine.fn.writeConfig(msi, 2, 0);
      machine.fn.writeConfig(msix, 2, 0);
      expect(machine.device.irqs.active).toBe(0);
    }
    expect(files()).toBe(before);
    expect(machine.vm.vm.irqfds.map(({ gsi }) => gsi)).toEqual([GSI]);
    expect(machine.vm.vm.routes.filter(({ kind }) => kind === 'msi')).toEqual([]);
    expect(machine.warnings).toEqual([]);
  });
});

// Enforces G68, P46, E52.
test('the guest’s own reset: vectors are gone, config space is as after power-on, and what is enabled again works', () => {
  const machine = booted();
  const table = msixOn(machine);
  machine.armMsix(5, 0x55, table);
  const address = machine.barAddress(2);
  machine.fn.writeConfig(machine.capability(0x10) + 8, 2, 0x8000);
  expect(machine.device.irqs.active, 'INTx').toBe(0);
  expect(machine.device.fireMsix(5)).toBe(false);
  expect(machine.readConfig(0x04, 2)).toBe(0);
  expect(machine.readConfig(machine.capability(0x11) + 2, 2) & 0xc000).toBe(0);
  expect(machine.barAddress(2)).toBe(address);
  machine.command(7);
  const again = msixOn(machine);
  expect(machine.vm.read(again + 16 * 5 + 12, 4), 'masked as after power-on').toBe(1);
  machine.armMsix(5, 0x56, again);
  machine.device.fireMsix(5);
  expect(machine.injected()).toEqual([0x56]);
});
