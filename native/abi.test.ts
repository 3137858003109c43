/** The offsets that TypeScript decodes are those of the compiler. */

import { beforeAll, describe, expect, it } from 'vitest';
import { buildAddon } from './build.mjs';
import { loadNative } from './index.ts';
import { KVM_RUN } from './kvm-abi.ts';
import {
  IOMMU_IOVA_RANGE,
  VFIO_CAP_DMA_AVAIL,
  VFIO_CAP_HEADER,
  VFIO_CAP_IOVA_RANGE,
  VFIO_CAP_SPARSE_MMAP,
  VFIO_CAP_TYPE,
  VFIO_DEVICE_INFO,
  VFIO_HOT_RESET_INFO,
  VFIO_IOMMU_INFO,
  VFIO_REGION_INFO,
} from './vfio-abi.ts';

let layout: Readonly<Record<string, number>>;

beforeAll(async () => {
  await buildAddon();
  layout = loadNative().structLayout();
}, 120_000);

/** Names in the compiler's table against ours. */
const tables: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  kvm_run: {
    request_interrupt_window: KVM_RUN.requestInterruptWindow,
    immediate_exit: KVM_RUN.immediateExit,
    exit_reason: KVM_RUN.exitReason,
    'io.direction': KVM_RUN.io.direction,
    'io.size': KVM_RUN.io.size,
    'io.port': KVM_RUN.io.port,
    'io.count': KVM_RUN.io.count,
    'io.data_offset': KVM_RUN.io.dataOffset,
    'mmio.phys_addr': KVM_RUN.mmio.physAddr,
    'mmio.data': KVM_RUN.mmio.data,
    'mmio.len': KVM_RUN.mmio.len,
    'mmio.is_write': KVM_RUN.mmio.isWrite,
    'fail_entry.hardware_entry_failure_reason': KVM_RUN.failEntry.hardwareEntryFailureReason,
    'internal.suberror': KVM_RUN.internal.suberror,
    'system_event.type': KVM_RUN.systemEvent.type,
    'hw.hardware_exit_reason': KVM_RUN.hw.hardwareExitReason,
  },
  vfio_device_info: {
    argsz: VFIO_DEVICE_INFO.argsz,
    flags: VFIO_DEVICE_INFO.flags,
    num_regions: VFIO_DEVICE_INFO.numRegions,
    num_irqs: VFIO_DEVICE_INFO.numIrqs,
    cap_offset: VFIO_DEVICE_INFO.capOffset,
  },
  vfio_region_info: {
    argsz: VFIO_REGION_INFO.argsz,
    flags: VFIO_REGION_INFO.flags,
    index: VFIO_REGION_INFO.index,
    cap_offset: VFIO_REGION_INFO.capOffset,
    size: VFIO_REGION_INFO.size,
    offset: VFIO_REGION_INFO.offset,
  },
  vfio_info_cap_header: {
    id: VFIO_CAP_HEADER.id,
    version: VFIO_CAP_HEADER.version,
    next: VFIO_CAP_HEADER.next,
  },
  vfio_region_info_cap_sparse_mmap: {
    nr_areas: VFIO_CAP_SPARSE_MMAP.nrAreas,
    areas: VFIO_CAP_SPARSE_MMAP.areas,
  },
  vfio_region_sparse_mmap_area: VFIO_CAP_SPARSE_MMAP.area,
  vfio_region_info_cap_type: VFIO_CAP_TYPE,
  vfio_iommu_type1_info: {
    argsz: VFIO_IOMMU_INFO.argsz,
    flags: VFIO_IOMMU_INFO.flags,
    iova_pgsizes: VFIO_IOMMU_INFO.iovaPageSizes,
    cap_offset: VFIO_IOMMU_INFO.capOffset,
  },
  vfio_iommu_type1_info_cap_iova_range: {
    nr_iovas: VFIO_CAP_IOVA_RANGE.nrIovas,
    iova_ranges: VFIO_CAP_IOVA_RANGE.ranges,
  },
  vfio_iova_range: VFIO_CAP_IOVA_RANGE.range,
  vfio_iommu_type1_info_dma_avail: VFIO_CAP_DMA_AVAIL,
  vfio_pci_hot_reset_info: {
    flags: VFIO_HOT_RESET_INFO.flags,
    count: VFIO_HOT_RESET_INFO.count,
    devices: VFIO_HOT_RESET_INFO.devices,
  },
  vfio_pci_dependent_device: {
    group_id: VFIO_HOT_RESET_INFO.device.groupId,
    segment: VFIO_HOT_RESET_INFO.device.segment,
    bus: VFIO_HOT_RESET_INFO.device.bus,
    devfn: VFIO_HOT_RESET_INFO.device.devfn,
  },
  IommuIovaRange: { start: IOMMU_IOVA_RANGE.start, last: IOMMU_IOVA_RANGE.last },
};

describe('struct layouts', () => {
  it.each(Object.entries(tables))('%s', (struct, fields) => {
    for (const [field, offset] of Object.entries(fields)) {
      expect(layout[`${struct}.${field}`], `${struct}.${field}`).toBe(offset);
    }
  });

  it('sizes of what comes in arrays', () => {
    expect(layout.vfio_region_info).toBe(VFIO_REGION_INFO.bytes);
    expect(layout.vfio_info_cap_header).toBe(VFIO_CAP_HEADER.bytes);
    expect(layout.vfio_region_sparse_mmap_area).toBe(VFIO_CAP_SPARSE_MMAP.areaBytes);
    expect(layout.IommuIovaRange).toBe(IOMMU_IOVA_RANGE.bytes);
    expect(layout.vfio_iova_range).toBe(VFIO_CAP_IOVA_RANGE.rangeBytes);
    expect(layout.vfio_pci_dependent_device).toBe(VFIO_HOT_RESET_INFO.deviceBytes);
  });
});
