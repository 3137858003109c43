/** Numbers of the VFIO ABI that TypeScript decodes itself (include/uapi/linux/vfio.h). Offsets in bytes. */

export const VFIO_API_VERSION = 0;
/** Argument of VFIO_CHECK_EXTENSION and VFIO_SET_IOMMU. */
export const VFIO_TYPE1V2_IOMMU = 3;

export const GROUP_VIABLE = 1;

export const DEVICE_FLAGS_RESET = 1;
export const DEVICE_FLAGS_PCI = 2;

export const REGION_FLAG_READ = 1;
export const REGION_FLAG_WRITE = 2;
export const REGION_FLAG_MMAP = 4;
export const REGION_FLAG_CAPS = 8;
/** Region indices of a PCI device; 0 to 5 are the BARs. */
export const REGION = { ROM: 6, CONFIG: 7, VGA: 8 } as const;

export const IRQ_FLAG_NORESIZE = 8;
/** Interrupt indices of a PCI device. */
export const IRQ = { INTX: 0, MSI: 1, MSIX: 2, ERR: 3, REQ: 4 } as const;

/** Ids in the capability chains of region_info and iommu_type1_info. */
export const REGION_CAP = { SPARSE_MMAP: 1, TYPE: 2, MSIX_MAPPABLE: 3 } as const;
export const TYPE1_CAP = { IOVA_RANGE: 1, MIGRATION: 2, DMA_AVAIL: 3 } as const;

export const DEVICE_INFO = { flags: 4, regions: 8, irqs: 12 } as const;
export const REGION_INFO = { flags: 4, index: 8, capOffset: 12, size: 16, offset: 24, minimum: 32 } as const;
export const TYPE1_INFO = { flags: 4, pageSizes: 8, capOffset: 16 } as const;
export const TYPE1_INFO_PGSIZES = 1;
export const TYPE1_INFO_CAPS = 2;
export const HOT_RESET_INFO = { flags: 4, count: 8, devices: 12, stride: 8 } as const;
