/** `bind` and `restore` of whole sets of devices: everything is looked at before anything is written. */
import type { HostBdf, HostFiles } from '../../native/types.ts';
import { CausewayError } from '../../vmm/base/errors.ts';
import { type BindingStep, bindingPlan, bindToVfio, readBinding, restoreBinding, restorePlan } from './binding.ts';
import type { BindingJournal } from './binding-journal.ts';
import { describeHolders } from './holders.ts';
import { bridgeRefused, deviceNotFound, noGroup } from './preconditions.ts';
import { groupMembers, isBridge, readDevice } from './sysfs.ts';
import { hostUses } from './usage.ts';
import { blockingMembers, isVfioDriver } from './viability.ts';

export interface BindOptions {
  /** Also every other member of the devices' IOMMU groups, bridges aside. */
  readonly wholeGroups: boolean;
  /** Also devices that the host depends on. */
  readonly force: boolean;
  readonly dryRun: boolean;
}

/** What was done, or would be, with one device. */
export interface BindResult {
  readonly bdf: HostBdf;
  /** Absent when it had none. */
  readonly from?: string;
  readonly to?: string;
  /** The writes; empty when nothing was to be done. */
  readonly steps: readonly BindingStep[];
  /** What the user should know: neighbours that keep the group from being assigned. */
  readonly remarks: readonly string[];
}

/** @throws CausewayError for the first device that must not or cannot be bound; with none changed if that is known before */
export function bindDevices(
  files: HostFiles,
  bdfs: readonly HostBdf[],
  journal: BindingJournal,
  { wholeGroups, force, dryRun }: BindOptions,
): BindResult[] {
  const wanted = [...new Set(bdfs.flatMap((bdf) => (wholeGroups ? assignableMembers(files, bdf) : [bdf])))];
  for (const bdf of wanted) checkBindable(files, bdf, force);
  if (!files.exists('/sys/bus/pci/drivers/vfio-pci')) {
    throw new CausewayError('VFIO_MISSING', 'the driver vfio-pci is not loaded', {
      path: '/sys/bus/pci/drivers/vfio-pci',
      hint: 'sudo modprobe -a vfio-pci vfio_iommu_type1',
    });
  }
  const results = wanted.map((bdf): BindResult => {
    const { driver } = readBinding(files, bdf);
    const steps = bindingPlan(files, bdf);
    if (!dryRun) bindToVfio(files, bdf, (before) => journal.keep(before));
    const to = dryRun ? (isVfioDriver(driver) ? driver : 'vfio-pci') : readBinding(files, bdf).driver;
    return { bdf, ...name('from', driver), ...name('to', to), steps, remarks: [] };
  });
  // Only now: a neighbour may have been among those that were bound.
  return results.map((result) => ({ ...result, remarks: neighbours(files, result.bdf, wanted) }));
}

/** @throws CausewayError DEVICE_NOT_BOUND, DEVICE_BUSY, DEVICE_NOT_FOUND; the others are restored all the same */
export function restoreDevices(
  files: HostFiles,
  bdfs: readonly HostBdf[],
  journal: BindingJournal,
  dryRun: boolean,
): BindResult[] {
  const errors: unknown[] = [];
  const results = bdfs.flatMap((bdf): BindResult[] => {
    try {
      return [restoreDevice(files, bdf, journal, dryRun)];
    } catch (error) {
      errors.push(error);
      return [];
    }
  });
  if (errors.length > 0) throw errors[0];
  return results;
}

function restoreDevice(files: HostFiles, bdf: HostBdf, journal: BindingJournal, dryRun: boolean): BindResult {
  const device = readDevice(files, bdf);
  if (!device) throw deviceNotFound(files, bdf);
  // Without a record, for example after a bind by hand: no override, and the kernel's own choice of driver.
  const record = journal.find(bdf);
  const from = device.driver;
  // The write to `unbind` would not return while somebody has the device open.
  const holders = isVfioDriver(from) ? describeHolders(files, `/dev/vfio/${device.iommuGroup}`) : undefined;
  if (holders !== undefined && !dryRun) {
    throw new CausewayError('DEVICE_BUSY', `${bdf}: IOMMU group ${device.iommuGroup} is held by ${holders}`, {
      bdf,
      hint: 'stop that process first',
    });
  }
  if (!record) {
    throw new CausewayError('DEVICE_NOT_BOUND', `${bdf} was not bound by Causeway: nothing is known to restore`, {
      bdf,
      hint: isVfioDriver(from)
        ? `by hand: echo > /sys/bus/pci/devices/${bdf}/driver_override; echo ${bdf} > /sys/bus/pci/devices/${bdf}/driver/unbind; echo ${bdf} > /sys/bus/pci/drivers_probe`
        : `it is on ${from ?? 'no driver'}`,
    });
  }
  const steps = restorePlan(files, record);
  if (!dryRun) {
    restoreBinding(files, record);
    journal.forget(bdf);
  }
  return { bdf, ...name('from', from), ...name('to', record.driver), steps, remarks: [] };
}

function checkBindable(files: HostFiles, bdf: HostBdf, force: boolean): void {
  const device = readDevice(files, bdf);
  if (!device) throw deviceNotFound(files, bdf);
  if (isBridge(device)) throw bridgeRefused(device);
  if (device.iommuGroup === undefined) throw noGroup(files, bdf);
  if (isVfioDriver(device.driver)) return;
  const critical = hostUses(files, bdf).filter(({ isCritical }) => isCritical);
  if (critical.length === 0 || force) return;
  throw new CausewayError('DEVICE_IN_USE', `${bdf} is in use: ${critical.map(({ what }) => what).join('; ')}`, {
    bdf,
    hint: 'choose another device, or end that use; --force takes it away from the host all the same',
  });
}

function assignableMembers(files: HostFiles, bdf: HostBdf): HostBdf[] {
  return groupMembers(files, bdf).filter((member) => {
    const device = readDevice(files, member);
    return member === bdf || (device !== undefined && !isBridge(device));
  });
}

function neighbours(files: HostFiles, bdf: HostBdf, wanted: readonly HostBdf[]): string[] {
  return blockingMembers(files, bdf)
    .filter((member) => !wanted.includes(member.bdf))
    .map((member) => `${member.bdf} of its IOMMU group is on ${member.driver}: bind it too (--group), or unbind it`);
}

function name<K extends 'from' | 'to'>(key: K, driver: string | undefined): { readonly [P in K]?: string } {
  return driver === undefined ? {} : ({ [key]: driver } as { readonly [P in K]?: string });
}
