/** What /dev/iommu opens: address spaces of IOVAs, and the devices bound to them. */

import { kernelError } from '../kernel-error.ts';
import { VFIO_DEVID_NOT_OWNED } from '../vfio-abi.ts';
import type { DmaMapping } from './fake-container.ts';
import type { FakeDevice } from './fake-device.ts';
import { OpenFile } from './open-file.ts';

interface IovaRange {
  readonly start: number;
  readonly last: number;
}

const PAGE = 4096;
const MAX_IOVA = 2 ** 52 - 1;

/** An I/O address space: the rules of drivers/iommu/iommufd/io_pagetable.c. */
export class FakeIoas {
  readonly mappings = new Map<number, DmaMapping>();
  readonly devices = new Set<FakeDevice>();
  /** What an attached device leaves: those of an emulated VT-d, without the window of the MSIs. */
  attachedRanges: readonly IovaRange[] = [
    { start: 0, last: 0xfedfffff },
    { start: 0xfef00000, last: 2 ** 48 - 1 },
  ];

  /** They shrink with the first device. */
  get ranges(): readonly IovaRange[] {
    return this.devices.size === 0 ? [{ start: 0, last: MAX_IOVA }] : this.attachedRanges;
  }

  get pinnedBytes(): number {
    return [...this.mappings.values()].reduce((sum, mapping) => sum + mapping.sizeBytes, 0);
  }

  map(mapping: DmaMapping): void {
    const call = 'IOMMU_IOAS_MAP';
    const { iova, sizeBytes, hva } = mapping;
    if (sizeBytes <= 0 || [iova, sizeBytes, hva].some((each) => each % PAGE !== 0)) throw kernelError(call, 'EINVAL');
    const last = iova + sizeBytes - 1;
    if (!this.ranges.some((range) => iova >= range.start && last <= range.last)) throw kernelError(call, 'EINVAL');
    for (const other of this.mappings.values()) {
      if (iova < other.iova + other.sizeBytes && other.iova <= last) throw kernelError(call, 'EEXIST');
    }
    this.mappings.set(iova, mapping);
  }

  /** Whole mappings only: a range that cuts one, and one that holds none, is ENOENT. */
  unmap(iova: number, sizeBytes: number): number {
    const call = 'IOMMU_IOAS_UNMAP';
    const end = iova + sizeBytes;
    const touched = [...this.mappings.values()].filter((each) => iova < each.iova + each.sizeBytes && each.iova < end);
    const isCut = touched.some((each) => each.iova < iova || each.iova + each.sizeBytes > end);
    if (touched.length === 0 || isCut) throw kernelError(call, 'ENOENT');
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
}

/** An opened /dev/iommu. */
export class FakeIommufdFile extends OpenFile {
  readonly label = 'iommufd';
  readonly objects = new Map<number, FakeIoas | FakeDevice>();
  private next = 1;

  add(object: FakeIoas | FakeDevice): number {
    const id = this.next++;
    this.objects.set(id, object);
    return id;
  }

  ioas(id: number, call: string): FakeIoas {
    const found = this.objects.get(id);
    if (!(found instanceof FakeIoas)) throw kernelError(call, 'ENOENT');
    return found;
  }

  get spaces(): FakeIoas[] {
    return [...this.objects.values()].filter((each) => each instanceof FakeIoas);
  }

  /** As a hot reset sees it: its id, 0 when it is unused and of a group of ours, or that it is not ours. */
  idOf(device: FakeDevice): number {
    const found = [...this.objects].find(([, object]) => object === device);
    if (found !== undefined) return found[0];
    const owned = [...this.objects.values()].some((each) => !(each instanceof FakeIoas) && each.group === device.group);
    return owned && device.driver === 'vfio-pci' ? 0 : VFIO_DEVID_NOT_OWNED;
  }
}
