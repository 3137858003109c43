import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FakeKernel } from '../../native/fake/fake-kernel.ts';
import type { HostBdf } from '../../native/types.ts';
import type { CausewayError } from '../../vmm/base/errors.ts';
import { e1000e } from '../fixtures/devices.ts';
import { type BindOptions, bindDevices, restoreDevices } from './bind-devices.ts';
import { readBinding } from './binding.ts';
import { BindingJournal } from './binding-journal.ts';
import { hostUses } from './usage.ts';

const BDF = '0000:03:00.0' as HostBdf;
const SIBLING = '0000:03:00.1' as HostBdf;
const OPTIONS: BindOptions = { wholeGroups: false, force: false, dryRun: false };

let directory: string;
let journal: BindingJournal;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'causeway-journal-'));
  journal = new BindingJournal(join(directory, 'bindings'));
});
afterEach(() => rmSync(directory, { recursive: true }));

function host(prepare: (kernel: FakeKernel) => void = () => {}): FakeKernel {
  const kernel = new FakeKernel();
  kernel.addPciDevice({ ...e1000e(), driver: 'e1000e' });
  kernel.files.addDir('/sys/bus/pci/drivers/vfio-pci');
  prepare(kernel);
  return kernel;
}

/** vfio-pci is a driver of the fake as soon as a device has it. */
function withVfio(prepare: (kernel: FakeKernel) => void = () => {}): FakeKernel {
  return host((kernel) => {
    kernel.addPciDevice(e1000e('0000:09:00.0', 99));
    prepare(kernel);
  });
}

function failure(body: () => unknown): CausewayError {
  try {
    body();
  } catch (error) {
    return error as CausewayError;
  }
  throw new Error('it did not fail');
}

describe('bind', () => {
  // Enforces P51.
  test('moves, tells what it wrote, and restore finds back in another process', () => {
    const kernel = withVfio();
    expect(bindDevices(kernel, [BDF], journal, OPTIONS)).toEqual([
      {
        bdf: BDF,
        from: 'e1000e',
        to: 'vfio-pci',
        steps: [
          { path: `/sys/bus/pci/devices/${BDF}/driver_override`, text: 'vfio-pci\n' },
          { path: `/sys/bus/pci/devices/${BDF}/driver/unbind`, text: BDF },
          { path: '/sys/bus/pci/drivers_probe', text: BDF },
        ],
        remarks: [],
      },
    ]);
    const later = new BindingJournal(join(directory, 'bindings'));
    expect(later.list()).toEqual([BDF]);
    expect(restoreDevices(kernel, later.list(), later, false)).toMatchObject([{ from: 'vfio-pci', to: 'e1000e' }]);
    expect(readBinding(kernel, BDF)).toEqual({ bdf: BDF, driver: 'e1000e', driverOverride: '' });
    expect(later.list()).toEqual([]);
  });

  // Enforces P51.
  test('a second bind keeps the first record', () => {
    const kernel = withVfio();
    bindDevices(kernel, [BDF], journal, OPTIONS);
    expect(bindDevices(kernel, [BDF], journal, OPTIONS)).toMatchObject([{ steps: [] }]);
    expect(journal.find(BDF)?.driver).toBe('e1000e');
  });

  test('the dry run writes nothing and tells the same', () => {
    const kernel = withVfio();
    kernel.journalBook.clear();
    const dry = bindDevices(kernel, [BDF], journal, { ...OPTIONS, dryRun: true });
    expect(kernel.calls('writeFile')).toEqual([]);
    expect(journal.list()).toEqual([]);
    expect(bindDevices(kernel, [BDF], journal, OPTIONS)).toEqual(dry);
    const back = restoreDevices(kernel, [BDF], journal, true);
    expect(back[0]!.steps.length).toBeGreaterThan(0);
    expect(readBinding(kernel, BDF).driver).toBe('vfio-pci');
  });

  test('a whole group, or a remark about the rest of it', () => {
    const kernel = withVfio((made) => made.addPciDevice({ ...e1000e(SIBLING), driver: 'e1000e' }));
    const [alone] = bindDevices(kernel, [BDF], journal, OPTIONS);
    expect(alone!.remarks).toEqual([expect.stringContaining(`${SIBLING} of its IOMMU group is on e1000e`)]);
    const all = bindDevices(kernel, [BDF], journal, { ...OPTIONS, wholeGroups: true });
    expect(all.map(({ bdf, remarks }) => [bdf, remarks])).toEqual([
      [BDF, []],
      [SIBLING, []],
    ]);
  });

  test('without vfio-pci nothing is touched', () => {
    const kernel = host((made) => made.files.remove('/sys/bus/pci/drivers/vfio-pci'));
    expect(failure(() => bindDevices(kernel, [BDF], journal, OPTIONS)).code).toBe('VFIO_MISSING');
    expect(kernel.calls('writeFile')).toEqual([]);
  });

  test('without a place for the record nothing is touched', () => {
    const kernel = withVfio();
    writeFileSync(join(directory, 'file'), '');
    const broken = new BindingJournal(join(directory, 'file', 'bindings'));
    expect(failure(() => bindDevices(kernel, [BDF], broken, OPTIONS)).message).toContain('no record');
    expect(readBinding(kernel, BDF).driver).toBe('e1000e');
  });
});

describe('what the host needs is refused without force', () => {
  const NET = `/sys/devices/pci0000:00/${BDF}/net/eth0`;
  const ROUTES = 'Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n';

  const uses: readonly (readonly [string, (kernel: FakeKernel) => void, RegExp])[] = [
    [
      'the default route',
      (kernel) => {
        kernel.files.addDir(NET);
        kernel.files.addFile('/proc/net/route', `${ROUTES}eth0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\n`);
      },
      /eth0 carries the default route$/,
    ],
    [
      'the default route through a bond',
      (kernel) => {
        kernel.files.addDir(NET);
        kernel.files.addLink('/sys/class/net/eth0/master', '../bond0');
        kernel.files.addFile('/proc/net/route', `${ROUTES}bond0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\n`);
      },
      /through bond0/,
    ],
    [
      'the default route of IPv6',
      (kernel) => {
        kernel.files.addDir(NET);
        const zeros = '0'.repeat(32);
        kernel.files.addFile('/proc/net/ipv6_route', `${zeros} 00 ${zeros} 00 fe80 00000400 1 0 00000003 eth0\n`);
      },
      /default route/,
    ],
    [
      'a mounted disk',
      (kernel) => {
        kernel.files.addLink(
          '/sys/class/block/nvme0n1p2',
          `../../devices/pci0000:00/${BDF}/nvme/nvme0/nvme0n1/nvme0n1p2`,
        );
        kernel.files.addFile(`/sys/devices/pci0000:00/${BDF}/nvme/nvme0/nvme0n1/nvme0n1p2/dev`, '259:2\n');
        kernel.files.addFile('/proc/self/mountinfo', '22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/root rw\n');
      },
      /nvme0n1p2 is mounted on \/$/,
    ],
    [
      'swap, and a disk of a volume group',
      (kernel) => {
        kernel.files.addLink('/sys/class/block/sda', `../../devices/pci0000:00/${BDF}/ata1/block/sda`);
        kernel.files.addDir(`/sys/devices/pci0000:00/${BDF}/ata1/block/sda/holders/dm-0`);
        kernel.files.addFile('/proc/swaps', 'Filename Type Size Used Priority\n/dev/sda partition 1 0 -2\n');
      },
      /sda is swap; sda is part of dm-0/,
    ],
    ['the boot display', (kernel) => kernel.files.addFile(`/sys/devices/pci0000:00/${BDF}/boot_vga`, '1\n'), /display/],
  ];

  test.each(uses)('%s', (_name, prepare, message) => {
    const kernel = withVfio(prepare);
    const error = failure(() => bindDevices(kernel, [BDF], journal, OPTIONS));
    expect(error.code).toBe('DEVICE_IN_USE');
    expect(error.message).toMatch(message);
    expect(readBinding(kernel, BDF).driver).toBe('e1000e');
    bindDevices(kernel, [BDF], journal, { ...OPTIONS, force: true });
    expect(readBinding(kernel, BDF).driver).toBe('vfio-pci');
  });

  test('an interface without a route is no obstacle', () => {
    const kernel = withVfio((made) => {
      made.files.addDir(NET);
      made.files.addFile('/proc/net/route', ROUTES);
      made.files.addFile('/sys/class/net/eth0/operstate', 'down\n');
    });
    expect(hostUses(kernel, BDF)).toMatchObject([{ kind: 'net', isCritical: false, what: 'eth0 is down' }]);
    bindDevices(kernel, [BDF], journal, OPTIONS);
  });
});

describe('restore', () => {
  test('what nobody knows is left alone', () => {
    const kernel = withVfio();
    const error = failure(() => restoreDevices(kernel, [BDF], journal, false));
    expect(error.message).toContain('was not bound by Causeway');
  });

  test('a device that is open is not unbound: the write would not return', () => {
    const kernel = withVfio();
    bindDevices(kernel, [BDF], journal, OPTIONS);
    kernel.files.addLink('/proc/77/fd/5', '/dev/vfio/12');
    kernel.files.addFile('/proc/77/comm', 'qemu\n');
    const error = failure(() => restoreDevices(kernel, [BDF], journal, false));
    expect(error).toMatchObject({ code: 'DEVICE_BUSY' });
    expect(error.message).toContain('qemu (pid 77)');
    expect(journal.list()).toEqual([BDF]);
  });

  test('one that cannot be restored does not keep the others', () => {
    const kernel = withVfio((made) => made.addPciDevice({ ...e1000e(SIBLING), driver: 'e1000e' }));
    bindDevices(kernel, [SIBLING], journal, OPTIONS);
    expect(failure(() => restoreDevices(kernel, [BDF, SIBLING], journal, false)).bdf).toBe(BDF);
    expect(readBinding(kernel, SIBLING).driver).toBe('e1000e');
  });

  test('a record that is no record is none', () => {
    journal.keep({ bdf: BDF, driver: 'e1000e', driverOverride: '' });
    writeFileSync(join(directory, 'bindings', BDF), '{"bdf":"0000:03:00.0","driver":"../evil","driverOverride":""}');
    expect(journal.find(BDF)).toBeUndefined();
    journal.keep({ bdf: SIBLING, driver: undefined, driverOverride: '' });
    expect(journal.find(SIBLING)).toMatchObject({ bdf: SIBLING, driverOverride: '' });
    expect(readdirSync(join(directory, 'bindings')).sort()).toEqual([BDF, SIBLING]);
  });
});
