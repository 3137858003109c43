/** Guest RAM mapped for DMA, whatever maps it: split by what the IOMMU can reach, undone as a whole. */
import type { Iova, Process } from '../../native/types.ts';
import { PAGE_SIZE } from '../../vmm/base/bits.ts';
import { CausewayError } from '../../vmm/base/errors.ts';
import type { Range } from '../../vmm/base/ranges.ts';
import { hex } from '../../vmm/base/units.ts';
import type { RamWindow } from '../../vmm/memory/guest-memory.ts';
import { dmaMapError } from '../host/vfio-errors.ts';
import { type IommuInfo, splitByIova } from './iova.ts';

/** An address space of a device. */
export interface DmaTarget {
  info(): IommuInfo;
  map(hva: RamWindow['hva'], iova: Iova, sizeBytes: number): void;
  /** Returns the bytes unmapped. */
  unmap(iova: Iova, sizeBytes: number): number;
}

export class RamMap {
  readonly #process: Process;
  readonly #target: DmaTarget;
  readonly #warn: (message: string) => void;
  #mapped: Range[] = [];

  constructor(process: Process, target: DmaTarget, warn: (message: string) => void) {
    this.#process = process;
    this.#target = target;
    this.#warn = warn;
  }

  /** @throws CausewayError, and nothing stays mapped */
  map(windows: readonly RamWindow[]): void {
    const info = this.#target.info();
    const ramBytes = windows.reduce((sum, window) => sum + window.sizeBytes, 0);
    const parts = windows.flatMap((window) => {
      const { mappable, unreachable } = splitByIova({ start: window.gpa, size: window.sizeBytes }, info);
      for (const hole of unreachable) {
        this.#warn(`devices cannot reach ${hole.size} bytes of guest RAM at ${hex(hole.start)}: reserved by the IOMMU`);
      }
      return mappable.map((part) => ({ part, hva: (window.hva + (part.start - window.gpa)) as typeof window.hva }));
    });
    if (parts.length > info.mappingsLeft) {
      throw new CausewayError(
        'DMA_MAP_FAILED',
        `guest RAM takes ${parts.length} DMA mappings, and ${info.mappingsLeft} are to be had`,
        { hint: 'raise /sys/module/vfio_iommu_type1/parameters/dma_entry_limit' },
      );
    }
    try {
      for (const { part, hva } of parts) this.#map(hva, part, ramBytes);
    } catch (error) {
      this.unmapAll();
      throw error;
    }
  }

  /** What failed. */
  unmapAll(): unknown[] {
    const errors: unknown[] = [];
    for (const part of this.#mapped.reverse()) {
      try {
        const freed = this.#target.unmap(part.start as Iova, part.size);
        // Nothing: the host took the group's last device from under us, and its mappings with it
        // (drivers/vfio/group.c, vfio_device_remove_group).
        if (freed !== part.size && freed !== 0)
          errors.push(new Error(`unmapped ${freed} of ${part.size} bytes at ${hex(part.start)}`));
      } catch (error) {
        errors.push(error);
      }
    }
    this.#mapped = [];
    return errors;
  }

  #map(hva: RamWindow['hva'], part: Range, ramBytes: number): void {
    if (part.size % PAGE_SIZE !== 0) throw new RangeError(`RAM at ${hex(part.start)} is no whole number of pages`);
    try {
      this.#target.map(hva, part.start as Iova, part.size);
    } catch (error) {
      throw dmaMapError(this.#process, error, part, ramBytes);
    }
    this.#mapped.push(part);
  }
}
