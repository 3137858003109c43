/**
 * The DMA side of device assignment: IOMMU groups opened, joined in one container, guest RAM mapped. The legacy
 * container stands behind {@link DmaBackend}, so that iommufd can stand beside it.
 */
import type { Fd, HostBdf, Iova, Native } from '../../native/types.ts';
import { VFIO_EXTENSION, VFIO_GROUP_FLAGS } from '../../native/vfio-abi.ts';
import { PAGE_SIZE } from '../../vmm/base/bits.ts';
import { CausewayError } from '../../vmm/base/errors.ts';
import type { Range } from '../../vmm/base/ranges.ts';
import { hex } from '../../vmm/base/units.ts';
import type { RamWindow } from '../../vmm/memory/guest-memory.ts';
import {
  containerError,
  deviceOpenError,
  dmaMapError,
  groupNotViable,
  groupOpenError,
  joinError,
  setIommuError,
} from '../host/vfio-errors.ts';
import { VfioDevice } from './device.ts';
import { parseIommuInfo, splitByIova } from './iova.ts';

/** A function and the IOMMU group that it is in. */
export interface GroupedDevice {
  readonly bdf: HostBdf;
  readonly group: number;
}

/** Where devices are opened and guest RAM is mapped for them: GPAs become IOVAs, one to one. */
export interface DmaBackend {
  /** Maps guest RAM. @throws CausewayError, and nothing stays mapped */
  mapRam(windows: readonly RamWindow[]): void;
  /** @throws CausewayError */
  openDevice(device: GroupedDevice): VfioDevice;
  /** The file that KVM wants to know of for this device. Devices of one group share it. */
  kvmFile(device: GroupedDevice): Fd;
  /** The group fds that prove ownership for a hot reset, by group number. */
  readonly groups: ReadonlyMap<number, Fd>;
  /** Unmaps and closes everything; devices must be closed before. Errors are collected, none thrown. */
  close(): unknown[];
}

const VFIO_API_VERSION = 0;

export class LegacyContainer implements DmaBackend {
  readonly #native: Native;
  readonly #warn: (message: string) => void;
  readonly #container: Fd;
  readonly #groups = new Map<number, Fd>();
  #mapped: Range[] = [];
  #open = true;

  /**
   * Opens the groups of `devices` and gives their DMA to this process.
   * @throws CausewayError, with everything undone
   */
  constructor(native: Native, devices: readonly GroupedDevice[], warn: (message: string) => void) {
    this.#native = native;
    this.#warn = warn;
    try {
      this.#container = native.open('/dev/vfio/vfio', 'rw');
    } catch (error) {
      throw containerError(error);
    }
    try {
      this.#check();
      for (const device of devices) this.#join(device);
      this.#setIommu();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  get groups(): ReadonlyMap<number, Fd> {
    return this.#groups;
  }

  kvmFile(device: GroupedDevice): Fd {
    return this.#groups.get(device.group)!;
  }

  mapRam(windows: readonly RamWindow[]): void {
    const info = parseIommuInfo(this.#native.vfioIommuInfo(this.#container));
    const ramBytes = windows.reduce((sum, window) => sum + window.sizeBytes, 0);
    try {
      for (const window of windows) {
        const ram: Range = { start: window.gpa, size: window.sizeBytes };
        const { mappable, unreachable } = splitByIova(ram, info);
        for (const hole of unreachable) {
          this.#warn(
            `devices cannot reach ${hole.size} bytes of guest RAM at ${hex(hole.start)}: reserved by the IOMMU`,
          );
        }
        for (const part of mappable) {
          const hva = (window.hva + (part.start - window.gpa)) as typeof window.hva;
          this.#map(hva, part, ramBytes);
        }
      }
    } catch (error) {
      this.#unmapAll();
      throw error;
    }
  }

  openDevice(device: GroupedDevice): VfioDevice {
    let fd: Fd;
    try {
      fd = this.#native.vfioGroupGetDevice(this.kvmFile(device), device.bdf);
    } catch (error) {
      throw deviceOpenError(error, device);
    }
    try {
      return new VfioDevice(this.#native, device.bdf, fd);
    } catch (error) {
      this.#native.close(fd);
      throw new CausewayError('DEVICE_UNSUPPORTED', `${device.bdf}: VFIO does not describe the device`, {
        cause: error,
        bdf: device.bdf,
      });
    }
  }

  close(): unknown[] {
    if (!this.#open) return [];
    this.#open = false;
    const errors = this.#unmapAll();
    const attempt = (step: () => void): void => {
      try {
        step();
      } catch (error) {
        errors.push(error);
      }
    };
    // UNSET_CONTAINER would be refused while a device of the group is still referenced; closing the group does it too.
    for (const group of this.#groups.values()) attempt(() => this.#native.close(group));
    this.#groups.clear();
    attempt(() => this.#native.close(this.#container));
    return errors;
  }

  #check(): void {
    const version = this.#native.vfioApiVersion(this.#container);
    if (version !== VFIO_API_VERSION) {
      throw new CausewayError('VFIO_MISSING', `the kernel speaks VFIO API ${version}, not ${VFIO_API_VERSION}`);
    }
    if (!this.#native.vfioCheckExtension(this.#container, VFIO_EXTENSION.TYPE1v2_IOMMU)) {
      throw new CausewayError('VFIO_MISSING', 'VFIO has no type 1 IOMMU driver', {
        hint: 'sudo modprobe vfio_iommu_type1',
      });
    }
  }

  #join(device: GroupedDevice): void {
    if (this.#groups.has(device.group)) return;
    const path = `/dev/vfio/${device.group}`;
    let group: Fd;
    try {
      group = this.#native.open(path, 'rw');
    } catch (error) {
      throw groupOpenError(this.#native, error, device);
    }
    this.#groups.set(device.group, group);
    if ((this.#native.vfioGroupStatus(group) & VFIO_GROUP_FLAGS.VIABLE) === 0)
      throw groupNotViable(this.#native, device);
    try {
      this.#native.vfioGroupSetContainer(group, this.#container);
    } catch (error) {
      throw joinError(this.#native, error, device);
    }
  }

  #setIommu(): void {
    try {
      this.#native.vfioSetIommu(this.#container, VFIO_EXTENSION.TYPE1v2_IOMMU);
    } catch (error) {
      throw setIommuError(error);
    }
  }

  #map(hva: RamWindow['hva'], part: Range, ramBytes: number): void {
    if (part.size % PAGE_SIZE !== 0) throw new RangeError(`RAM at ${hex(part.start)} is no whole number of pages`);
    try {
      this.#native.vfioMapDma(this.#container, hva, part.start as Iova, part.size);
    } catch (error) {
      throw dmaMapError(this.#native, error, part, ramBytes);
    }
    this.#mapped.push(part);
  }

  #unmapAll(): unknown[] {
    const errors: unknown[] = [];
    for (const part of this.#mapped.reverse()) {
      try {
        const freed = this.#native.vfioUnmapDma(this.#container, part.start as Iova, part.size);
        if (freed !== part.size)
          errors.push(new Error(`unmapped ${freed} of ${part.size} bytes at ${hex(part.start)}`));
      } catch (error) {
        errors.push(error);
      }
    }
    this.#mapped = [];
    return errors;
  }
}
