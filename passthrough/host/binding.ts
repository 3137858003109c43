/**
 * Moves a function to vfio-pci and back. What was there before is a plain record that the caller keeps, on disk if it is
 * to outlive the process, before the first change is made.
 */
import type { HostBdf, HostFiles } from '../../native/types.ts';
import { CausewayError, hasErrno } from '../../vmm/base/errors.ts';
import { linkName, PCI_DEVICES, readText } from './sysfs.ts';
import { isVfioDriver } from './viability.ts';

const DRIVERS_PROBE = '/sys/bus/pci/drivers_probe';
const VFIO_PCI = 'vfio-pci';

/** How a function was bound. Plain data. */
export interface BindingRecord {
  readonly bdf: HostBdf;
  readonly driver: string | undefined;
  /** Content of `driver_override`; empty when there was none. */
  readonly driverOverride: string;
}

/** The commands that move a function to vfio-pci, for a hint. */
export function bindCommand(bdf: HostBdf, hasDriver: boolean): string {
  const device = `${PCI_DEVICES}/${bdf}`;
  const steps = [
    `echo ${VFIO_PCI} > ${device}/driver_override`,
    ...(hasDriver ? [`echo ${bdf} > ${device}/driver/unbind`] : []),
    `echo ${bdf} > ${DRIVERS_PROBE}`,
  ];
  return `sudo sh -c 'modprobe vfio-pci; ${steps.join('; ')}'`;
}

/** How a function is bound now. */
export function readBinding(files: HostFiles, bdf: HostBdf): BindingRecord {
  const override = readText(files, `${PCI_DEVICES}/${bdf}/driver_override`) ?? '';
  return {
    bdf,
    driver: linkName(files, `${PCI_DEVICES}/${bdf}/driver`),
    driverOverride: override === '(null)' ? '' : override,
  };
}

/**
 * Binds a function to vfio-pci. Success of the kernel's probe says nothing, so the result is looked at; what fails half
 * way is put back.
 * @param record called with what was there before, before anything changes
 * @throws CausewayError DEVICE_NOT_BOUND
 */
export function bindToVfio(files: HostFiles, bdf: HostBdf, record: (before: BindingRecord) => void): void {
  const before = readBinding(files, bdf);
  if (isVfioDriver(before.driver)) return;
  record(before);
  try {
    rebind(files, bdf, before.driver, VFIO_PCI);
  } catch (error) {
    attempt(() => restoreBinding(files, before));
    throw notBound(bdf, error);
  }
  if (isVfioDriver(readBinding(files, bdf).driver)) return;
  attempt(() => restoreBinding(files, before));
  throw notBound(bdf);
}

/** Puts a function back as it was. @throws CausewayError DEVICE_NOT_BOUND when the old driver does not take it */
export function restoreBinding(files: HostFiles, record: BindingRecord): void {
  const now = readBinding(files, record.bdf);
  if (now.driver === record.driver && now.driverOverride === record.driverOverride) return;
  rebind(files, record.bdf, now.driver, record.driver ?? '');
  // An empty write may do nothing; a newline clears the override.
  if (record.driverOverride !== (record.driver ?? '')) setOverride(files, record.bdf, record.driverOverride);
  const { driver } = readBinding(files, record.bdf);
  if (driver !== record.driver) {
    throw new CausewayError(
      'DEVICE_NOT_BOUND',
      `${record.bdf} is on ${driver ?? 'no driver'}, and was on ${record.driver ?? 'none'}`,
      { bdf: record.bdf, hint: `echo ${record.bdf} | sudo tee /sys/bus/pci/drivers/${record.driver}/bind` },
    );
  }
}

/** @param wanted name of a driver, or empty for none */
function rebind(files: HostFiles, bdf: HostBdf, current: string | undefined, wanted: string): void {
  setOverride(files, bdf, wanted);
  if (current !== undefined) files.writeFile(`${PCI_DEVICES}/${bdf}/driver/unbind`, bdf);
  if (wanted !== '') files.writeFile(DRIVERS_PROBE, bdf);
}

function setOverride(files: HostFiles, bdf: HostBdf, driver: string): void {
  files.writeFile(`${PCI_DEVICES}/${bdf}/driver_override`, `${driver}\n`);
}

function notBound(bdf: HostBdf, cause?: unknown): CausewayError {
  const denied = hasErrno(cause, 'EACCES', 'EPERM');
  return new CausewayError('DEVICE_NOT_BOUND', `${bdf} cannot be bound to vfio-pci`, {
    bdf,
    cause,
    hint: denied ? 'this needs root' : `see the kernel log: sudo dmesg | grep ${bdf}; is vfio-pci loaded?`,
  });
}

/** The first error is the one to report. */
function attempt(step: () => void): void {
  try {
    step();
  } catch {
    // Reported by the caller's own error.
  }
}
