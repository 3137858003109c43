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

/** One write to sysfs. */
export interface BindingStep {
  readonly path: string;
  readonly text: string;
}

/** What {@link bindToVfio} writes, in order; empty when the function is on vfio-pci already. */
export function bindingPlan(files: HostFiles, bdf: HostBdf): BindingStep[] {
  const { driver } = readBinding(files, bdf);
  return isVfioDriver(driver) ? [] : steps(bdf, driver, VFIO_PCI);
}

/** What {@link restoreBinding} writes, in order; empty when nothing is left to do. */
export function restorePlan(files: HostFiles, record: BindingRecord): BindingStep[] {
  const now = readBinding(files, record.bdf);
  if (now.driver === record.driver && now.driverOverride === record.driverOverride) return [];
  const before = record.driver ?? '';
  const plan = now.driver === record.driver ? [] : steps(record.bdf, now.driver, before);
  const override = plan.length === 0 ? now.driverOverride : before;
  // An empty write may do nothing; a newline clears the override.
  return override === record.driverOverride ? plan : [...plan, overrideStep(record.bdf, record.driverOverride)];
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
    carryOut(files, steps(bdf, before.driver, VFIO_PCI));
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
  carryOut(files, restorePlan(files, record));
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
function steps(bdf: HostBdf, current: string | undefined, wanted: string): BindingStep[] {
  return [
    overrideStep(bdf, wanted),
    ...(current === undefined ? [] : [{ path: `${PCI_DEVICES}/${bdf}/driver/unbind`, text: bdf }]),
    ...(wanted === '' ? [] : [{ path: DRIVERS_PROBE, text: bdf }]),
  ];
}

function overrideStep(bdf: HostBdf, driver: string): BindingStep {
  return { path: `${PCI_DEVICES}/${bdf}/driver_override`, text: `${driver}\n` };
}

function carryOut(files: HostFiles, plan: readonly BindingStep[]): void {
  for (const { path, text } of plan) files.writeFile(path, text);
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
