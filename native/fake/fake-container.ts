/** A VFIO container with a type1 IOMMU: the rules of drivers/vfio/vfio_iommu_type1.c. */

import { kernelError } from '../kernel-error.ts';
import { VFIO_CAP_DMA_AVAIL, VFIO_CAP_IOVA_RANGE, VFIO_IOMMU_CAP, VFIO_IOMMU_INFO } from '../vfio-abi.ts';
import { OpenFile } from './open-file.ts';

/** One VFIO_IOMMU_MAP_DMA. */
export interface DmaMapping {
  readonly iova: number;
  readonly sizeBytes: number;
  readonly hva: number;
}

export class FakeContainer extends OpenFile {
  readonly label = 'vfio-container';
  readonly groups: Set<OpenFile> = new Set();
  readonly mappings = new Map<number, DmaMapping>();
  iommuType: number | undefined;
  /** Usable IOVAs, end inclusive: those of an emulated VT-d, without the window of the MSIs. */
  ranges: readonly { readonly start: number; readonly end: number }[] = [
    { start: 0, end: 0xfedfffff },
    { start: 0xfef00000, end: 2 ** 48 - 1 },
  ];
  /** Bit mask of page sizes: 4 KiB, 2 MiB, 1 GiB. */
  pageSizes = 0x40201000n;
  maxMappings = 65535;
  /** Replaces the info bytes, for malformed ones. */
  rawInfo: Uint8Array | undefined;

  get pinnedBytes(): number {
    return [...this.mappings.values()].reduce((sum, mapping) => sum + mapping.sizeBytes, 0);
  }

  private get pageBytes(): number {
    return Number(this.pageSizes & -this.pageSizes);
  }

  /** With its last group a container loses its IOMMU and all mappings. */
  groupLeft(): void {
    if (this.groups.size > 0) return;
    this.iommuType = undefined;
    this.mappings.clear();
  }

  checkMap(iova: number, sizeBytes: number, hva: number): void {
    const call = 'VFIO_IOMMU_MAP_DMA';
    const page = this.pageBytes;
    if (sizeBytes <= 0 || sizeBytes % page !== 0 || iova % page !== 0 || hva % page !== 0) {
      throw kernelError(call, 'EINVAL');
    }
    const end = iova + sizeBytes;
    for (const other of this.mappings.values()) {
      if (iova < other.iova + other.sizeBytes && other.iova < end) throw kernelError(call, 'EEXIST');
    }
    if (this.mappings.size >= this.maxMappings) throw kernelError(call, 'ENOSPC');
    if (!this.ranges.some((range) => iova >= range.start && end - 1 <= range.end)) throw kernelError(call, 'EINVAL');
  }

  /** Whole mappings only: a range that cuts one is EINVAL; one that holds none returns 0. */
  unmap(iova: number, sizeBytes: number): number {
    const call = 'VFIO_IOMMU_UNMAP_DMA';
    if (sizeBytes <= 0 || sizeBytes % this.pageBytes !== 0 || iova % this.pageBytes !== 0) {
      throw kernelError(call, 'EINVAL');
    }
    const end = iova + sizeBytes;
    const touched = [...this.mappings.values()].filter((each) => iova < each.iova + each.sizeBytes && each.iova < end);
    if (touched.some((each) => each.iova < iova || each.iova + each.sizeBytes > end)) throw kernelError(call, 'EINVAL');
    for (const each of touched) this.mappings.delete(each.iova);
    return touched.reduce((sum, each) => sum + each.sizeBytes, 0);
  }

  /** The memory behind an IOVA: where a DMA of the device would go. */
  translate(iova: number): number | undefined {
    for (const each of this.mappings.values()) {
      if (iova >= each.iova && iova < each.iova + each.sizeBytes) return each.hva + iova - each.iova;
    }
    return undefined;
  }

  /** struct vfio_iommu_type1_info with the ranges and the number of mappings left. */
  info(): Uint8Array {
    if (this.rawInfo !== undefined) return this.rawInfo.slice();
    const first = 24;
    const second = first + VFIO_CAP_IOVA_RANGE.ranges + this.ranges.length * VFIO_CAP_IOVA_RANGE.rangeBytes;
    const bytes = new Uint8Array(second + 16);
    const view = new DataView(bytes.buffer);
    view.setUint32(VFIO_IOMMU_INFO.argsz, bytes.length, true);
    view.setUint32(VFIO_IOMMU_INFO.flags, 3, true);
    view.setBigUint64(VFIO_IOMMU_INFO.iovaPageSizes, this.pageSizes, true);
    view.setUint32(VFIO_IOMMU_INFO.capOffset, first, true);
    view.setUint16(first, VFIO_IOMMU_CAP.IOVA_RANGE, true);
    view.setUint16(first + 2, 1, true);
    view.setUint32(first + 4, second, true);
    view.setUint32(first + VFIO_CAP_IOVA_RANGE.nrIovas, this.ranges.length, true);
    this.ranges.forEach(({ start, end }, index) => {
      const at = first + VFIO_CAP_IOVA_RANGE.ranges + index * VFIO_CAP_IOVA_RANGE.rangeBytes;
      view.setBigUint64(at, BigInt(start), true);
      view.setBigUint64(at + 8, BigInt(end), true);
    });
    view.setUint16(second, VFIO_IOMMU_CAP.DMA_AVAIL, true);
    view.setUint16(second + 2, 1, true);
    view.setUint32(second + VFIO_CAP_DMA_AVAIL.avail, this.maxMappings - this.mappings.size, true);
    return bytes;
  }
}
