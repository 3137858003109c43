/**
 * What keeps a host, or a device of it, from being used. Checks are those of the start itself where the start has them.
 * Nothing is changed; devices are not opened. The last proof, a group that joins a container, is tried when all else holds.
 */
import type { HostBdf, Native } from '../../native/types.ts';
import { type CausewayError, isCausewayError } from '../../vmm/base/errors.ts';
import { chooseBackend, IOMMUFD_NODE } from '../host/backend-choice.ts';
import { checkDevices } from '../host/preconditions.ts';
import { readDevice, readText } from '../host/sysfs.ts';
import { LegacyContainer } from '../vfio/container.ts';
import { openIommufd } from '../vfio/iommufd.ts';
import { checkDeviceDetails } from './device-checks.ts';
import { checkFacts } from './fact-checks.ts';
import { type Finding, findingOf, fix } from './finding.ts';
import { checkHost } from './host-checks.ts';
import { checkIommu } from './iommu-checks.ts';
import { checkKvmHost } from './kvm-checks.ts';
import { checkPath } from './path-checks.ts';

export interface DoctorOptions {
  readonly bdfs: readonly HostBdf[];
  /** Guest RAM that is to be pinned. */
  readonly ramBytes: number;
}

/** Worst first. */
export function examine(native: Native, { bdfs, ramBytes }: DoctorOptions): Finding[] {
  const findings = [...checkKvmHost(native), ...checkIommu(native), ...checkVfio(native, bdfs), ...checkHost(native)];
  const errors = checkDevices(native, bdfs, ramBytes, { findHolders: true });
  // That VFIO is not loaded has been said above.
  const told = (error: CausewayError): boolean => error.code === 'VFIO_MISSING' && error.bdf === undefined;
  findings.push(...errors.filter((error) => !told(error)).map((error) => findingOf(error)));
  for (const bdf of bdfs) {
    const device = readDevice(native, bdf);
    if (!device) continue;
    findings.push(...checkDeviceDetails(native, device, native.pageSizeBytes));
    findings.push(...checkFacts(native, device), ...checkPath(native, device, ramBytes));
  }
  if (errors.length === 0 && bdfs.length > 0) findings.push(...dryOpen(native, bdfs));
  const rank = { fatal: 0, warning: 1, info: 2 };
  const seen = new Set<string>();
  return findings
    .filter(({ id, subject, explanation }) => {
      const key = `${id} ${subject} ${explanation}`;
      return !seen.has(key) && seen.add(key);
    })
    .sort((a, b) => rank[a.severity] - rank[b.severity]);
}

function checkVfio(native: Native, bdfs: readonly HostBdf[]): Finding[] {
  const findings: Finding[] = [];
  const info = (id: string, path: string, value: string, explanation: string): void =>
    void findings.push({ id, severity: 'info', subject: 'host', evidence: [{ path, value }], explanation, fix: [] });
  if (!native.exists('/dev/vfio/vfio') || !native.exists('/sys/bus/pci/drivers/vfio-pci')) {
    findings.push({
      id: 'vfio.loaded',
      severity: 'fatal',
      subject: 'host',
      evidence: [
        { path: '/dev/vfio/vfio', value: native.exists('/dev/vfio/vfio') ? 'there' : 'absent' },
        {
          path: '/sys/bus/pci/drivers/vfio-pci',
          value: native.exists('/sys/bus/pci/drivers/vfio-pci') ? 'there' : 'absent',
        },
      ],
      explanation: 'VFIO is not loaded',
      fix: [
        fix('sudo modprobe -a vfio-pci vfio_iommu_type1'),
        fix("printf 'vfio-pci\\nvfio_iommu_type1\\n' | sudo tee /etc/modules-load.d/vfio.conf", { persistent: true }),
      ],
    });
  }
  const { backend, why } = chooseBackend(
    native,
    bdfs.map((bdf) => ({ bdf })),
  );
  const way = backend === 'iommufd' ? 'their own files and an iommufd' : 'groups and a container';
  const iommufd = native.exists(IOMMUFD_NODE) ? 'there' : 'absent';
  info('vfio.backend', IOMMUFD_NODE, iommufd, `devices are opened through ${way}: ${why}`);
  const noIommu = '/sys/module/vfio/parameters/enable_unsafe_noiommu_mode';
  if (readText(native, noIommu) === 'Y') {
    findings.push({
      id: 'vfio.noiommu',
      severity: 'warning',
      subject: 'host',
      evidence: [{ path: noIommu, value: 'Y' }],
      explanation: 'VFIO may run without an IOMMU, which cannot give a device to a VM',
      fix: [fix(`echo N | sudo tee ${noIommu}`)],
    });
  }
  const { soft, hard } = native.resourceLimit('memlock');
  const limit = (bytes: number): string => (Number.isFinite(bytes) ? `${bytes} bytes` : 'unlimited');
  info('vfio.memlock', 'RLIMIT_MEMLOCK', `${limit(soft)}, at most ${limit(hard)}`, 'guest RAM counts against it');
  const lockdown = readText(native, '/sys/kernel/security/lockdown');
  if (lockdown && !lockdown.includes('[none]')) {
    info(
      'sec.lockdown',
      '/sys/kernel/security/lockdown',
      lockdown,
      'VFIO works under lockdown; setpci and /dev/mem do not',
    );
  }
  return findings;
}

/**
 * Groups join a container and the IOMMU takes them, then everything is closed. No device is opened, so none is reset;
 * that is why through an iommufd only the iommufd itself is tried.
 */
function dryOpen(native: Native, bdfs: readonly HostBdf[]): Finding[] {
  const devices = bdfs.map((bdf) => ({ bdf, group: readDevice(native, bdf)!.iommuGroup! }));
  const { backend } = chooseBackend(native, devices);
  try {
    if (backend === 'container') new LegacyContainer(native, devices, () => {}).close();
    else native.close(openIommufd(native).fd);
  } catch (error) {
    if (!isCausewayError(error)) throw error;
    return [findingOf(error)];
  }
  return devices.map(({ bdf, group }) => ({
    id: 'vfio.open',
    severity: 'info',
    subject: bdf,
    evidence: [
      backend === 'container'
        ? { path: `/dev/vfio/${group}`, value: 'opened, joined a container, VFIO_SET_IOMMU' }
        : { path: IOMMUFD_NODE, value: 'opened, IOMMU_IOAS_ALLOC' },
    ],
    explanation: 'this user can assign it',
    fix: [],
  }));
}
