import { describe, expect, test } from 'vitest';
import type { FakeKernel } from '../../native/fake/fake-kernel.ts';
import type { FakePciSpec } from '../../native/fake/pci-spec.ts';
import type { CausewayError } from '../../vmm/base/errors.ts';
import { e1000e, xhci } from '../fixtures/devices.ts';
import { RAM_BYTES, TestMachine } from '../fixtures/test-machine.ts';
import type { BackendWish } from '../index.ts';

const UUID = 'bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3';
const withIommufd = (kernel: FakeKernel): void => kernel.enableIommufd();

/** What opening fails with; checks that nothing is left open. */
function failure(
  specs: readonly FakePciSpec[],
  prepare: (kernel: FakeKernel) => void,
  iommu?: BackendWish,
): CausewayError {
  let kernel: FakeKernel | undefined;
  try {
    new TestMachine(
      specs,
      (made) => {
        kernel = made;
        made.enableIommufd();
        prepare(made);
      },
      {},
      iommu,
    );
  } catch (error) {
    expect(kernel!.openFds().map(({ label }) => label)).toEqual([]);
    expect(kernel!.journalBook.unusedFaults()).toEqual([]);
    return error as CausewayError;
  }
  throw new Error('it opened');
}

const SEQUENCE = [
  ...(['open', 'iommufdAllocIoas', 'vfioBindIommufd', 'vfioAttachIoas', 'iommufdIovaRanges', 'iommufdMap'] as const),
  ...(['vfioDeviceInfo', 'vfioGroupSetContainer'] as const),
];

describe('a kernel with iommufd', () => {
  // Enforces B19.
  test('is used: bound, attached, ranges asked, RAM mapped, and only then looked at', () => {
    const machine = new TestMachine([e1000e()], withIommufd);
    expect(machine.session.iommu).toEqual({
      backend: 'iommufd',
      why: 'the kernel has it, and every device has a file of its own',
    });
    expect(machine.kernel.calls(...SEQUENCE).slice(0, 8)).toEqual([
      'open',
      'iommufdAllocIoas',
      'open',
      'vfioBindIommufd',
      'vfioAttachIoas',
      'iommufdIovaRanges',
      'iommufdMap',
      'vfioDeviceInfo',
    ]);
    const { hva } = machine.ram.windows[0]!;
    expect(machine.kernel.iommufd.translate('0000:03:00.0', 0x1234)).toBe(hva + 0x1234);
    expect(machine.kernel.iommufd.translate('0000:03:00.0', RAM_BYTES)).toBeUndefined();
  });

  // Enforces B19.
  test('gives the same guest-visible result as the container', () => {
    const legacy = new TestMachine([e1000e()]);
    const modern = new TestMachine([e1000e()], withIommufd);
    for (const machine of [legacy, modern]) machine.boot();
    const image = (machine: TestMachine): number[] =>
      Array.from({ length: 64 }, (_, at) => machine.readConfig(at * 4, 4));
    expect(image(modern)).toEqual(image(legacy));
    const { resets, ...report } = modern.fn.report();
    expect(legacy.fn.report()).toMatchObject(report);
    expect(resets).toEqual(legacy.fn.report().resets);
  });

  test('KVM is told of the device file, and everything is given back', () => {
    const machine = new TestMachine([e1000e(), xhci()], withIommufd);
    for (const fn of machine.session.functions) fn.powerOn(machine.vm.services);
    expect(machine.kernel.calls('kvmVfioAddFile', 'kvmVfioDeleteFile')).toEqual(['kvmVfioAddFile', 'kvmVfioAddFile']);
    machine.session.close();
    expect(machine.kernel.calls('kvmVfioDeleteFile')).toHaveLength(2);
    expect(machine.kernel.openFds().filter(({ label }) => /vfio-|iommufd/.test(label))).toEqual([]);
    expect(machine.kernel.iommufd.opened.every((file) => file.isReleased)).toBe(true);
  });

  // Enforces P35.
  test('RAM that an attached device cannot reach is left out and warned about', () => {
    const machine = new TestMachine([e1000e()], (kernel) => {
      kernel.enableIommufd();
      const open = kernel.iommufd.open.bind(kernel.iommufd);
      kernel.iommufd.open = () => {
        const file = open();
        const add = file.add.bind(file);
        file.add = (object) => {
          if ('attachedRanges' in object) {
            object.attachedRanges = [
              { start: 0, last: 0xff_ffff },
              { start: 0x110_0000, last: 2 ** 39 - 1 },
            ];
          }
          return add(object);
        };
        return file;
      };
    });
    const [space] = machine.kernel.iommufd.opened[0]!.spaces;
    expect([...space!.mappings.values()].map(({ iova, sizeBytes }) => [iova, sizeBytes])).toEqual([
      [0, 0x100_0000],
      [0x110_0000, RAM_BYTES - 0x110_0000],
    ]);
    expect(machine.warnings).toEqual([
      'devices cannot reach 1048576 bytes of guest RAM at 0x1000000: reserved by the IOMMU',
    ]);
  });

  // Enforces G69, P45.
  test('a slot is reset when the iommufd owns all of it, and else not', () => {
    const spec = (fn: number): FakePciSpec => ({ ...e1000e(`0000:03:00.${fn}`, 5), vfio: { reset: false } });
    const whole = new TestMachine([spec(0), spec(1)], withIommufd);
    for (const fn of whole.session.functions) fn.powerOn(whole.vm.services);
    expect(whole.session.functions.map((fn) => fn.report().resets[0]!.method)).toEqual([
      'hot reset',
      'hot reset (with 0000:03:00.0)',
    ]);
    const part = new TestMachine([spec(0)], (kernel) => {
      kernel.addPciDevice({ ...e1000e('0000:03:00.1', 77), driver: 'e1000e' });
      kernel.enableIommufd();
    });
    part.boot();
    expect(part.fn.report().resets[0]).toMatchObject({ method: 'none: a hot reset would also hit 0000:03:00.1' });
  });
});

describe('auto takes the container, and says why', () => {
  // Enforces B19.
  test.each<[RegExp, (kernel: FakeKernel) => void]>([
    [/^there is no \/dev\/iommu$/, (kernel) => kernel.files.remove('/dev/iommu')],
    [/\/dev\/iommu may not be opened/, (kernel) => kernel.files.deny('/dev/iommu', 'rw')],
    [/vfio0 may not be opened/, (kernel) => kernel.files.deny('/dev/vfio/devices/vfio0', 'rw')],
    [/no file in/, (kernel) => kernel.files.remove('/dev/vfio/devices/vfio0')],
    [/does not work here/, (kernel) => kernel.failNext('iommufdAllocIoas', 'EPERM')],
  ])('%s', (why, prepare) => {
    const machine = new TestMachine([e1000e()], (kernel) => {
      kernel.enableIommufd();
      prepare(kernel);
    });
    expect(machine.session.iommu).toMatchObject({ backend: 'container', why: expect.stringMatching(why) });
    expect(machine.kernel.calls('vfioSetIommu')).toEqual(['vfioSetIommu']);
    machine.session.close();
    expect(machine.kernel.openFds().filter(({ label }) => /vfio-|iommufd/.test(label))).toEqual([]);
  });

  test('and the configuration may decide', () => {
    const machine = new TestMachine([e1000e()], withIommufd, {}, { mode: 'container', given: {} });
    expect(machine.session.iommu).toEqual({ backend: 'container', why: 'the configuration says so' });
    const missing = failure([e1000e()], (kernel) => kernel.files.remove('/dev/iommu'), { mode: 'iommufd', given: {} });
    expect(missing).toMatchObject({ code: 'VFIO_MISSING', hint: expect.stringContaining('container') });
    const closed = failure([e1000e()], (kernel) => kernel.files.deny('/dev/vfio/devices/vfio0', 'rw'), {
      mode: 'iommufd',
      given: {},
    });
    expect(closed).toMatchObject({ code: 'VFIO_PERMISSION', path: '/dev/vfio/devices/vfio0' });
  });
});

describe('a failure undoes everything', () => {
  test.each([
    ['vfioBindIommufd', 'EPERM', 'IRQ_REMAPPING_MISSING', /interrupt remapping/],
    ['vfioBindIommufd', 'EBUSY', 'DEVICE_BUSY', /held by another process/],
    ['vfioBindIommufd', 'EINVAL', 'DEVICE_BUSY', /held by another process/],
    ['vfioBindIommufd', 'EACCES', 'VF_TOKEN_REQUIRED', /token/],
    ['vfioBindIommufd', 'EIO', 'DEVICE_UNSUPPORTED', /cannot open/],
    ['vfioAttachIoas', 'EINVAL', 'DEVICE_UNSUPPORTED', /RMRR/],
    ['iommufdMap', 'ENOMEM', 'MEMLOCK_TOO_LOW', new RegExp(`${RAM_BYTES} bytes`)],
    ['iommufdMap', 'EFAULT', 'DMA_MAP_FAILED', /64 MiB of guest RAM at 0x0/],
    ['vfioDeviceInfo', 'EIO', 'DEVICE_UNSUPPORTED', /does not describe/],
  ] as const)('%s: %s is %s', (call, errno, code, message) => {
    const error = failure([e1000e()], (kernel) => kernel.failNext(call, errno));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
  });

  test('of the second device too', () => {
    let calls = 0;
    const error = failure([e1000e(), xhci()], (kernel) =>
      kernel.failNext('vfioBindIommufd', 'EBUSY', () => ++calls === 2),
    );
    expect(error).toMatchObject({ code: 'DEVICE_BUSY', bdf: '0000:06:00.0' });
  });
});

test('the memlock limit is raised as far as it goes: an iommufd counts all that the user has pinned', () => {
  const machine = new TestMachine([e1000e()], (kernel) => {
    kernel.enableIommufd();
    kernel.process.limits.memlock = { soft: RAM_BYTES, hard: 4 * RAM_BYTES };
  });
  expect(machine.kernel.process.limits.memlock.soft).toBe(4 * RAM_BYTES);
});

describe('VF tokens', () => {
  const PF = '0000:02:00.0';
  const VF = '0000:02:10.0';

  /** A PF and one VF, both on vfio-pci; the PF is held with a token by somebody else. */
  function host(kernel: FakeKernel): void {
    kernel.files.addFile('/sys/module/vfio_pci/parameters/enable_sriov', 'Y\n');
    const vf = { vendor: 0x8086, device: 0x10ca, nativeDriver: 'igbvf' };
    const pf = kernel.addPciDevice({ ...e1000e(PF, 20), sriov: { totalVfs: 7, firstGroup: 21, vf } });
    kernel.writeFile(`/sys/bus/pci/devices/${PF}/sriov_numvfs`, '1');
    pf.vfToken = UUID;
  }

  function open(token: string | undefined, prepare: (kernel: FakeKernel) => void): TestMachine {
    // The VF comes into being with its PF, so that the device list holds it only after.
    return new TestMachine(
      [e1000e()],
      (kernel) => {
        host(kernel);
        prepare(kernel);
      },
      {
        bdf: VF,
        ...(token === undefined ? {} : { vfToken: token }),
      },
    );
  }

  // Enforces B18.
  test.each([
    ['the container', () => {}, 'vfioGroupGetDevice'],
    ['iommufd', withIommufd, 'vfioBindIommufd'],
  ] as const)('a VF opens with the token of its PF through %s', (_name, prepare, call) => {
    const machine = open(UUID, prepare);
    expect(machine.kernel.calls(call)).toEqual([call]);
    expect(machine.warnings).toEqual([]);
    expect(() => open(undefined, prepare)).toThrow(/shares a VF token/);
    expect(() => open(UUID.replace('b', 'c'), prepare)).toThrow(/not the one that the physical function has/);
  });

  test('a kernel whose BIND knows no token opens without, with a warning', () => {
    const machine = open(UUID, (kernel) => {
      kernel.enableIommufd();
      kernel.iommufd.takesTokens = false;
    });
    expect(machine.warnings).toEqual([expect.stringContaining('did not take its VF token')]);
  });

  test('a PF sets its token when it is opened', () => {
    const machine = new TestMachine(
      [{ ...e1000e(PF, 20), sriov: { totalVfs: 7, firstGroup: 21, vf: { vendor: 1, device: 2 } } }],
      () => {},
      { vfToken: UUID },
    );
    expect(machine.device.vfToken).toBe(UUID);
  });

  test('where there is nothing to share a token is refused', () => {
    const error = (prepare: (kernel: FakeKernel) => void): unknown => {
      try {
        return new TestMachine([e1000e()], prepare, { vfToken: UUID });
      } catch (thrown) {
        return thrown;
      }
    };
    expect(error(() => {})).toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('takes no VF token'),
    });
  });
});
