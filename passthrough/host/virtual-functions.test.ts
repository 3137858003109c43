import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FakeKernel } from '../../native/fake/fake-kernel.ts';
import type { FakePciSpec } from '../../native/fake/pci-spec.ts';
import type { HostBdf } from '../../native/types.ts';
import { e1000e } from '../fixtures/devices.ts';
import { bindToVfio } from './binding.ts';
import { BindingJournal } from './binding-journal.ts';
import { RecordDirectory } from './record-directory.ts';
import { createVfs, readVfs, removeVfs, type VfJournals } from './virtual-functions.ts';

const PF = '0000:02:00.0' as HostBdf;
const VF = '0000:02:10.0' as HostBdf;
const ENABLE = '/sys/module/vfio_pci/parameters/enable_sriov';

let directory: string;
let kernel: FakeKernel;
let journals: VfJournals;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'causeway-vfs-'));
  journals = {
    vfs: new RecordDirectory(join(directory, 'vfs')),
    bindings: new BindingJournal(join(directory, 'bind')),
  };
});
afterEach(() => rmSync(directory, { recursive: true }));

/** A PF of seven VFs. */
function host(more: Partial<FakePciSpec> = {}, failsAt?: { count: number; errno: string }): void {
  kernel = new FakeKernel();
  const vf = { vendor: 0x8086, device: 0x10ca, nativeDriver: 'igbvf' };
  const sriov = { totalVfs: 7, firstGroup: 21, vf, ...(failsAt ? { failsAt } : {}) };
  kernel.addPciDevice({ ...e1000e(PF, 20), driver: 'igb', nativeDriver: 'igb', sriov, ...more });
}

/** Everything that must be as it was. */
const state = () => ({ ...readVfs(kernel, PF), records: journals.vfs.list() });

test('VFs are made without a driver, remembered, and removed without a trace', () => {
  host();
  const before = state();
  const made = createVfs(kernel, PF, 2, journals);
  expect(made).toMatchObject({ totalVfs: 7, driver: 'igb', driversAutoprobe: false });
  expect(made.vfs).toEqual([
    { bdf: VF, iommuGroup: 21 },
    { bdf: '0000:02:10.1', iommuGroup: 22 },
  ]);
  expect(journals.vfs.list()).toEqual([PF]);
  bindToVfio(kernel, VF, (record) => journals.bindings.keep(record));
  expect(readVfs(kernel, PF).vfs[0]).toMatchObject({ driver: 'vfio-pci' });
  removeVfs(kernel, PF, journals);
  expect(state()).toEqual(before);
  expect(journals.bindings.list()).toEqual([]);
});

test("the host's drivers take them when they may", () => {
  host();
  const made = createVfs(kernel, PF, 1, journals, { hostDrivers: true });
  expect(made.vfs).toEqual([{ bdf: VF, driver: 'igbvf', iommuGroup: 21 }]);
});

test('of a PF on vfio-pci they are there too, once the kernel is told that it may', () => {
  host({ driver: 'vfio-pci' });
  expect(() => createVfs(kernel, PF, 1, journals)).toThrow(/on vfio-pci, which makes no VFs/);
  kernel.files.addFile(ENABLE, 'Y\n');
  expect(createVfs(kernel, PF, 1, journals).vfs).toEqual([{ bdf: VF, driver: 'vfio-pci', iommuGroup: 21 }]);
});

test('a dry run tells the writes and makes none', () => {
  host();
  const { steps } = createVfs(kernel, PF, 3, journals, { dryRun: true });
  expect(steps.map(({ path, text }) => `${path.split('/').at(-1)} ${text}`)).toEqual([
    'sriov_drivers_autoprobe 0',
    'sriov_numvfs 3',
  ]);
  expect(kernel.calls('writeFile')).toEqual([]);
  expect(journals.vfs.list()).toEqual([]);
});

describe('nothing changes when it fails', () => {
  test.each<[string, RegExp, () => void, number]>([
    ['too many', /1 to 7 VFs, not 8/, () => host(), 8],
    ['none', /not 0/, () => host(), 0],
    ['no driver', /has no driver/, () => host({ driver: undefined } as never), 1],
    ['no SR-IOV', /no SR-IOV/, () => host({ sriov: undefined } as never), 1],
    ['no room', /no room for their BARs/, () => host({}, { count: 3, errno: 'ENOMEM' }), 3],
    ['a driver without', /driver igb makes none/, () => host({}, { count: 3, errno: 'ENOENT' }), 3],
    [
      'no right',
      /does not get 1 VFs/,
      () => {
        host();
        kernel.files.deny(`/sys/bus/pci/devices/${PF}/sriov_numvfs`, 'w');
      },
      1,
    ],
  ])('%s', (_name, message, prepare, count) => {
    prepare();
    const autoprobe = `/sys/bus/pci/devices/${PF}/sriov_drivers_autoprobe`;
    const before = kernel.exists(autoprobe) ? new TextDecoder().decode(kernel.readFile(autoprobe)) : '';
    expect(() => createVfs(kernel, PF, count, journals)).toThrow(message);
    expect(kernel.exists(autoprobe) ? new TextDecoder().decode(kernel.readFile(autoprobe)) : '').toBe(before);
    expect(kernel.exists(`/sys/bus/pci/devices/${VF}`)).toBe(false);
    expect(journals.vfs.list()).toEqual([]);
  });

  test('a second time', () => {
    host();
    createVfs(kernel, PF, 1, journals);
    expect(() => createVfs(kernel, PF, 2, journals)).toThrow(/has 1 VFs already/);
    expect(journals.vfs.list()).toEqual([PF]);
    expect(() => createVfs(kernel, VF, 1, journals)).toThrow(/virtual function itself/);
  });

  test('removal while one is held, and of VFs that somebody else made', () => {
    host();
    kernel.writeFile(`/sys/bus/pci/devices/${PF}/sriov_numvfs`, '1');
    expect(() => removeVfs(kernel, PF, journals)).toThrow(/not made by Causeway/);
    kernel.writeFile(`/sys/bus/pci/devices/${PF}/sriov_numvfs`, '0');
    createVfs(kernel, PF, 1, journals);
    bindToVfio(kernel, VF, () => {});
    kernel.files.addFile('/proc/4711/comm', 'qemu\n');
    kernel.files.addLink('/proc/4711/fd/9', '/dev/vfio/21');
    expect(() => removeVfs(kernel, PF, journals)).toThrow(/held by qemu \(pid 4711\)/);
    expect(readVfs(kernel, PF).vfs).toHaveLength(1);
    kernel.files.remove('/proc/4711');
    expect(removeVfs(kernel, PF, journals).vfs).toEqual([]);
  });
});
