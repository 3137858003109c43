/**
 * Virtual functions of a PF, made and removed through sysfs (Documentation/PCI/pci-iov-howto.rst). What was there before is
 * kept on disk first, as with drivers, and put back when anything fails.
 */
import type { HostBdf, HostFiles } from '../../native/types.ts';
import { CausewayError, hasErrno } from '../../vmm/base/errors.ts';
import { deviceFile } from './backend-choice.ts';
import type { BindingStep } from './binding.ts';
import type { BindingJournal } from './binding-journal.ts';
import { describeHolders } from './holders.ts';
import { deviceNotFound } from './preconditions.ts';
import type { RecordDirectory } from './record-directory.ts';
import { linkName, PCI_DEVICES, readDevice, readText } from './sysfs.ts';
import { hostUses } from './usage.ts';
import { isVfioDriver } from './viability.ts';

export const VF_JOURNAL_DIRECTORY = '/run/causeway/vfs';
const ENABLE_SRIOV = '/sys/module/vfio_pci/parameters/enable_sriov';

/** One VF as sysfs has it. */
export interface VirtualFunction {
  readonly bdf: HostBdf;
  /** Absent when it has none. */
  readonly driver?: string;
  readonly iommuGroup?: number;
}

/** A PF and its VFs. */
export interface VfReport {
  readonly bdf: HostBdf;
  readonly driver?: string;
  readonly totalVfs: number;
  /** Whether the kernel looks for drivers for VFs that come into being. */
  readonly driversAutoprobe: boolean;
  readonly vfs: readonly VirtualFunction[];
  /** What was written, or would be. */
  readonly steps: readonly BindingStep[];
}

export interface VfOptions {
  /** Let the drivers of the host take the new VFs; default: they stay without one, ready for `bind`. */
  readonly hostDrivers?: boolean;
  readonly dryRun?: boolean;
}

/** How a PF was before its VFs were made. */
interface VfRecord {
  readonly bdf: HostBdf;
  readonly driversAutoprobe: boolean;
}

/** Where VFs and bindings are remembered. */
export interface VfJournals {
  readonly vfs: RecordDirectory;
  /** VFs that are removed need not find back to a driver. */
  readonly bindings: BindingJournal;
}

/** @throws CausewayError DEVICE_NOT_FOUND, SRIOV_FAILED for what is no PF */
export function readVfs(files: HostFiles, bdf: HostBdf): VfReport {
  const device = readDevice(files, bdf);
  if (!device) throw deviceNotFound(files, bdf);
  if (device.physicalFunction !== undefined) {
    throw failed(bdf, `${bdf} is a virtual function itself`, {
      hint: `its physical function is ${device.physicalFunction}`,
    });
  }
  const totalVfs = Number(readText(files, attribute(bdf, 'sriov_totalvfs')) ?? 0);
  if (!(totalVfs > 0)) {
    throw failed(bdf, `${bdf} has no SR-IOV, or the kernel does not let it use it`, {
      path: attribute(bdf, 'sriov_totalvfs'),
      hint: 'firmware may have SR-IOV off; lspci -vv shows whether the device has the capability',
    });
  }
  return {
    bdf,
    ...(device.driver === undefined ? {} : { driver: device.driver }),
    totalVfs,
    driversAutoprobe: readText(files, attribute(bdf, 'sriov_drivers_autoprobe')) !== '0',
    vfs: listVfs(files, bdf),
    steps: [],
  };
}

/**
 * Makes `count` VFs, looks whether they came, and keeps a record for {@link removeVfs}.
 * @throws CausewayError SRIOV_FAILED, with everything as it was
 */
export function createVfs(
  files: HostFiles,
  bdf: HostBdf,
  count: number,
  { vfs: journal }: VfJournals,
  { hostDrivers = false, dryRun = false }: VfOptions = {},
): VfReport {
  const before = readVfs(files, bdf);
  checkCreation(files, before, count);
  // A PF on vfio-pci makes its VFs vfio-pci's as well, which needs the search for drivers.
  const wantsProbe = hostDrivers || isVfioDriver(before.driver);
  const steps = [
    ...(before.driversAutoprobe === wantsProbe ? [] : [step(bdf, 'sriov_drivers_autoprobe', wantsProbe ? '1' : '0')]),
    step(bdf, 'sriov_numvfs', String(count)),
  ];
  if (dryRun) return { ...before, steps };
  try {
    journal.write(bdf, { bdf, driversAutoprobe: before.driversAutoprobe } satisfies VfRecord);
  } catch (cause) {
    throw failed(bdf, `${bdf}: no record of its state can be kept, so nothing was changed`, {
      cause,
      path: journal.path,
      hint: 'this needs root',
    });
  }
  try {
    for (const { path, text } of steps) files.writeFile(path, text);
    const { length } = listVfs(files, bdf);
    if (length !== count) throw failed(bdf, `${bdf} was asked for ${count} VFs and has ${length}`);
    return { ...readVfs(files, bdf), steps };
  } catch (cause) {
    putBack(files, before);
    journal.remove(bdf);
    throw creationError(before, count, cause);
  }
}

/**
 * Removes the VFs that {@link createVfs} made and puts back what it changed.
 * @throws CausewayError DEVICE_BUSY, DEVICE_IN_USE when one is in use, and nothing is changed; SRIOV_FAILED
 */
export function removeVfs(
  files: HostFiles,
  bdf: HostBdf,
  { vfs: journal, bindings }: VfJournals,
  { dryRun = false }: Pick<VfOptions, 'dryRun'> = {},
): VfReport {
  const before = readVfs(files, bdf);
  const record = journal.read(bdf);
  if (!isRecord(record)) {
    throw failed(bdf, `the VFs of ${bdf} were not made by Causeway: nothing is known to restore`, {
      hint: before.vfs.length > 0 ? `by hand: echo 0 | sudo tee ${attribute(bdf, 'sriov_numvfs')}` : 'it has none',
    });
  }
  for (const vf of before.vfs) checkUnused(files, vf);
  const steps = [
    ...(before.vfs.length > 0 ? [step(bdf, 'sriov_numvfs', '0')] : []),
    ...(before.driversAutoprobe === record.driversAutoprobe
      ? []
      : [step(bdf, 'sriov_drivers_autoprobe', record.driversAutoprobe ? '1' : '0')]),
  ];
  if (dryRun) return { ...before, steps };
  try {
    for (const { path, text } of steps) files.writeFile(path, text);
  } catch (cause) {
    const hint = hasErrno(cause, 'EACCES', 'EPERM')
      ? 'this needs root'
      : `see the kernel log: sudo dmesg | grep ${bdf}`;
    throw failed(bdf, `${bdf}: its VFs cannot be removed`, { cause, hint });
  }
  const after = readVfs(files, bdf);
  if (after.vfs.length > 0) throw failed(bdf, `${bdf} still has ${after.vfs.length} VFs`);
  for (const vf of before.vfs) bindings.forget(vf.bdf);
  journal.remove(bdf);
  return { ...after, steps };
}

function checkCreation(files: HostFiles, { bdf, driver, totalVfs, vfs }: VfReport, count: number): void {
  if (count < 1 || count > totalVfs) {
    throw failed(bdf, `${bdf} can have 1 to ${totalVfs} VFs, not ${count}`, { path: attribute(bdf, 'sriov_totalvfs') });
  }
  if (vfs.length > 0) {
    throw failed(bdf, `${bdf} has ${vfs.length} VFs already, and the kernel changes the number only from 0`, {
      path: attribute(bdf, 'sriov_numvfs'),
      hint: `causeway vfs ${bdf} --remove, if Causeway made them`,
    });
  }
  if (driver === undefined) {
    throw failed(bdf, `${bdf} has no driver, and VFs need that of their physical function`, {
      hint: `load its driver: sudo modprobe $(cat ${attribute(bdf, 'modalias')})`,
    });
  }
  if (driver === 'vfio-pci' && !/^[Y1]/.test(readText(files, ENABLE_SRIOV) ?? '')) {
    throw failed(bdf, `${bdf} is on vfio-pci, which makes no VFs as it is set up`, {
      path: ENABLE_SRIOV,
      hint: `echo Y | sudo tee ${ENABLE_SRIOV}; or bind ${bdf} to its host driver`,
    });
  }
}

/** The write of 0 would not return while somebody has a VF open. */
function checkUnused(files: HostFiles, { bdf, driver, iommuGroup }: VirtualFunction): void {
  const own = deviceFile(files, bdf);
  const holders = isVfioDriver(driver)
    ? (describeHolders(files, `/dev/vfio/${iommuGroup}`) ?? (own && describeHolders(files, own)))
    : undefined;
  if (holders !== undefined) {
    throw new CausewayError('DEVICE_BUSY', `${bdf} is held by ${holders}`, { bdf, hint: 'stop that process first' });
  }
  const critical = hostUses(files, bdf).filter(({ isCritical }) => isCritical);
  if (critical.length === 0) return;
  throw new CausewayError('DEVICE_IN_USE', `${bdf} is in use: ${critical.map(({ what }) => what).join('; ')}`, {
    bdf,
    hint: 'end that use first',
  });
}

function creationError({ bdf, driver }: VfReport, count: number, cause: unknown): CausewayError {
  if (cause instanceof CausewayError) return cause;
  const message = `${bdf} does not get ${count} VFs`;
  if (hasErrno(cause, 'EACCES', 'EPERM')) return failed(bdf, message, { cause, hint: 'this needs root' });
  if (hasErrno(cause, 'ENOENT')) {
    return failed(bdf, `${message}: its driver ${driver} makes none`, {
      cause,
      hint: 'another driver, or a newer one',
    });
  }
  if (hasErrno(cause, 'ENOMEM')) {
    return failed(bdf, `${message}: there is no room for their BARs`, {
      cause,
      hint: 'turn on SR-IOV (and decoding above 4 GiB) in firmware, or boot with pci=realloc',
    });
  }
  return failed(bdf, message, { cause, hint: `see the kernel log: sudo dmesg | grep ${bdf}` });
}

/** The first error is the one to report. */
function putBack(files: HostFiles, { bdf, driversAutoprobe }: VfReport): void {
  const attempt = (name: string, text: string): void => {
    try {
      files.writeFile(attribute(bdf, name), text);
    } catch {
      // Reported by the caller's own error.
    }
  };
  if (listVfs(files, bdf).length > 0) attempt('sriov_numvfs', '0');
  const now = readText(files, attribute(bdf, 'sriov_drivers_autoprobe')) !== '0';
  if (now !== driversAutoprobe) attempt('sriov_drivers_autoprobe', driversAutoprobe ? '1' : '0');
}

function listVfs(files: HostFiles, bdf: HostBdf): VirtualFunction[] {
  const found: VirtualFunction[] = [];
  for (let index = 0; ; index++) {
    const vf = linkName(files, attribute(bdf, `virtfn${index}`)) as HostBdf | undefined;
    if (vf === undefined) return found;
    const device = readDevice(files, vf);
    found.push({
      bdf: vf,
      ...(device?.driver === undefined ? {} : { driver: device.driver }),
      ...(device?.iommuGroup === undefined ? {} : { iommuGroup: device.iommuGroup }),
    });
  }
}

function attribute(bdf: HostBdf, name: string): string {
  return `${PCI_DEVICES}/${bdf}/${name}`;
}

function step(bdf: HostBdf, name: string, text: string): BindingStep {
  return { path: attribute(bdf, name), text };
}

function failed(
  bdf: HostBdf,
  message: string,
  details: { readonly cause?: unknown; readonly path?: string; readonly hint?: string } = {},
): CausewayError {
  return new CausewayError('SRIOV_FAILED', message, { bdf, ...details });
}

function isRecord(value: unknown): value is VfRecord {
  return typeof value === 'object' && value !== null && 'driversAutoprobe' in value;
}
