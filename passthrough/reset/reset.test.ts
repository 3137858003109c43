/** Which reset is taken, what it may hit, and whether the device is itself afterwards. */
import { describe, expect, test } from 'vitest';
import type { FakeKernel } from '../../native/fake/fake-kernel.ts';
import type { FakePciSpec } from '../../native/fake/pci-spec.ts';
import type { DeviceRequest } from '../device-request.ts';
import { e1000e, everything } from '../fixtures/devices.ts';
import { TestMachine } from '../fixtures/test-machine.ts';

const METHODS = '/sys/bus/pci/devices/0000:07:00.0/reset_method';

function opened(
  reset: DeviceRequest['reset'],
  spec: Partial<FakePciSpec> = {},
  prepare: (kernel: FakeKernel) => void = () => {},
): TestMachine {
  const device = { ...everything(), resetMethod: 'flr pm bus', ...spec };
  return new TestMachine([device], prepare, reset === undefined ? {} : { reset });
}

const text = (machine: TestMachine, path = METHODS): string =>
  new TextDecoder().decode(machine.kernel.readFile(path)).trim();
const last = (machine: TestMachine) => machine.fn.report().resets.at(-1);

/** Lets root choose, as sysfs does: what is written becomes the list. */
function writable(kernel: FakeKernel): void {
  let methods = 'flr pm bus\n';
  kernel.files.addFile(
    METHODS,
    () => methods,
    (written) => {
      methods = `${written.trim()}\n`;
    },
  );
}

describe('a method of the kernel', () => {
  test('that it likes best needs no change of the host', () => {
    const machine = opened('flr');
    machine.boot();
    expect(last(machine)).toEqual({ when: 'boot', method: 'function (flr)', ok: true });
    expect(machine.kernel.calls('writeFile')).toEqual([]);
  });

  test('that it likes less is chosen for as long as the device is assigned', () => {
    const machine = opened('bus', {}, writable);
    expect(text(machine)).toBe('bus');
    machine.boot();
    expect(last(machine)).toEqual({ when: 'boot', method: 'function (bus)', ok: true });
    machine.session.close();
    expect(last(machine)).toMatchObject({ when: 'release', method: 'function (bus)' });
    expect(text(machine), 'given back').toBe('flr pm bus');
  });

  test('that the device lacks, or that this user may not choose, keeps the VM from starting', () => {
    expect(() => opened('acpi')).toThrow(/cannot reset it by acpi; it offers: flr, pm, bus/);
    let kernel: FakeKernel | undefined;
    const refused = (): TestMachine =>
      opened('pm', {}, (made) => {
        kernel = made;
        made.failNext('writeFile', 'EACCES');
      });
    expect(refused).toThrow(/cannot be set to pm/);
    expect(kernel!.openFds().map(({ label }) => label)).toEqual([]);
  });

  test('that fails is reported, and no other is tried', () => {
    const machine = opened('flr');
    machine.kernel.failNext('vfioDeviceReset', 'EIO');
    machine.boot();
    expect(last(machine)).toMatchObject({ method: 'none: function reset failed (EIO)', ok: false });
    expect(machine.kernel.calls('vfioHotReset')).toEqual([]);
  });
});

// Enforces P45.
test('a change of power state is the last rung: below a hot reset, above nothing', () => {
  const machine = opened(undefined, { resetMethod: 'pm bus' });
  machine.boot();
  expect(last(machine)).toEqual({ when: 'boot', method: 'hot reset', ok: true });
  expect(machine.kernel.calls('vfioDeviceReset')).toEqual([]);
  const reboot = (): void => {
    machine.fn.powerOff();
    machine.newVm();
    machine.fn.powerOn(machine.vm.services);
  };
  machine.kernel.failNext('vfioHotReset', 'EIO');
  reboot();
  expect(last(machine)).toEqual({ when: 'reboot', method: 'function (pm)', ok: true });
  machine.kernel.failNext('vfioHotReset', 'EIO');
  machine.kernel.failNext('vfioDeviceReset', 'EAGAIN');
  reboot();
  const method = 'none: hot reset failed (EIO), function reset failed (EAGAIN)';
  expect(last(machine)).toMatchObject({ when: 'reboot', method, ok: false });
  expect(machine.kernel.calls('vfioHotReset')).toHaveLength(3);
});

test('a guest that asks for a failing reset again and again is told of once', () => {
  const machine = opened('flr');
  machine.boot();
  machine.kernel.vfioDeviceReset = () => {
    throw new Error('stuck');
  };
  const control = machine.capability(0x10) + 8;
  for (let i = 0; i < 500; i++) machine.fn.writeConfig(control, 2, 0x8000);
  expect(machine.warnings.filter((warning) => /reset for guest/.test(warning))).toHaveLength(1);
  expect(machine.fn.report().resets.length).toBeLessThan(200);
});

test('hot: the slot, also where the function could be reset alone; the guest is not offered a reset then', () => {
  const machine = opened('hot');
  machine.boot();
  expect(last(machine)).toEqual({ when: 'boot', method: 'hot reset', ok: true });
  expect(machine.device.resets.slice(1)).toEqual(['hot']);
  expect(machine.readConfig(machine.capability(0x10) + 4, 4) & 0x1000_0000).toBe(0);
});

test('none: the device is left as it is, and the report says that this was asked for', () => {
  const machine = opened('none');
  machine.boot();
  machine.session.close();
  expect(machine.fn.report().resets).toEqual([
    { when: 'boot', method: 'none, as configured', ok: true },
    { when: 'release', method: 'none, as configured', ok: true },
  ]);
  expect(machine.kernel.calls('vfioDeviceReset', 'vfioHotReset')).toEqual([]);
});

describe('after a reset', () => {
  // Enforces P47.
  test('a device that comes back with another face is reported, field by field, and hot reset is tried', () => {
    const machine = opened(undefined);
    const { hardware } = machine.device.config;
    const reset = machine.kernel.vfioDeviceReset.bind(machine.kernel);
    machine.kernel.vfioDeviceReset = (fd) => {
      reset(fd);
      hardware[0x09] = 0x55;
      hardware[0x72] = 3;
      hardware[0x51] = 0x80; // MSI-X is skipped in the chain
    };
    machine.boot();
    const result = last(machine)!;
    expect(result).toMatchObject({ method: 'function (flr)', ok: false });
    expect(result.faults?.join('; ')).toMatch(/revision and class reads 02005501, was 02000001/);
    expect(result.faults?.join('; ')).toMatch(/MSI-X: table size|MSI-X at 0x70 is gone/);
    expect(machine.warnings.join()).toMatch(/revision and class/);
    expect(machine.device.resets, 'the second rung').toContain('hot');
  });

  test('a device that the hot reset heals is well', () => {
    const machine = opened(undefined);
    const { hardware } = machine.device.config;
    const good = hardware.slice();
    const [reset, hot] = [machine.kernel.vfioDeviceReset, machine.kernel.vfioHotReset].map((call) =>
      (call as (...args: unknown[]) => void).bind(machine.kernel),
    );
    machine.kernel.vfioDeviceReset = (fd) => {
      reset!(fd);
      hardware.fill(0xff, 8, 12);
    };
    machine.kernel.vfioHotReset = (fd, groups) => {
      hot!(fd, groups);
      hardware.set(good.subarray(8, 12), 8);
    };
    machine.boot();
    expect(last(machine)).toEqual({
      when: 'boot',
      method: 'function (flr) left it unwell, hot reset',
      ok: true,
    });
  });

  test('the vendor is asked of the hardware, past VFIO’s copy, but not of a virtual function', () => {
    const machine = opened(undefined);
    machine.device.config.hardware[0] = 0x99;
    machine.boot();
    expect(last(machine)?.faults?.join()).toMatch(/vendor id reads 1299, not 1234/);
    const vf = opened(undefined, { isVf: true, interruptPin: 0 }, (kernel) =>
      kernel.files.addLink('/sys/bus/pci/devices/0000:07:00.0/physfn', '../0000:06:00.0'),
    );
    vf.device.config.hardware.fill(0xff, 0, 4);
    vf.boot();
    expect(last(vf)).toMatchObject({ ok: true });
  });
});

describe('functions of one slot', () => {
  const slot = (fn: number): FakePciSpec => ({ ...e1000e(`0000:03:00.${fn}`, 5), vfio: { reset: false } });

  // Enforces G69, P45.
  test('a reset never hits a function that the guest uses, at its own wish or when its neighbour leaves', () => {
    const machine = new TestMachine([slot(0), slot(1)]);
    const [first, second] = machine.session.functions;
    first!.powerOn(machine.vm.services);
    second!.powerOn({ ...machine.vm.services, address: { bus: 0, device: 2, function: 0 }, intxGsi: 17 as never });
    expect(machine.kernel.calls('vfioHotReset'), 'together, at boot').toHaveLength(1);
    second!.placeBar(0, 0xc100_0000);
    second!.writeConfig(4, 2, 6);
    first!.release();
    expect(machine.kernel.calls('vfioHotReset')).toHaveLength(1);
    expect(first!.report().resets.at(-1)).toMatchObject({
      method: 'none: a hot reset would also hit 0000:03:00.1, which the guest uses',
      ok: false,
    });
    expect(machine.vm.barSlots).toHaveLength(1);
    second!.powerOff();
    machine.session.close();
    expect(machine.kernel.calls('vfioHotReset'), 'with nobody left, the slot is').toHaveLength(2);
  });

  test('of two groups are reset together when both are ours', () => {
    const machine = new TestMachine([slot(0), { ...slot(1), group: 6 }]);
    for (const fn of machine.session.functions) fn.powerOn(machine.vm.services);
    expect(machine.kernel.calls('vfioHotReset')).toHaveLength(1);
    expect(machine.devices.map(({ resets }) => resets.filter((how) => how === 'hot').length)).toEqual([1, 1]);
  });
});
