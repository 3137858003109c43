/** Which I/O virtual addresses an IOMMU can map, and how guest RAM fits into them. Pure. */

import {
  IOMMU_IOVA_RANGE,
  VFIO_CAP_DMA_AVAIL,
  VFIO_CAP_IOVA_RANGE,
  VFIO_IOMMU_CAP,
  VFIO_IOMMU_FLAGS,
  VFIO_IOMMU_INFO,
} from '../../native/vfio-abi.ts';
import { alignDown, alignUp, PAGE_SIZE } from '../../vmm/base/bits.ts';
import { endOf, type Range, subtract } from '../../vmm/base/ranges.ts';
import { readU64, viewOf, walkInfoCapabilities } from './info-caps.ts';

/** On x86 writes to these addresses are interrupts, whatever an IOMMU says. */
const MSI_WINDOW: Range = { start: 0xfee0_0000, size: 0x10_0000 };

export interface IommuInfo {
  /** Smallest page, bytes. */
  readonly pageBytes: number;
  /** Usable addresses; undefined when the kernel does not tell. */
  readonly ranges: readonly Range[] | undefined;
  /** DMA mappings still to be had; Infinity when the kernel does not tell. */
  readonly mappingsLeft: number;
}

/** Decodes struct vfio_iommu_type1_info. Ends are inclusive there, as 2^64-1 must be expressible. */
export function parseIommuInfo(bytes: Uint8Array): IommuInfo {
  const info = viewOf(bytes);
  if (info.byteLength < VFIO_IOMMU_INFO.iovaPageSizes + 8) {
    return { pageBytes: PAGE_SIZE, ranges: undefined, mappingsLeft: Number.POSITIVE_INFINITY };
  }
  const flags = info.getUint32(VFIO_IOMMU_INFO.flags, true);
  const pageSizes = flags & VFIO_IOMMU_FLAGS.PGSIZES ? info.getBigUint64(VFIO_IOMMU_INFO.iovaPageSizes, true) : 0n;
  const first =
    flags & VFIO_IOMMU_FLAGS.CAPS && info.byteLength >= 20 ? info.getUint32(VFIO_IOMMU_INFO.capOffset, true) : 0;
  const chain = walkInfoCapabilities(info, first);
  const ranges = chain.find((cap) => cap.id === VFIO_IOMMU_CAP.IOVA_RANGE);
  const available = chain.find((cap) => cap.id === VFIO_IOMMU_CAP.DMA_AVAIL);
  const left =
    available && available.offset + 12 <= info.byteLength
      ? info.getUint32(available.offset + VFIO_CAP_DMA_AVAIL.avail, true)
      : undefined;
  return {
    pageBytes: pageSizes === 0n ? PAGE_SIZE : Number(pageSizes & -pageSizes),
    ranges: ranges ? readRanges(info, ranges.offset) : undefined,
    mappingsLeft: left ?? Number.POSITIVE_INFINITY,
  };
}

/** Decodes what IOMMU_IOAS_IOVA_RANGES tells; `last` is inclusive there too. An iommufd has no limit on mappings. */
export function parseIovaRanges(answer: { readonly alignmentBytes: number; readonly ranges: Uint8Array }): IommuInfo {
  const view = viewOf(answer.ranges);
  const ranges: Range[] = [];
  for (let at = 0; at + IOMMU_IOVA_RANGE.bytes <= view.byteLength; at += IOMMU_IOVA_RANGE.bytes) {
    const start = readU64(view, at + IOMMU_IOVA_RANGE.start);
    const last = readU64(view, at + IOMMU_IOVA_RANGE.last);
    if (last > start) ranges.push({ start, size: Math.min(last, Number.MAX_SAFE_INTEGER - 1) - start + 1 });
  }
  return {
    // It counts pages of the host as well, which the kernel pins as a whole.
    pageBytes: Math.max(answer.alignmentBytes, PAGE_SIZE),
    ranges: ranges.sort((a, b) => a.start - b.start),
    mappingsLeft: Number.POSITIVE_INFINITY,
  };
}

function readRanges(info: DataView, offset: number): Range[] {
  if (offset + VFIO_CAP_IOVA_RANGE.ranges > info.byteLength) return [];
  const count = info.getUint32(offset + VFIO_CAP_IOVA_RANGE.nrIovas, true);
  const ranges: Range[] = [];
  for (let i = 0; i < count; i++) {
    const at = offset + VFIO_CAP_IOVA_RANGE.ranges + i * VFIO_CAP_IOVA_RANGE.rangeBytes;
    if (at + VFIO_CAP_IOVA_RANGE.rangeBytes > info.byteLength) break;
    const start = readU64(info, at);
    const last = readU64(info, at + 8);
    if (last > start) ranges.push({ start, size: Math.min(last, Number.MAX_SAFE_INTEGER - 1) - start + 1 });
  }
  return ranges.sort((a, b) => a.start - b.start);
}

/** How one piece of RAM splits into what can be mapped and what no device can reach. */
export interface IovaSplit {
  readonly mappable: Range[];
  readonly unreachable: Range[];
}

/** Splits `ram` (GPAs, which are the IOVAs) by the usable ranges, at page boundaries, never over the MSI window. */
export function splitByIova(ram: Range, info: IommuInfo): IovaSplit {
  const usable = info.ranges ?? [{ start: 0, size: Number.MAX_SAFE_INTEGER }];
  const mappable: Range[] = [];
  for (const range of usable) {
    const start = alignUp(Math.max(ram.start, range.start), info.pageBytes);
    const end = alignDown(Math.min(endOf(ram), endOf(range)), info.pageBytes);
    if (end > start) mappable.push(...subtract({ start, size: end - start }, [MSI_WINDOW]));
  }
  return { mappable, unreachable: subtract(ram, mappable) };
}
