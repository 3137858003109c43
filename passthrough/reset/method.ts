/**
 * Which of the kernel's ways VFIO_DEVICE_RESET takes: the first in sysfs `reset_method` that works. Only root may change
 * that list, and it is given back as it was.
 */
import type { HostFiles } from '../../native/types.ts';
import { CausewayError } from '../../vmm/base/errors.ts';
import type { ResetMethod } from '../../vmm/config/model.ts';
import { type HostDevice, PCI_DEVICES } from '../host/sysfs.ts';

/** Not the kernel's: decided by Causeway itself. */
const OWN_METHODS: readonly ResetMethod[] = ['auto', 'hot', 'none'];

/**
 * Makes the kernel use `method` for this device.
 * @returns what undoes it
 * @throws CausewayError DEVICE_UNSUPPORTED when the device lacks the method, or this user may not choose
 */
export function chooseResetMethod(
  files: HostFiles,
  { bdf, resetMethods }: HostDevice,
  method: ResetMethod | undefined,
): () => void {
  if (method === undefined || OWN_METHODS.includes(method) || resetMethods[0] === method) return () => {};
  const path = `${PCI_DEVICES}/${bdf}/reset_method`;
  if (!resetMethods.includes(method)) {
    const offered = resetMethods.length === 0 ? 'none' : resetMethods.join(', ');
    throw new CausewayError(
      'DEVICE_UNSUPPORTED',
      `${bdf}: the kernel cannot reset it by ${method}; it offers: ${offered}`,
      {
        bdf,
        path,
        hint: 'choose another reset, or "auto"',
      },
    );
  }
  try {
    files.writeFile(path, method);
  } catch (cause) {
    throw new CausewayError('DEVICE_UNSUPPORTED', `${bdf}: its reset method cannot be set to ${method}`, {
      bdf,
      path,
      cause,
      hint: `only root may: echo ${method} | sudo tee ${path}`,
    });
  }
  return () => files.writeFile(path, resetMethods.join(' '));
}
