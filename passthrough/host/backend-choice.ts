/** Container or iommufd: which one, and why, as far as that shows without opening anything. */
import type { Fd, HostBdf, HostFiles } from '../../native/types.ts';
import type { IommuMode } from '../../vmm/config/model.ts';

export type BackendKind = 'container' | 'iommufd';

/** Files of the host side that somebody else opened. From the opening on they belong to the backend, which closes them. */
export interface GivenFds {
  /** /dev/vfio/vfio, with or without an IOMMU set. */
  readonly container?: Fd;
  /** /dev/iommu. */
  readonly iommufd?: Fd;
}

export interface BackendChoice {
  readonly backend: BackendKind;
  /** One clause, for people. */
  readonly why: string;
}

export interface BackendWish {
  readonly mode: IommuMode;
  readonly given: GivenFds;
}

export const AUTO: BackendWish = { mode: 'auto', given: {} };
export const IOMMUFD_NODE = '/dev/iommu';

interface Candidate {
  readonly bdf: HostBdf;
  readonly deviceFd?: number;
  readonly groupFd?: number;
}

/** What a start would take; an iommufd that then does not work leaves the container. */
export function chooseBackend(
  files: HostFiles,
  devices: readonly Candidate[],
  { mode, given }: BackendWish = AUTO,
): BackendChoice {
  if (mode !== 'auto') return { backend: mode, why: 'the configuration says so' };
  if (
    given.iommufd !== undefined ||
    devices.some(({ deviceFd, groupFd }) => deviceFd !== undefined && groupFd === undefined)
  ) {
    return { backend: 'iommufd', why: 'its files were handed in' };
  }
  if (given.container !== undefined || devices.some(({ groupFd }) => groupFd !== undefined)) {
    return { backend: 'container', why: 'its files were handed in' };
  }
  const against = reasonAgainstIommufd(files, devices);
  if (against !== undefined) return { backend: 'container', why: against };
  return { backend: 'iommufd', why: 'the kernel has it, and every device has a file of its own' };
}

function reasonAgainstIommufd(files: HostFiles, devices: readonly Candidate[]): string | undefined {
  if (!files.exists(IOMMUFD_NODE)) return `there is no ${IOMMUFD_NODE}`;
  if (files.access(IOMMUFD_NODE, 'rw') !== 0) return `${IOMMUFD_NODE} may not be opened by this user`;
  for (const { bdf } of devices) {
    const path = deviceFile(files, bdf);
    if (path === undefined) return `${bdf} has no file in /dev/vfio/devices`;
    if (files.access(path, 'rw') !== 0) return `${path} may not be opened by this user`;
  }
  return undefined;
}

/** A device's own file, `/dev/vfio/devices/vfio0`; undefined on a kernel without, and for a device not on vfio-pci. */
export function deviceFile(files: HostFiles, bdf: HostBdf): string | undefined {
  const directory = `/sys/bus/pci/devices/${bdf}/vfio-dev`;
  if (!files.exists(directory)) return undefined;
  const name = files.readDir(directory).find((each) => /^vfio\d+$/.test(each));
  const node = name && `/dev/vfio/devices/${name}`;
  return node !== undefined && files.exists(node) ? node : undefined;
}
