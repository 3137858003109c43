/** What a failing iommufd call means to the user, and what to do about it. One function per call. */
import type { HostFiles } from '../../native/types.ts';
import { CausewayError, hasErrno } from '../../vmm/base/errors.ts';
import { bindCommand } from './binding.ts';
import { describeHolders } from './holders.ts';
import { type Grouped, groupNotViable, oneToOneMapping, tokenRequired, tokenWrong } from './vfio-errors.ts';
import { blockingMembers } from './viability.ts';

const NODE = '/dev/iommu';
const USE_CONTAINER = 'set iommu to "container" (--iommu container), or leave it at "auto"';

/** open("/dev/iommu"), IOMMU_IOAS_ALLOC */
export function iommufdError(cause?: unknown): CausewayError {
  if (hasErrno(cause, 'EACCES', 'EPERM')) {
    return new CausewayError('VFIO_PERMISSION', `${NODE} may not be opened by this user`, {
      cause,
      path: NODE,
      hint: `sudo chmod 666 ${NODE}, or have it opened by another and hand it in; ${USE_CONTAINER}`,
    });
  }
  if (hasErrno(cause, 'ENOTTY', 'EBADF')) {
    return new CausewayError('CONFIG_INVALID', `the file that was handed in as iommufd is no ${NODE}`, { cause });
  }
  return new CausewayError('VFIO_MISSING', `${NODE} cannot be opened: the kernel has no iommufd`, {
    cause,
    path: NODE,
    hint: `it needs CONFIG_IOMMUFD, or: sudo modprobe iommufd; ${USE_CONTAINER}`,
  });
}

/** open("/dev/vfio/devices/vfioN"); without a path there is no such file. */
export function deviceFileError(
  files: HostFiles,
  cause: unknown,
  { bdf }: Grouped,
  path: string | undefined,
): CausewayError {
  if (path === undefined) {
    return new CausewayError('VFIO_MISSING', `${bdf} has no file in /dev/vfio/devices`, {
      cause,
      bdf,
      path: `/sys/bus/pci/devices/${bdf}/vfio-dev`,
      hint: files.exists(`/sys/bus/pci/devices/${bdf}/driver`)
        ? `the kernel needs CONFIG_VFIO_DEVICE_CDEV; ${USE_CONTAINER}`
        : bindCommand(bdf, false),
    });
  }
  return new CausewayError('VFIO_PERMISSION', `${bdf}: ${path} may not be opened by this user`, {
    cause,
    bdf,
    path,
    hint: `sudo chown $USER ${path}; for good, a udev rule: SUBSYSTEM=="vfio-dev", GROUP="vfio", MODE="0660"`,
  });
}

/** VFIO_DEVICE_BIND_IOMMUFD */
export function bindError(
  files: HostFiles,
  cause: unknown,
  device: Grouped & { readonly vfToken?: string },
  path: string | undefined,
): CausewayError {
  const { bdf, group } = device;
  if (hasErrno(cause, 'EACCES'))
    return device.vfToken === undefined ? tokenRequired(bdf, cause) : tokenWrong(bdf, cause);
  if (hasErrno(cause, 'EPERM')) {
    if (blockingMembers(files, bdf).length > 0) return groupNotViable(files, device, cause);
    return new CausewayError(
      'IRQ_REMAPPING_MISSING',
      'the platform does not isolate interrupts (no interrupt remapping), or the DMA of the group has another owner',
      {
        cause,
        bdf,
        hint: 'turn on interrupt remapping in firmware and remove intremap=off; at your own risk: echo 1 | sudo tee /sys/module/iommufd/parameters/allow_unsafe_interrupts',
      },
    );
  }
  if (hasErrno(cause, 'EBUSY', 'EINVAL')) {
    const group1 = `/dev/vfio/${group}`;
    const holders = describeHolders(files, group1) ?? (path && describeHolders(files, path));
    return new CausewayError('DEVICE_BUSY', `${bdf} is held by ${holders ?? 'another process, or through its group'}`, {
      cause,
      bdf,
      ...(path === undefined ? {} : { path }),
      hint: holders ? 'stop that process, or choose another device' : `find it with: sudo fuser -v ${path} ${group1}`,
    });
  }
  if (hasErrno(cause, 'ENOTTY', 'EBADF', 'EBADFD')) {
    return new CausewayError('CONFIG_INVALID', `${bdf}: a file that was handed in is not what it should be`, {
      cause,
      bdf,
      hint: 'fd: a file of /dev/vfio/devices that is not bound yet; the iommufd: one of /dev/iommu',
    });
  }
  return new CausewayError('DEVICE_UNSUPPORTED', `${bdf}: VFIO cannot open the device`, {
    cause,
    bdf,
    hint: `see the kernel log: sudo dmesg | grep ${bdf}`,
  });
}

/** VFIO_DEVICE_ATTACH_IOMMUFD_PT */
export function attachError(cause: unknown, device: Grouped): CausewayError {
  if (hasErrno(cause, 'EINVAL')) return oneToOneMapping(device, cause);
  return new CausewayError('DEVICE_UNSUPPORTED', `${device.bdf}: the IOMMU does not take the device`, {
    cause,
    bdf: device.bdf,
    hint: 'see the kernel log: sudo dmesg | grep -i -e iommu -e RMRR',
  });
}
