/** Resets of a device that no guest has: the ladder that a VM uses between owners, or one method of the kernel's by name. */
import type { HostBdf, Native } from '../../../native/types.ts';
import { AUTO } from '../../../passthrough/host/backend-choice.ts';
import { PCI_DEVICES, readDevice, readText } from '../../../passthrough/host/sysfs.ts';
import { type ResetResult, Resetter } from '../../../passthrough/reset/reset.ts';
import { openBackend } from '../../../passthrough/vfio/open-backend.ts';
import { CausewayError, isKernelError } from '../../../vmm/base/errors.ts';

/** Opens the device through VFIO, resets it, closes it. @throws CausewayError when it cannot be opened */
export function ladderReset(native: Native, bdf: HostBdf): ResetResult {
  const group = readDevice(native, bdf)?.iommuGroup;
  if (group === undefined) throw new CausewayError('DEVICE_LOST', `${bdf} is gone`, { bdf });
  const { backend } = openBackend(native, [{ bdf, group }], AUTO, () => {});
  try {
    const device = backend.openDevice({ bdf, group });
    try {
      return new Resetter(native, backend.groups).reset(device);
    } finally {
      device.close();
    }
  } finally {
    backend.close();
  }
}

/**
 * Has the kernel reset the function by one method, through sysfs (Documentation/ABI/testing/sysfs-bus-pci, `reset_method`).
 * Works under a guest as well.
 */
export function kernelReset(native: Native, bdf: HostBdf, method: string): ResetResult {
  const folder = `${PCI_DEVICES}/${bdf}`;
  const usual = readText(native, `${folder}/reset_method`) ?? '';
  if (!usual.split(/\s+/).includes(method)) {
    return { method: `none: ${bdf} has no reset "${method}", it has: ${usual || 'none'}`, ok: false };
  }
  try {
    native.writeFile(`${folder}/reset_method`, `${method}\n`);
    native.writeFile(`${folder}/reset`, '1\n');
    return { method, ok: true };
  } catch (error) {
    return { method: `${method} failed (${isKernelError(error) ? error.code : String(error)})`, ok: false };
  } finally {
    native.writeFile(`${folder}/reset_method`, `${usual}\n`);
  }
}
