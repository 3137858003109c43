/**
 * Everything that has to hold before a device can be assigned, looked at before anything is opened. Nothing here
 * changes the host. Each failure is one sentence about the cause and one about the cure.
 */
import { kernelError } from '../../native/kernel-error.ts';
import type { HostBdf, HostFiles, Process } from '../../native/types.ts';
import { CausewayError, isCausewayError } from '../../vmm/base/errors.ts';
import { AUTO, type BackendKind, type BackendWish, chooseBackend, deviceFile, IOMMUFD_NODE } from './backend-choice.ts';
import { nearMatches, normaliseBdf, parseBdf } from './bdf.ts';
import { bindCommand } from './binding.ts';
import { findHolders } from './holders.ts';
import { groupOfFd } from './inherited-fds.ts';
import { deviceFileError, iommufdError } from './iommufd-errors.ts';
import { CAPABILITY, hasCapability } from './process.ts';
import { type HostDevice, isBridge, listDevices, readDevice, readText } from './sysfs.ts';
import {
  containerError,
  type Grouped,
  groupBusy,
  groupNotViable,
  groupPermission,
  memlockTooLow,
  oneToOneMapping,
  tokenRequired,
  tokenUnwanted,
} from './vfio-errors.ts';
import { blockingMembers, isVfioDriver } from './viability.ts';

type Host = HostFiles & Process;

export interface CheckOptions {
  /** How the devices are to be opened; default: whichever way works. */
  readonly iommu?: BackendWish;
  /** Also look through /proc for another process that has the group open. Costs a scan of all processes. */
  readonly findHolders?: boolean;
}

const ENOENT = 2;
const CONTAINER = '/dev/vfio/vfio';

/** A device to look at: an address, or what is asked for it. */
export interface CheckedDevice {
  readonly bdf: string;
  readonly vfToken?: string;
  readonly deviceFd?: number;
  readonly groupFd?: number;
}

/**
 * All faults at once, worst first for each device; empty when nothing stands in the way.
 * @param ramBytes guest RAM, all of which is pinned
 */
export function checkDevices(
  host: Host,
  devices: readonly (string | CheckedDevice)[],
  ramBytes: number,
  options: CheckOptions = {},
): CausewayError[] {
  const errors: CausewayError[] = [];
  const seen = new Set<HostBdf>();
  const asked = devices.map((device) => (typeof device === 'string' ? { bdf: device } : device));
  const wish = options.iommu ?? AUTO;
  const known = asked.flatMap((device) => {
    const bdf = parseBdf(device.bdf);
    return bdf ? [{ ...device, bdf }] : [];
  });
  const { backend } = chooseBackend(host, known, wish);
  for (const device of asked) {
    try {
      const bdf = normaliseBdf(device.bdf);
      if (seen.has(bdf)) {
        throw new CausewayError('CONFIG_INVALID', `${bdf} is given twice`, { bdf, hint: 'name each device once' });
      }
      seen.add(bdf);
      checkDevice(host, { ...device, bdf }, backend, options);
    } catch (error) {
      if (!isCausewayError(error)) throw error;
      errors.push(error);
    }
  }
  if (asked.length > 0) errors.push(...checkHost(host, ramBytes, backend, wish));
  // Without VFIO every device is unbound: the one cause first.
  return errors.sort((a, b) => Number(b.code === 'VFIO_MISSING') - Number(a.code === 'VFIO_MISSING'));
}

function checkHost(host: Host, ramBytes: number, backend: BackendKind, { given }: BackendWish): CausewayError[] {
  const errors: CausewayError[] = [];
  if (backend === 'container' && given.container === undefined && !host.exists(CONTAINER))
    errors.push(containerError(undefined));
  if (backend === 'iommufd' && given.iommufd === undefined) {
    if (!host.exists(IOMMUFD_NODE)) errors.push(iommufdError());
    else if (host.access(IOMMUFD_NODE, 'rw') !== 0)
      errors.push(iommufdError(kernelError('open', 'EACCES', IOMMUFD_NODE)));
  }
  const { soft, hard } = host.resourceLimit('memlock');
  // The soft limit can be raised to the hard one by the process itself, see raiseMemlock.
  const limit = Math.max(soft, hard);
  if (limit < ramBytes && !mayLockMemory(host)) errors.push(memlockTooLow(limit, ramBytes));
  return errors;
}

/**
 * Raises the soft memlock limit when guest RAM needs it and the hard one allows it. An iommufd counts what all processes
 * of the user have pinned, so that there the limit is raised as far as it goes.
 */
export function raiseMemlock(host: Host, ramBytes: number, backend: BackendKind): void {
  const { soft, hard } = host.resourceLimit('memlock');
  if (backend === 'iommufd' && hard > soft) {
    host.setResourceLimit('memlock', hard, hard);
    return;
  }
  if (soft < ramBytes && hard > soft && !mayLockMemory(host)) host.setResourceLimit('memlock', hard, hard);
}

/** The kernel's type 1 driver does not count pages of a process with CAP_IPC_LOCK. */
function mayLockMemory(host: Host): boolean {
  return hasCapability(host, CAPABILITY.IPC_LOCK);
}

/** @throws CausewayError for the first thing that is wrong: the later ones follow from it */
function checkDevice(
  host: Host,
  asked: CheckedDevice & { readonly bdf: HostBdf },
  backend: BackendKind,
  options: CheckOptions,
): void {
  const { bdf } = asked;
  const device = readDevice(host, bdf);
  if (!device) throw deviceNotFound(host, bdf);
  if (isBridge(device)) throw bridgeRefused(device);
  const group = device.iommuGroup;
  if (group === undefined) throw noGroup(host, bdf);
  if (!isVfioDriver(device.driver)) throw notBound(device);
  const grouped = { bdf, group };
  if (device.physicalFunction !== undefined) {
    const isShared = isVfioDriver(readDevice(host, device.physicalFunction)?.driver);
    // What was opened by somebody else was opened with the token.
    const isOpened = asked.deviceFd !== undefined && asked.groupFd !== undefined;
    if (isShared && asked.vfToken === undefined && !isOpened) throw tokenRequired(bdf);
    if (!isShared && asked.vfToken !== undefined) throw tokenUnwanted(bdf);
  }
  if (blockingMembers(host, bdf).length > 0) throw groupNotViable(host, grouped);
  // `direct` must stay mapped 1:1; `direct-relaxable` need not.
  if (/\sdirect$/m.test(readText(host, `/sys/kernel/iommu_groups/${group}/reserved_regions`) ?? '')) {
    throw oneToOneMapping(grouped);
  }
  if (backend === 'iommufd') checkDeviceFile(host, grouped, asked);
  else if (asked.groupFd === undefined) checkNode(host, grouped, options);
  else checkGroupFd(host, grouped, asked.groupFd);
}

function checkDeviceFile(host: Host, device: Grouped, { deviceFd }: CheckedDevice): void {
  if (deviceFd !== undefined) return;
  const path = deviceFile(host, device.bdf);
  if (path === undefined) throw deviceFileError(host, undefined, device, undefined);
  if (host.access(path, 'rw') !== 0) {
    throw deviceFileError(host, kernelError('open', 'EACCES', path), device, path);
  }
}

function checkGroupFd(host: Host, { bdf, group }: Grouped, fd: number): void {
  const found = groupOfFd(host, fd);
  if (found === undefined || found === group) return;
  throw new CausewayError('CONFIG_INVALID', `${bdf} is in IOMMU group ${group}, and file ${fd} is group ${found}`, {
    bdf,
    hint: `hand in /dev/vfio/${group}`,
  });
}

function checkNode(host: Host, device: Grouped, options: CheckOptions): void {
  const path = `/dev/vfio/${device.group}`;
  const status = host.access(path, 'rw');
  if (status === -ENOENT || !host.exists(path)) {
    throw new CausewayError('VFIO_MISSING', `${device.bdf}: ${path} does not exist, though the device is on vfio-pci`, {
      bdf: device.bdf,
      path,
      hint: host.exists(`/dev/vfio/noiommu-${device.group}`)
        ? 'VFIO runs without an IOMMU (noiommu), which cannot give a device to a VM: turn the IOMMU on'
        : 'in a container, pass the node in; else restart udev',
    });
  }
  if (status !== 0) throw groupPermission(device);
  if (options.findHolders && findHolders(host, path).length > 0) throw groupBusy(host, device);
}

/** No such function; names those that may have been meant. */
export function deviceNotFound(host: HostFiles, bdf: HostBdf): CausewayError {
  const near = nearMatches(bdf, listDevices(host));
  return new CausewayError('DEVICE_NOT_FOUND', `there is no PCI device ${bdf}`, {
    bdf,
    path: `/sys/bus/pci/devices/${bdf}`,
    hint: near.length > 0 ? `did you mean ${near.join(' or ')}?` : 'lspci -D lists the addresses',
  });
}

/** Bridges cannot be assigned. */
export function bridgeRefused(device: HostDevice): CausewayError {
  return new CausewayError('DEVICE_NOT_ENDPOINT', `${device.bdf} is a bridge, and bridges cannot be assigned`, {
    bdf: device.bdf,
    hint: `choose an endpoint behind it: ls /sys/bus/pci/devices/${device.bdf}`,
  });
}

function notBound({ bdf, driver }: HostDevice): CausewayError {
  return new CausewayError(
    'DEVICE_NOT_BOUND',
    driver ? `${bdf} is still on its host driver ${driver}` : `${bdf} is on no driver, and not on vfio-pci`,
    { bdf, path: `/sys/bus/pci/devices/${bdf}/driver`, hint: bindCommand(bdf, driver !== undefined) },
  );
}

/** The function is in no IOMMU group; tells what firmware and kernel say of the IOMMU. */
export function noGroup(host: HostFiles, bdf: HostBdf): CausewayError {
  const tables = ['DMAR', 'IVRS'].filter((name) => host.exists(`/sys/firmware/acpi/tables/${name}`));
  const hint =
    tables.length > 0
      ? 'firmware has an IOMMU, the kernel has it off: boot with intel_iommu=on, or without amd_iommu=off'
      : 'turn on VT-d or AMD-Vi (IOMMU) in firmware; in a VM, the outer host must emulate one';
  return new CausewayError('IOMMU_MISSING', `${bdf} is in no IOMMU group: the IOMMU is off or absent`, { bdf, hint });
}
