/**
 * Numbers of the VFIO ABI that TypeScript decodes itself (include/uapi/linux/vfio.h). Offsets are compared with the
 * compiler's at test time, see `structLayout`. Capability offsets count from the start of the capability.
 */

/** struct vfio_device_info, bytes. */
export const VFIO_DEVICE_INFO = { argsz: 0, flags: 4, numRegions: 8, numIrqs: 12, capOffset: 16 } as const;

/** Flags of struct vfio_device_info. */
export const VFIO_DEVICE_FLAGS = { RESET: 1, PCI: 2, CAPS: 1 << 7 } as const;

/** struct vfio_region_info, bytes. */
export const VFIO_REGION_INFO = {
  argsz: 0,
  flags: 4,
  index: 8,
  capOffset: 12,
  size: 16,
  offset: 24,
  /** sizeof */
  bytes: 32,
} as const;

/** Flags of struct vfio_region_info. */
export const VFIO_REGION_FLAGS = { READ: 1, WRITE: 2, MMAP: 4, CAPS: 8 } as const;

/** Region indices of vfio-pci. */
export const VFIO_PCI_REGION = { BAR0: 0, BAR5: 5, ROM: 6, CONFIG: 7, VGA: 8, COUNT: 9 } as const;

/** struct vfio_info_cap_header: `next` counts from the start of the info struct, 0 ends the chain. */
export const VFIO_CAP_HEADER = { id: 0, version: 2, next: 4, bytes: 8 } as const;

/** Ids of region capabilities. */
export const VFIO_REGION_CAP = { SPARSE_MMAP: 1, TYPE: 2, MSIX_MAPPABLE: 3 } as const;

/** struct vfio_region_info_cap_sparse_mmap; each area is {offset u64, size u64}. */
export const VFIO_CAP_SPARSE_MMAP = {
  nrAreas: 8,
  areas: 16,
  areaBytes: 16,
  area: { offset: 0, size: 8 },
} as const;

/** struct vfio_region_info_cap_type. */
export const VFIO_CAP_TYPE = { type: 8, subtype: 12 } as const;

/** struct vfio_iommu_type1_info, bytes. */
export const VFIO_IOMMU_INFO = { argsz: 0, flags: 4, iovaPageSizes: 8, capOffset: 16 } as const;

/** Flags of struct vfio_iommu_type1_info. */
export const VFIO_IOMMU_FLAGS = { PGSIZES: 1, CAPS: 2 } as const;

/** Ids of type1 capabilities. */
export const VFIO_IOMMU_CAP = { IOVA_RANGE: 1, MIGRATION: 2, DMA_AVAIL: 3 } as const;

/** struct vfio_iommu_type1_info_cap_iova_range; each range is {start u64, end u64}, end inclusive. */
export const VFIO_CAP_IOVA_RANGE = {
  nrIovas: 8,
  ranges: 16,
  rangeBytes: 16,
  range: { start: 0, end: 8 },
} as const;

/** struct vfio_iommu_type1_info_dma_avail: how many more mappings the container takes. */
export const VFIO_CAP_DMA_AVAIL = { avail: 8 } as const;

/** IOMMU models of VFIO_SET_IOMMU and numbers of VFIO_CHECK_EXTENSION. */
export const VFIO_EXTENSION = {
  TYPE1_IOMMU: 1,
  TYPE1v2_IOMMU: 3,
  DMA_CC_IOMMU: 4,
  NOIOMMU_IOMMU: 8,
  UNMAP_ALL: 9,
  UPDATE_VADDR: 10,
} as const;

/** Flags of VFIO_GROUP_GET_STATUS. */
export const VFIO_GROUP_FLAGS = { VIABLE: 1, CONTAINER_SET: 2 } as const;

/** Interrupt indices of vfio-pci. */
export const VFIO_PCI_IRQ = { INTX: 0, MSI: 1, MSIX: 2, ERR: 3, REQ: 4, COUNT: 5 } as const;

/** Flags of struct vfio_irq_info. */
export const VFIO_IRQ_FLAGS = { EVENTFD: 1, MASKABLE: 2, AUTOMASKED: 4, NORESIZE: 8 } as const;

/** struct vfio_pci_hot_reset_info and its array of struct vfio_pci_dependent_device. */
export const VFIO_HOT_RESET_INFO = {
  flags: 4,
  count: 8,
  devices: 12,
  deviceBytes: 8,
  device: { groupId: 0, segment: 4, bus: 6, devfn: 7 },
} as const;

/** Flags of struct vfio_pci_hot_reset_info. With DEV_ID, `groupId` of each entry is the device's id in the iommufd. */
export const VFIO_HOT_RESET_FLAGS = { DEV_ID: 1, DEV_ID_OWNED: 2 } as const;

/** A device id of vfio_pci_dependent_device: the function is not ours (VFIO_PCI_DEVID_NOT_OWNED, -1). */
export const VFIO_DEVID_NOT_OWNED = 0xffff_ffff;

/** struct iommu_iova_range (include/uapi/linux/iommufd.h), `last` inclusive. */
export const IOMMU_IOVA_RANGE = { start: 0, last: 8, bytes: 16 } as const;

/** Flags of VFIO_DEVICE_FEATURE, or-ed with the feature's number. */
export const VFIO_FEATURE_FLAGS = { GET: 1 << 16, SET: 1 << 17, PROBE: 1 << 18 } as const;

/** Numbers of device features. */
export const VFIO_FEATURE = {
  PCI_VF_TOKEN: 0,
  LOW_POWER_ENTRY: 3,
  LOW_POWER_ENTRY_WITH_WAKEUP: 4,
  LOW_POWER_EXIT: 5,
  DMA_BUF: 11,
} as const;
