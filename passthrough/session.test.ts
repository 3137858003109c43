import { describe, expect, test } from 'vitest';
import type { FakeContainer } from '../native/fake/fake-container.ts';
import type { FakeKernel } from '../native/fake/fake-kernel.ts';
import type { FakePciSpec } from '../native/fake/pci-spec.ts';
import type { CausewayError } from '../vmm/base/errors.ts';
import { e1000e, xhci } from './fixtures/devices.ts';
import { RAM_BYTES, TestMachine } from './fixtures/test-machine.ts';

/** What opening fails with; checks that nothing is left open. */
function failure(specs: readonly FakePciSpec[], prepare: (kernel: FakeKernel) => void): CausewayError {
  let kernel: FakeKernel | undefined;
  try {
    new TestMachine(specs, (made) => {
      kernel = made;
      prepare(made);
    });
  } catch (error) {
    expect(kernel!.openFds().map(({ label }) => label)).toEqual([]);
    expect(kernel!.liveMappings().filter(({ label }) => label.includes('vfio'))).toEqual([]);
    expect(kernel!.journalBook.unusedFaults()).toEqual([]);
    return error as CausewayError;
  }
  throw new Error('it opened');
}

function container(kernel: FakeKernel): FakeContainer {
  return kernel.vfio.containers[0]!;
}

// Enforces F62.
test('all guest RAM is mapped for DMA before a device is open', () => {
  const machine = new TestMachine([e1000e()]);
  const order = machine.kernel.calls('vfioSetIommu', 'vfioMapDma', 'vfioGroupGetDevice');
  expect(order).toEqual(['vfioSetIommu', 'vfioMapDma', 'vfioGroupGetDevice']);
  const [mapping] = [...container(machine.kernel).mappings.values()];
  expect(mapping).toMatchObject({ iova: 0, sizeBytes: RAM_BYTES, hva: machine.ram.windows[0]!.hva });
});

// Enforces P35.
test('RAM that the IOMMU reserves is left out and warned about', () => {
  const machine = new TestMachine([e1000e()], (kernel) => {
    const open = kernel.vfio.openContainer.bind(kernel.vfio);
    kernel.vfio.openContainer = () => {
      const made = open();
      made.ranges = [
        { start: 0, end: 0xff_ffff },
        { start: 0x110_0000, end: 2 ** 39 - 1 },
      ];
      return made;
    };
  });
  expect([...container(machine.kernel).mappings.values()].map(({ iova, sizeBytes }) => [iova, sizeBytes])).toEqual([
    [0, 0x100_0000],
    [0x110_0000, RAM_BYTES - 0x110_0000],
  ]);
  expect(machine.warnings).toEqual([
    'devices cannot reach 1048576 bytes of guest RAM at 0x1000000: reserved by the IOMMU',
  ]);
});

test('two devices of one group share it; KVM hears of it once', () => {
  const machine = new TestMachine([e1000e('0000:03:00.0', 5), e1000e('0000:03:00.1', 5)]);
  const [first, second] = machine.session.functions;
  first!.powerOn(machine.vm.services);
  second!.powerOn({ ...machine.vm.services, address: { bus: 0, device: 2, function: 0 }, intxGsi: 17 as never });
  expect(machine.kernel.calls('kvmVfioAddFile')).toHaveLength(1);
  first!.powerOff();
  expect(machine.kernel.calls('kvmVfioDeleteFile')).toHaveLength(0);
  second!.powerOff();
  expect(machine.kernel.calls('kvmVfioDeleteFile')).toHaveLength(1);
  machine.session.close();
  expect(machine.kernel.openFds().filter(({ label }) => label.startsWith('vfio-'))).toEqual([]);
});

describe('a failure undoes everything', () => {
  // Enforces B14, P53.
  test.each([
    ['open', 'EBUSY', 'DEVICE_BUSY', /held by another process/],
    ['open', 'EPERM', 'VFIO_PERMISSION', /whatever its mode says/],
    ['vfioGroupSetContainer', 'EPERM', 'GROUP_NOT_VIABLE', /group 12/],
    ['vfioGroupSetContainer', 'EINVAL', 'DEVICE_UNSUPPORTED', /RMRR/],
    ['vfioGroupSetContainer', 'EBUSY', 'DEVICE_BUSY', /another owner/],
    ['vfioSetIommu', 'EPERM', 'IRQ_REMAPPING_MISSING', /interrupt remapping/],
    ['vfioMapDma', 'ENOMEM', 'MEMLOCK_TOO_LOW', new RegExp(`${RAM_BYTES} bytes`)],
    ['vfioMapDma', 'EINVAL', 'DMA_MAP_FAILED', /64 MiB of guest RAM at 0x0/],
    ['vfioMapDma', 'ENOSPC', 'DMA_MAP_FAILED', /too many mappings/],
    ['vfioGroupGetDevice', 'EACCES', 'VF_TOKEN_REQUIRED', /token/],
    ['vfioGroupGetDevice', 'ENODEV', 'DEVICE_NOT_BOUND', /no such device/],
    ['vfioDeviceInfo', 'EIO', 'DEVICE_UNSUPPORTED', /does not describe/],
  ] as const)('%s: %s is %s', (call, errno, code, message) => {
    const isGroup = (args: readonly unknown[]): boolean => call !== 'open' || args[0] === '/dev/vfio/12';
    const error = failure([e1000e()], (kernel) => kernel.failNext(call, errno, isGroup));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
  });

  test('of the second device too', () => {
    const error = failure([e1000e(), xhci()], (kernel) =>
      kernel.failNext('vfioGroupGetDevice', 'EBUSY', ([, name]) => name === '0000:06:00.0'),
    );
    expect(error).toMatchObject({ code: 'DEVICE_BUSY', bdf: '0000:06:00.0' });
  });

  test('several preconditions are one error that lists them', () => {
    const error = failure(
      [
        { ...e1000e(), driver: 'e1000e' },
        { ...xhci(), driver: 'xhci_hcd' },
      ],
      () => {},
    );
    expect(error.message.split('\n')).toHaveLength(2);
    expect(error.code).toBe('DEVICE_NOT_BOUND');
  });
});

describe('resets', () => {
  // Enforces G69, P45.
  test('without a function reset the slot is reset, if all of it is ours', () => {
    const machine = new TestMachine([{ ...e1000e(), vfio: { reset: false } }]);
    machine.boot();
    expect(machine.fn.report().resets).toEqual([{ when: 'boot', method: 'hot reset', ok: true }]);
  });

  // Enforces G69, P45.
  test('a neighbour that is not ours forbids it, and is named', () => {
    const machine = new TestMachine([{ ...e1000e(), vfio: { reset: false } }], (kernel) => {
      kernel.addPciDevice({ ...e1000e('0000:03:00.1', 77), driver: 'e1000e' });
    });
    machine.boot();
    expect(machine.fn.report().resets[0]).toEqual({
      when: 'boot',
      method: 'none: a hot reset would also hit 0000:03:00.1',
      ok: false,
    });
    expect(machine.warnings[0]).toContain('0000:03:00.1');
  });

  // Enforces P45.
  test('functions of one slot are reset together, once', () => {
    const spec = (fn: number): FakePciSpec => ({ ...e1000e(`0000:03:00.${fn}`, 5), vfio: { reset: false } });
    const machine = new TestMachine([spec(0), spec(1)]);
    for (const fn of machine.session.functions) fn.powerOn(machine.vm.services);
    expect(machine.kernel.calls('vfioHotReset')).toHaveLength(1);
    expect(machine.session.functions.map((fn) => fn.report().resets[0]!.method)).toEqual([
      'hot reset',
      'hot reset (with 0000:03:00.0)',
    ]);
  });

  // Enforces P47.
  test('a device that does not answer after its reset is reported', () => {
    const machine = new TestMachine([e1000e()]);
    machine.device.config.hardware.fill(0xff, 8, 12);
    machine.fn.powerOn(machine.vm.services);
    expect(machine.fn.report().resets[0]).toMatchObject({ ok: false });
    expect(machine.warnings.at(-1)).toContain('does not answer');
  });
});

test('close reports every failure and still gives everything back', () => {
  const machine = new TestMachine([e1000e()]);
  machine.boot();
  const { fn } = machine;
  machine.kernel.failNext('vfioUnmapDma', 'EINVAL');
  machine.kernel.failNext('kvmVfioDeleteFile', 'ENOENT');
  expect(() => machine.session.close()).toThrow(/kvmVfioDeleteFile: ENOENT.*vfioUnmapDma: EINVAL/);
  expect(fn.report().resets.at(-1)).toMatchObject({ when: 'release', ok: true });
  expect(machine.kernel.liveMappings().filter(({ label }) => label.includes('vfio'))).toEqual([]);
  expect(machine.kernel.openFds().filter(({ label }) => label.startsWith('vfio-'))).toEqual([]);
});

describe.each(['container', 'iommufd'] as const)('devices that come later, through the %s', (backend) => {
  const held = (machine: TestMachine): string[] =>
    machine.kernel
      .openFds()
      .map(({ label }) => label)
      .filter((label) => /vfio-|iommufd|eventfd/.test(label))
      .sort();

  function machineWith(first: readonly FakePciSpec[]): TestMachine {
    const machine = new TestMachine(first, (kernel) => {
      if (backend === 'iommufd') kernel.enableIommufd();
      kernel.addPciDevice(xhci());
    });
    return machine;
  }

  test('join what there is, and leave it as it was', () => {
    const machine = machineWith([e1000e()]);
    const before = held(machine);
    const [fn] = machine.session.attach([{ bdf: '06:00.0' }]);
    expect(machine.session.iommu?.backend).toBe(backend);
    expect(machine.session.functions.map(({ bdf }) => bdf)).toEqual(['0000:03:00.0', '0000:06:00.0']);
    fn!.powerOn(machine.vm.services);
    machine.session.detach([fn!]);
    expect(held(machine)).toEqual(before);
    // RAM is mapped once, and stays so for the device that stays.
    expect(machine.kernel.calls('vfioMapDma', 'iommufdMap', 'vfioUnmapDma', 'iommufdUnmap')).toHaveLength(1);
    machine.session.close();
    expect(held(machine)).toEqual([]);
  });

  test('begin anew after the last has left', () => {
    const machine = machineWith([e1000e()]);
    machine.session.detach(machine.session.functions);
    expect(held(machine)).toEqual([]);
    machine.session.attach([{ bdf: '06:00.0' }]);
    machine.session.attach([{ bdf: '03:00.0' }]);
    expect(machine.kernel.calls('vfioMapDma', 'iommufdMap')).toHaveLength(2);
    machine.session.close();
    expect(held(machine)).toEqual([]);
  });

  test('are undone alone when they fail', () => {
    const machine = machineWith([e1000e()]);
    const before = held(machine);
    machine.kernel.failNext('vfioDeviceInfo', 'EIO');
    expect(() => machine.session.attach([{ bdf: '06:00.0' }])).toThrow(/does not describe/);
    expect(held(machine)).toEqual(before);
    machine.kernel.failNext(backend === 'iommufd' ? 'vfioAttachIoas' : 'vfioGroupSetContainer', 'EINVAL');
    expect(() => machine.session.attach([{ bdf: '06:00.0' }])).toThrow();
    expect(held(machine)).toEqual(before);
    machine.boot();
    expect(machine.readConfig(0, 4)).toBe(0x10d3_8086);
  });
});
