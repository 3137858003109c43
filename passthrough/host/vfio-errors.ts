/** What a failing VFIO call means to the user, and what to do about it. One function per call. */
import type { HostBdf, HostFiles, Process } from '../../native/types.ts';
import { CausewayError, hasErrno } from '../../vmm/base/errors.ts';
import type { Range } from '../../vmm/base/ranges.ts';
import { formatSize, hex } from '../../vmm/base/units.ts';
import { bindCommand } from './binding.ts';
import { describeHolders } from './holders.ts';
import { blockingMembers } from './viability.ts';

export interface Grouped {
  readonly bdf: HostBdf;
  readonly group: number;
}

const MODPROBE = 'sudo modprobe -a vfio-pci vfio_iommu_type1';

/** open("/dev/vfio/vfio") */
export function containerError(cause: unknown): CausewayError {
  if (hasErrno(cause, 'EACCES', 'EPERM')) {
    return new CausewayError('VFIO_PERMISSION', '/dev/vfio/vfio may not be opened', {
      cause,
      path: '/dev/vfio/vfio',
      hint: 'sudo chmod 666 /dev/vfio/vfio (its usual mode); in a container, pass the node in',
    });
  }
  return new CausewayError('VFIO_MISSING', 'VFIO is not loaded: /dev/vfio/vfio cannot be opened', {
    cause,
    path: '/dev/vfio/vfio',
    hint: MODPROBE,
  });
}

/** open("/dev/vfio/N") */
export function groupOpenError(files: HostFiles, cause: unknown, { bdf, group }: Grouped): CausewayError {
  const path = `/dev/vfio/${group}`;
  if (hasErrno(cause, 'EBUSY')) return groupBusy(files, { bdf, group }, cause);
  if (hasErrno(cause, 'EACCES')) return groupPermission({ bdf, group }, cause);
  if (hasErrno(cause, 'EPERM')) {
    return new CausewayError('VFIO_PERMISSION', `${bdf}: ${path} may not be opened, whatever its mode says`, {
      cause,
      bdf,
      path,
      hint: `a device filter of a control group does that: in a container, add --device ${path} --device /dev/vfio/vfio`,
    });
  }
  return new CausewayError('DEVICE_NOT_BOUND', `${bdf}: ${path} cannot be opened`, {
    cause,
    bdf,
    path,
    hint: bindCommand(bdf, true),
  });
}

/** The group's node exists, another process has it open. */
export function groupBusy(files: HostFiles, { bdf, group }: Grouped, cause?: unknown): CausewayError {
  const path = `/dev/vfio/${group}`;
  const holders = describeHolders(files, path);
  return new CausewayError('DEVICE_BUSY', `${bdf}: IOMMU group ${group} is held by ${holders ?? 'another process'}`, {
    cause,
    bdf,
    path,
    hint: holders ? 'stop that process, or choose another device' : `find it with: sudo fuser -v ${path}`,
  });
}

export function groupPermission({ bdf, group }: Grouped, cause?: unknown): CausewayError {
  const path = `/dev/vfio/${group}`;
  return new CausewayError('VFIO_PERMISSION', `${bdf}: ${path} may not be opened by this user`, {
    cause,
    bdf,
    path,
    hint: `sudo chown $USER ${path}; for good, a udev rule: SUBSYSTEM=="vfio", GROUP="vfio", MODE="0660"`,
  });
}

/** A member of the group is on a host driver; names it. */
export function groupNotViable(files: HostFiles, { bdf, group }: Grouped, cause?: unknown): CausewayError {
  const blocking = blockingMembers(files, bdf);
  const names = blocking.map((member) => `${member.bdf} (${member.driver})`).join(', ');
  return new CausewayError(
    'GROUP_NOT_VIABLE',
    `${bdf}: IOMMU group ${group} is also used by the host: ${names || 'a member that is on a host driver'}`,
    {
      cause,
      bdf,
      hint: blocking[0]
        ? `unbind it: echo ${blocking[0].bdf} | sudo tee /sys/bus/pci/devices/${blocking[0].bdf}/driver/unbind`
        : `see ls -l /sys/kernel/iommu_groups/${group}/devices/*/driver`,
    },
  );
}

/** VFIO_GROUP_SET_CONTAINER. */
export function joinError(files: HostFiles, cause: unknown, device: Grouped): CausewayError {
  const { bdf, group } = device;
  if (hasErrno(cause, 'EPERM')) return groupNotViable(files, device, cause);
  if (hasErrno(cause, 'EINVAL')) return oneToOneMapping(device, cause);
  return new CausewayError('DEVICE_BUSY', `${bdf}: the DMA of IOMMU group ${group} belongs to another owner`, {
    cause,
    bdf,
    hint: 'another VFIO user or a kernel subsystem has the group; stop it',
  });
}

/** Firmware demands a 1:1 mapping (RMRR), so the kernel refuses to give the group away. */
export function oneToOneMapping({ bdf, group }: Grouped, cause?: unknown): CausewayError {
  return new CausewayError(
    'DEVICE_UNSUPPORTED',
    `${bdf}: firmware demands a fixed memory mapping (RMRR) for IOMMU group ${group}, so it cannot be assigned`,
    {
      cause,
      bdf,
      hint: `see /sys/kernel/iommu_groups/${group}/reserved_regions; a firmware option or another slot may cure it`,
    },
  );
}

/** VFIO_SET_IOMMU */
export function setIommuError(cause: unknown): CausewayError {
  if (hasErrno(cause, 'EPERM')) {
    return new CausewayError(
      'IRQ_REMAPPING_MISSING',
      'the platform does not isolate interrupts (no interrupt remapping), so a guest could forge interrupts of the host',
      {
        cause,
        hint: 'turn on interrupt remapping in firmware and remove intremap=off; at your own risk: echo 1 | sudo tee /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts',
      },
    );
  }
  if (hasErrno(cause, 'EINVAL')) {
    return new CausewayError(
      'DEVICE_UNSUPPORTED',
      'the IOMMU refuses the group, most likely for a firmware mapping (RMRR)',
      {
        cause,
        hint: 'see the kernel log: sudo dmesg | grep -i -e iommu -e RMRR',
      },
    );
  }
  if (hasErrno(cause, 'ENODEV')) {
    return new CausewayError('VFIO_MISSING', 'VFIO has no IOMMU driver', { cause, hint: MODPROBE });
  }
  return new CausewayError('IOMMU_MISSING', 'the IOMMU refuses to take the group', { cause });
}

/** VFIO_IOMMU_MAP_DMA */
export function dmaMapError(process: Process, cause: unknown, part: Range, ramBytes: number): CausewayError {
  if (hasErrno(cause, 'ENOMEM')) return memlockTooLow(process.resourceLimit('memlock').soft, ramBytes, cause);
  const what = `${formatSize(part.size)} of guest RAM at ${hex(part.start)} cannot be mapped for DMA`;
  if (hasErrno(cause, 'ENOSPC')) {
    return new CausewayError('DMA_MAP_FAILED', `${what}: too many mappings`, {
      cause,
      hint: 'raise /sys/module/vfio_iommu_type1/parameters/dma_entry_limit, or use huge pages',
    });
  }
  return new CausewayError('DMA_MAP_FAILED', what, {
    cause,
    hint: 'see the kernel log: sudo dmesg | grep -i vfio',
  });
}

/** Pinned guest RAM counts against RLIMIT_MEMLOCK. */
export function memlockTooLow(limitBytes: number, ramBytes: number, cause?: unknown): CausewayError {
  return new CausewayError(
    'MEMLOCK_TOO_LOW',
    `all guest RAM is pinned for DMA: ${ramBytes} bytes (${formatSize(ramBytes)}), but RLIMIT_MEMLOCK is ${formatLimit(limitBytes)}`,
    {
      cause,
      hint: 'sudo prlimit --pid $$ --memlock=unlimited; for good, in /etc/security/limits.d/vfio.conf: @vfio - memlock unlimited',
    },
  );
}

/** VFIO_GROUP_GET_DEVICE_FD */
export function deviceOpenError(
  cause: unknown,
  { bdf, group, vfToken }: Grouped & { readonly vfToken?: string },
): CausewayError {
  if (hasErrno(cause, 'EACCES')) return vfToken === undefined ? tokenRequired(bdf, cause) : tokenWrong(bdf, cause);
  if (hasErrno(cause, 'EINVAL') && vfToken !== undefined) return tokenUnwanted(bdf, cause);
  if (hasErrno(cause, 'EBUSY')) {
    return new CausewayError('DEVICE_BUSY', `${bdf}: the device, or one of its BARs, is in use`, {
      cause,
      bdf,
      hint: 'a boot framebuffer may sit on a BAR: see /proc/iomem',
    });
  }
  if (hasErrno(cause, 'ENODEV')) {
    return new CausewayError('DEVICE_NOT_BOUND', `${bdf}: IOMMU group ${group} has no such device on vfio-pci`, {
      cause,
      bdf,
      hint: bindCommand(bdf, true),
    });
  }
  return new CausewayError('DEVICE_UNSUPPORTED', `${bdf}: VFIO cannot open the device`, {
    cause,
    bdf,
    hint: `see the kernel log: sudo dmesg | grep ${bdf}`,
  });
}

export function tokenRequired(bdf: HostBdf, cause?: unknown): CausewayError {
  return new CausewayError(
    'VF_TOKEN_REQUIRED',
    `${bdf} shares a VF token with others: a virtual function whose physical function is on vfio-pci, or that one itself`,
    {
      cause,
      bdf,
      hint: 'give the UUID with which the physical function was opened: vfToken in the configuration, --device BDF,vf-token=UUID; or bind that one to its host driver',
    },
  );
}

export function tokenWrong(bdf: HostBdf, cause?: unknown): CausewayError {
  return new CausewayError('VF_TOKEN_REQUIRED', `${bdf}: the VF token is not the one that the physical function has`, {
    cause,
    bdf,
    hint: 'the UUID must be that with which the physical function was opened first; the functions in use decide it',
  });
}

/** The kernel refuses a token where it has none to compare. */
export function tokenUnwanted(bdf: HostBdf, cause?: unknown): CausewayError {
  return new CausewayError(
    'CONFIG_INVALID',
    `${bdf} takes no VF token: it is neither a physical function with SR-IOV nor a virtual one of such on vfio-pci`,
    { cause, bdf, hint: 'leave vfToken out' },
  );
}

function formatLimit(bytes: number): string {
  return Number.isFinite(bytes) ? formatSize(bytes) : 'unlimited';
}
