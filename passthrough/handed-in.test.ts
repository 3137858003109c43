/** Files that somebody else opened: this process opens none, and closes them all. */
import { describe, expect, test } from 'vitest';
import { FakeKernel } from '../native/fake/fake-kernel.ts';
import type { Fd } from '../native/types.ts';
import { GuestMemory } from '../vmm/memory/guest-memory.ts';
import { ConfigStore } from '../vmm/pci/config-window.ts';
import { e1000e, xhci } from './fixtures/devices.ts';
import { RAM_BYTES } from './fixtures/test-machine.ts';
import { type AssignOptions, checkDevices, identifyDevices, openDevices, type PassthroughSession } from './index.ts';

const NIC = '0000:03:00.0';
const NODES = ['/dev/iommu', '/dev/vfio/vfio', '/dev/vfio/12', '/dev/vfio/devices/vfio0'];

/** A host whose nodes this process, an ordinary user's, may not open. */
function host(): FakeKernel {
  const kernel = new FakeKernel();
  kernel.addPciDevice(e1000e());
  kernel.enableIommufd();
  return kernel;
}

/** From here on every open of a node fails, as it does for nobody. */
function dropPrivileges(kernel: FakeKernel): void {
  for (const node of NODES) kernel.files.deny(node, 'rw');
  kernel.process.canLockMemory = false;
  kernel.process.limits.memlock = { soft: RAM_BYTES, hard: RAM_BYTES };
  kernel.journalBook.clear();
}

function assign(
  kernel: FakeKernel,
  devices: AssignOptions['devices'],
  iommu: NonNullable<AssignOptions['iommu']>,
): PassthroughSession {
  const ram = new GuestMemory(kernel, [{ start: 0, size: RAM_BYTES }]);
  const known = identifyDevices(kernel, devices);
  return openDevices({
    native: kernel,
    devices: known,
    ram: ram.windows,
    store: new ConfigStore(8),
    iommu,
    warn: () => {},
  });
}

const left = (kernel: FakeKernel): string[] =>
  kernel.openFds().flatMap(({ label }) => (/vfio|iommufd/.test(label) ? [label] : []));

// Enforces B13.
test('iommufd: a device is given by its file alone', () => {
  const kernel = host();
  const deviceFd = kernel.inheritFd('/dev/vfio/devices/vfio0');
  const iommufd = kernel.inheritFd('/dev/iommu');
  dropPrivileges(kernel);
  const session = assign(kernel, [{ bdf: '', deviceFd }], { mode: 'auto', given: { iommufd } });
  expect(session.iommu).toEqual({ backend: 'iommufd', why: 'its files were handed in' });
  expect(session.functions[0]!.label).toContain(NIC);
  expect(kernel.calls('open')).toEqual([]);
  session.close();
  expect(left(kernel)).toEqual([]);
});

test('container: group and container, joined here or by who opened them', () => {
  for (const isJoined of [false, true]) {
    const kernel = host();
    const groupFd = kernel.inheritFd('/dev/vfio/12');
    const container = kernel.inheritFd('/dev/vfio/vfio');
    if (isJoined) {
      kernel.vfioGroupSetContainer(groupFd, container);
      kernel.vfioSetIommu(container, 3);
    }
    dropPrivileges(kernel);
    const session = assign(kernel, [{ bdf: NIC, groupFd }], { mode: 'auto', given: { container } });
    expect(session.iommu?.backend).toBe('container');
    expect(kernel.calls('open')).toEqual([]);
    expect(kernel.calls('vfioSetIommu')).toHaveLength(isJoined ? 0 : 1);
    session.close();
    expect(left(kernel)).toEqual([]);
  }
});

test('container: the device out of its group as well', () => {
  const kernel = host();
  const groupFd = kernel.inheritFd('/dev/vfio/12');
  const container = kernel.inheritFd('/dev/vfio/vfio');
  kernel.vfioGroupSetContainer(groupFd, container);
  kernel.vfioSetIommu(container, 3);
  const deviceFd = kernel.vfioGroupGetDevice(groupFd, NIC);
  kernel.files.addLink(`/proc/self/fd/${deviceFd}`, 'anon_inode:[vfio-device]');
  dropPrivileges(kernel);
  const session = assign(kernel, [{ bdf: NIC, groupFd, deviceFd }], { mode: 'auto', given: { container } });
  expect(kernel.calls('open', 'vfioGroupGetDevice')).toEqual([]);
  session.close();
  expect(left(kernel)).toEqual([]);
});

describe('what does not fit is told before anything is opened', () => {
  const identify = (kernel: FakeKernel, bdf: string, deviceFd: number): unknown => {
    try {
      return identifyDevices(kernel, [{ bdf, deviceFd }]);
    } catch (error) {
      return error;
    }
  };

  test('a file that is not open, tells no device, or is another one', () => {
    const kernel = host();
    kernel.addPciDevice(xhci());
    const other = kernel.inheritFd('/dev/vfio/devices/vfio1');
    expect(identify(kernel, '', 99)).toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('no open file 99'),
    });
    expect(identify(kernel, NIC, other)).toMatchObject({
      message: expect.stringMatching(/is 0000:06:00.0, not 0000:03/),
    });
    const container = kernel.inheritFd('/dev/vfio/vfio');
    expect(identify(kernel, '', container)).toMatchObject({
      message: expect.stringContaining('does not tell which device'),
    });
  });

  test('a device out of a group tells its address since Linux 6.17', () => {
    const kernel = host();
    kernel.files.addLink('/proc/self/fd/50', 'anon_inode:[vfio-device]');
    const path = '/sys/devices/pci0000:00/0000:00:02.0/0000:03:00.0';
    kernel.files.addFile('/proc/self/fdinfo/50', `pos:\t0\nflags:\t02000002\nvfio-device-syspath: ${path}\n`);
    expect(identify(kernel, '', 50)).toEqual([{ bdf: NIC, deviceFd: 50 }]);
  });

  test('the file of another group', () => {
    const kernel = host();
    kernel.addPciDevice(xhci());
    const groupFd = kernel.inheritFd('/dev/vfio/28');
    const errors = checkDevices(kernel, [{ bdf: NIC, groupFd }], RAM_BYTES);
    expect(errors.map(({ message }) => message)).toEqual([
      expect.stringMatching(/in IOMMU group 12, and file \d+ is group 28/),
    ]);
  });

  test('files of the wrong kind', () => {
    const kernel = host();
    const wrong = kernel.eventfd() as Fd;
    expect(() => assign(kernel, [{ bdf: NIC }], { mode: 'auto', given: { iommufd: wrong } })).toThrow(
      /no \/dev\/iommu/,
    );
    expect(left(kernel)).toEqual([]);
  });
});
