/** Which members of an IOMMU group keep it from being assigned. */
import type { HostBdf, HostFiles } from '../../native/types.ts';
import { groupMembers, type HostDevice, isBridge, readDevice } from './sysfs.ts';

/** Drivers that do no DMA of their own, so that a group with them stays viable (drivers/vfio, driver_managed_dma). */
const HARMLESS_DRIVERS = new Set(['vfio-pci', 'pci-stub', 'pcieport']);

export function isVfioDriver(driver: string | undefined): boolean {
  // Variant drivers are called mlx5_vfio_pci, hisi_acc_vfio_pci, nvgrace_gpu_vfio_pci …
  return driver !== undefined && (driver === 'vfio-pci' || driver.endsWith('_vfio_pci'));
}

/** Members on a host driver. Members without a driver are fine, and so are bridges on the port driver. */
export function blockingMembers(files: HostFiles, bdf: HostBdf): HostDevice[] {
  return groupMembers(files, bdf)
    .map((member) => readDevice(files, member))
    .filter((member) => member !== undefined)
    .filter(({ driver }) => driver !== undefined && !HARMLESS_DRIVERS.has(driver) && !isVfioDriver(driver))
    .filter((member) => !isBridge(member));
}
