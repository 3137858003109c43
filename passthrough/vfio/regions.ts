/** Regions of a VFIO device: the BARs, the ROM and config space, each a range of the device's fd. */

import { VFIO_CAP_SPARSE_MMAP, VFIO_REGION_CAP, VFIO_REGION_FLAGS, VFIO_REGION_INFO } from '../../native/vfio-abi.ts';
import type { Range } from '../../vmm/base/ranges.ts';
import { endOf } from '../../vmm/base/ranges.ts';
import { readU64, viewOf, walkInfoCapabilities } from './info-caps.ts';

export interface Region {
  readonly index: number;
  readonly sizeBytes: number;
  /** Where the region starts in the device's fd, for pread, pwrite and mmap. */
  readonly fdOffset: number;
  readonly flags: number;
  /**
   * What may be mapped, relative to the region, exactly as the kernel allows it (some drivers refuse other sizes).
   * Empty when nothing may.
   */
  readonly mmapAreas: readonly Range[];
}

/** Decodes struct vfio_region_info. Malformed chains lose what is malformed, never more. */
export function parseRegionInfo(bytes: Uint8Array): Region {
  const info = viewOf(bytes);
  if (info.byteLength < VFIO_REGION_INFO.bytes) return { index: 0, sizeBytes: 0, fdOffset: 0, flags: 0, mmapAreas: [] };
  const flags = info.getUint32(VFIO_REGION_INFO.flags, true);
  const sizeBytes = readU64(info, VFIO_REGION_INFO.size);
  const mappable = (flags & VFIO_REGION_FLAGS.MMAP) !== 0 && sizeBytes > 0;
  return {
    index: info.getUint32(VFIO_REGION_INFO.index, true),
    sizeBytes,
    fdOffset: readU64(info, VFIO_REGION_INFO.offset),
    flags,
    mmapAreas: mappable ? (sparseAreas(info, flags, sizeBytes) ?? [{ start: 0, size: sizeBytes }]) : [],
  };
}

/** The areas of a sparse-mmap capability; undefined when there is none. */
function sparseAreas(info: DataView, flags: number, sizeBytes: number): Range[] | undefined {
  if ((flags & VFIO_REGION_FLAGS.CAPS) === 0) return undefined;
  const chain = walkInfoCapabilities(info, info.getUint32(VFIO_REGION_INFO.capOffset, true));
  const sparse = chain.find((cap) => cap.id === VFIO_REGION_CAP.SPARSE_MMAP && cap.version === 1);
  if (!sparse || sparse.offset + VFIO_CAP_SPARSE_MMAP.areas > info.byteLength) return undefined;
  const areas: Range[] = [];
  const count = info.getUint32(sparse.offset + VFIO_CAP_SPARSE_MMAP.nrAreas, true);
  for (let i = 0; i < count; i++) {
    const at = sparse.offset + VFIO_CAP_SPARSE_MMAP.areas + i * VFIO_CAP_SPARSE_MMAP.areaBytes;
    if (at + VFIO_CAP_SPARSE_MMAP.areaBytes > info.byteLength) break;
    const area = { start: readU64(info, at), size: readU64(info, at + 8) };
    if (area.size > 0 && area.start + area.size <= sizeBytes) areas.push(area);
  }
  areas.sort((a, b) => a.start - b.start);
  return areas.filter((area, i) => i === 0 || area.start >= endOf(areas[i - 1]!));
}
