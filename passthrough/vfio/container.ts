/** The legacy way to a device: IOMMU groups opened and joined in one container, guest RAM mapped there. */
import type { Fd, Iova, Native } from '../../native/types.ts';
import { VFIO_EXTENSION, VFIO_GROUP_FLAGS } from '../../native/vfio-abi.ts';
import { CausewayError, hasErrno } from '../../vmm/base/errors.ts';
import type { RamWindow } from '../../vmm/memory/guest-memory.ts';
import type { GivenFds } from '../host/backend-choice.ts';
import { adoptFd } from '../host/inherited-fds.ts';
import {
  containerError,
  deviceOpenError,
  groupNotViable,
  groupOpenError,
  joinError,
  setIommuError,
} from '../host/vfio-errors.ts';
import { describedDevice, type VfioDevice } from './device.ts';
import type { DmaBackend, GroupedDevice } from './dma-backend.ts';
import { parseIommuInfo } from './iova.ts';
import { type DmaTarget, RamMap } from './ram-map.ts';

const VFIO_API_VERSION = 0;

export class LegacyContainer implements DmaBackend {
  readonly kind = 'container';
  readonly #native: Native;
  readonly #container: Fd;
  readonly #groups = new Map<number, Fd>();
  readonly dma: DmaTarget;
  readonly #ram: RamMap;
  #open = true;

  /**
   * Opens the groups of `devices` and gives their DMA to this process.
   * @throws CausewayError, with everything undone
   */
  constructor(
    native: Native,
    devices: readonly GroupedDevice[],
    warn: (message: string) => void,
    given: Pick<GivenFds, 'container'> = {},
  ) {
    this.#native = native;
    this.dma = {
      info: () => parseIommuInfo(native.vfioIommuInfo(this.#container)),
      map: (hva, iova, sizeBytes) => native.vfioMapDma(this.#container, hva, iova, sizeBytes),
      unmap: (iova, sizeBytes) => this.#unmap(iova, sizeBytes),
    };
    this.#ram = new RamMap(native, this.dma, warn);
    try {
      this.#container =
        given.container === undefined ? native.open('/dev/vfio/vfio', 'rw') : adoptFd(native, given.container);
    } catch (error) {
      throw containerError(error);
    }
    try {
      this.#check();
      for (const device of devices) this.#join(device);
      if (!this.#hasIommu()) this.#setIommu();
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
    this.#ram.map(windows);
  }

  join(device: GroupedDevice): void {
    if (this.#groups.has(device.group)) return;
    try {
      this.#join(device);
    } catch (error) {
      this.leave(device, []);
      throw error;
    }
  }

  leave({ group }: GroupedDevice, remaining: readonly GroupedDevice[]): void {
    const fd = this.#groups.get(group);
    if (fd === undefined || remaining.some((other) => other.group === group)) return;
    this.#groups.delete(group);
    this.#native.close(fd);
  }

  openDevice(device: GroupedDevice): VfioDevice {
    const { bdf, vfToken } = device;
    let fd: Fd;
    try {
      const name = vfToken === undefined ? bdf : `${bdf} vf_token=${vfToken}`;
      fd =
        device.deviceFd === undefined
          ? this.#native.vfioGroupGetDevice(this.kvmFile(device), name)
          : adoptFd(this.#native, device.deviceFd);
    } catch (error) {
      throw deviceOpenError(error, device);
    }
    return describedDevice(this.#native, bdf, fd);
  }

  close(): unknown[] {
    if (!this.#open) return [];
    this.#open = false;
    const errors = this.#ram.unmapAll();
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
    let group: Fd;
    try {
      group =
        device.groupFd === undefined
          ? this.#native.open(`/dev/vfio/${device.group}`, 'rw')
          : adoptFd(this.#native, device.groupFd);
    } catch (error) {
      throw groupOpenError(this.#native, error, device);
    }
    this.#groups.set(device.group, group);
    const status = this.#native.vfioGroupStatus(group);
    if ((status & VFIO_GROUP_FLAGS.VIABLE) === 0) throw groupNotViable(this.#native, device);
    // Who opened it may have joined it to the container already.
    if ((status & VFIO_GROUP_FLAGS.CONTAINER_SET) !== 0) return;
    try {
      this.#native.vfioGroupSetContainer(group, this.#container);
    } catch (error) {
      throw joinError(this.#native, error, device);
    }
  }

  /**
   * A device that is pulled out of the host leaves its group when its file is closed, and takes the container's IOMMU along
   * if no other group is there (drivers/vfio/container.c, vfio_group_detach_container): nothing is mapped then.
   */
  #unmap(iova: Iova, sizeBytes: number): number {
    try {
      return this.#native.vfioUnmapDma(this.#container, iova, sizeBytes);
    } catch (error) {
      if (hasErrno(error, 'EINVAL') && !this.#hasIommu()) return 0;
      throw error;
    }
  }

  /** A container that was handed in may have its IOMMU already. */
  #hasIommu(): boolean {
    try {
      this.#native.vfioIommuInfo(this.#container);
      return true;
    } catch (error) {
      if (hasErrno(error, 'EINVAL', 'ENOTTY')) return false;
      throw error;
    }
  }

  #setIommu(): void {
    try {
      this.#native.vfioSetIommu(this.#container, VFIO_EXTENSION.TYPE1v2_IOMMU);
    } catch (error) {
      throw setIommuError(error);
    }
  }
}
