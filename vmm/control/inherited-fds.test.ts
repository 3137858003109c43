import { expect, test } from 'vitest';
import type { VmConfig } from '../config/model.ts';
import { normaliseVmConfig } from '../config/normalise.ts';
import { resolveFds } from './inherited-fds.ts';

const PID = 4711;
const ENV = { LISTEN_PID: String(PID), LISTEN_FDS: '3', LISTEN_FDNAMES: 'iommufd:nic:kvm' };

function resolve(
  config: Omit<VmConfig, 'kernel'>,
  env: NodeJS.ProcessEnv = ENV,
  pid = PID,
): ReturnType<typeof resolveFds> {
  return resolveFds(normaliseVmConfig({ kernel: 'k', ...config }), env, pid);
}

const issuesOf = (call: () => unknown): unknown => {
  try {
    call();
  } catch (error) {
    return (error as { issues: { path: string; message: string }[] }).issues.map(
      ({ path, message }) => `${path}: ${message}`,
    );
  }
  return 'it did not throw';
};

test('names are those of sd_listen_fds, numbers stay', () => {
  const { fds, devices } = resolve({ fds: { iommufd: 'iommufd', kvm: 9 }, devices: [{ deviceFd: 'nic' }] });
  expect(fds).toEqual({ iommufd: 3, kvm: 9 });
  expect(devices).toEqual([{ bdf: '', deviceFd: 4 }]);
});

test('devices of one group may share its file', () => {
  const { devices } = resolve({
    devices: [
      { bdf: '01:00.0', groupFd: 7 },
      { bdf: '01:00.1', groupFd: 7 },
    ],
  });
  expect(devices.map(({ groupFd }) => groupFd)).toEqual([7, 7]);
});

test('a name that is not there, or meant for another process, and a file that is given twice', () => {
  const config = { fds: { kvm: 'kvn' } };
  expect(issuesOf(() => resolve(config))).toEqual(['fds.kvm: no inherited file is called "kvn"']);
  expect(issuesOf(() => resolve({ fds: { kvm: 'kvm' } }, ENV, 1))).toEqual([
    'fds.kvm: no inherited file is called "kvm"',
  ]);
  expect(issuesOf(() => resolve({ fds: { kvm: 3, iommufd: 'iommufd' } }))).toEqual([
    'fds.iommufd: file 3 is given already, as fds.kvm',
  ]);
});

test('files of both kinds, of the wrong kind, and what is no file', () => {
  const both = { fds: { iommufd: 5, container: 6 } };
  expect(issuesOf(() => resolve(both))).toEqual([expect.stringContaining('fds.container: is for the container')]);
  expect(issuesOf(() => resolve({ iommu: 'iommufd', fds: { container: 6 } }))).toEqual([
    'fds.container: is for the container, and iommu is "iommufd"',
  ]);
  expect(issuesOf(() => resolve({ iommu: 'container', devices: [{ deviceFd: 6 }] }))).toEqual([
    'devices[0].deviceFd: is for iommufd, and iommu is "container"',
  ]);
  const wrong = { fds: { kvm: 2 }, devices: [{ bdf: '01:00.0', deviceFd: '7', vfToken: 'x' }], iommu: 'vfio' as never };
  expect(issuesOf(() => resolve(wrong))).toEqual([
    expect.stringContaining('devices[0].vfToken: must be a UUID'),
    expect.stringContaining('devices[0].deviceFd: must be the number of an open file'),
    expect.stringContaining('iommu: must be "auto", "container" or "iommufd"'),
    expect.stringContaining('fds.kvm: must be the number of an open file, 3 or more'),
  ]);
});
