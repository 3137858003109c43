/**
 * Everything that has to hold before a device can be assigned, looked at before anything is opened. Nothing here
 * changes the host. Each failure is one sentence about the cause and one about the cure.
 */
import type { HostBdf, HostFiles, Process } from '../../native/types.ts';
import { CausewayError, isCausewayError } from '../../vmm/base/errors.ts';
import { nearMatches, normaliseBdf } from './bdf.ts';
import { bindCommand } from './binding.ts';
import { findHolders } from './holders.ts';
import { CAPABILITY, hasCapability } from './process.ts';
import { type HostDevice, isBridge, listDevices, readDevice, readText } from './sysfs.ts';
import {
  containerError,
  groupBusy,
  groupNotViable,
  groupPermission,
  memlockTooLow,
  oneToOneMapping,
  tokenRequired,
} from './vfio-errors.ts';
import { blockingMembers, isVfioDriver } from './viability.ts';

type Host = HostFiles & Process;

export interface CheckOptions {
  /** Also look through /proc for another process that has the group open. Costs a scan of all processes. */
  readonly findHolders?: boolean;
}

const ENOENT = 2;
const CONTAINER = '/dev/vfio/vfio';

/**
 * All faults at once, worst first for each device; empty when nothing stands in the way.
 * @param ramBytes guest RAM, all of which is pinned
 */
export function checkDevices(
  host: Host,
  bdfs: readonly string[],
  ramBytes: number,
  options: CheckOptions = {},
): CausewayError[] {
  const errors: CausewayError[] = [];
  const seen = new Set<HostBdf>();
  for (const text of bdfs) {
    try {
      const bdf = normaliseBdf(text);
      if (seen.has(bdf)) {
        throw new CausewayError('CONFIG_INVALID', `${bdf} is given twice`, { bdf, hint: 'name each device once' });
      }
      seen.add(bdf);
      checkDevice(host, bdf, options);
    } catch (error) {
      if (!isCausewayError(error)) throw error;
      errors.push(error);
    }
  }
  if (bdfs.length > 0) errors.push(...checkHost(host, ramBytes));
  // Without VFIO every device is unbound: the one cause first.
  return errors.sort((a, b) => Number(b.code === 'VFIO_MISSING') - Number(a.code === 'VFIO_MISSING'));
}

function checkHost(host: Host, ramBytes: number): CausewayError[] {
  const errors: CausewayError[] = [];
  if (!host.exists(CONTAINER)) errors.push(containerError(undefined));
  const { soft, hard } = host.resourceLimit('memlock');
  // The soft limit can be raised to the hard one by the process itself, see raiseMemlock.
  const limit = Math.max(soft, hard);
  if (limit < ramBytes && !mayLockMemory(host)) errors.push(memlockTooLow(limit, ramBytes));
  return errors;
}

/** Raises the soft memlock limit when guest RAM needs it and the hard one allows it. */
export function raiseMemlock(host: Host, ramBytes: number): void {
  const { soft, hard } = host.resourceLimit('memlock');
  if (soft < ramBytes && hard > soft && !mayLockMemory(host)) host.setResourceLimit('memlock', hard, hard);
}

/** The kernel's type 1 driver does not count pages of a process with CAP_IPC_LOCK. */
function mayLockMemory(host: Host): boolean {
  return hasCapability(host, CAPABILITY.IPC_LOCK);
}

/** @throws CausewayError for the first thing that is wrong: the later ones follow from it */
function checkDevice(host: Host, bdf: HostBdf, options: CheckOptions): void {
  const device = readDevice(host, bdf);
  if (!device) throw deviceNotFound(host, bdf);
  if (isBridge(device)) throw bridgeRefused(device);
  const group = device.iommuGroup;
  if (group === undefined) throw noGroup(host, bdf);
  if (!isVfioDriver(device.driver)) throw notBound(device);
  const grouped = { bdf, group };
  if (isVfioDriver(device.physicalFunction && readDevice(host, device.physicalFunction)?.driver))
    throw tokenRequired(bdf);
  if (blockingMembers(host, bdf).length > 0) throw groupNotViable(host, grouped);
  // `direct` must stay mapped 1:1; `direct-relaxable` need not.
  if (/\sdirect$/m.test(readText(host, `/sys/kernel/iommu_groups/${group}/reserved_regions`) ?? '')) {
    throw oneToOneMapping(grouped);
  }
  checkNode(host, grouped, options);
}

function checkNode(host: Host, device: { readonly bdf: HostBdf; readonly group: number }, options: CheckOptions): void {
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
