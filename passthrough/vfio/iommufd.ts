/**
 * The new way to a device: its own file in /dev/vfio/devices, bound to an iommufd and attached to one address space of
 * I/O virtual addresses (Documentation/userspace-api/iommufd.rst, Documentation/driver-api/vfio.rst).
 *
 * KVM hears of a device only when a power cycle begins, so after BIND. The kernel's order, KVM first, is for drivers
 * that look at the VM when they are opened (s390, mdev), and it makes the device hold a reference on that VM until it
 * is closed: the VM of the first power cycle would outlive every reboot. What KVM itself wants of the file, whether DMA
 * is coherent, it asks at FILE_ADD.
 */
import type { Fd, HostBdf, Native } from '../../native/types.ts';
import { hasErrno } from '../../vmm/base/errors.ts';
import type { RamWindow } from '../../vmm/memory/guest-memory.ts';
import { deviceFile, type GivenFds, IOMMUFD_NODE } from '../host/backend-choice.ts';
import { adoptFd } from '../host/inherited-fds.ts';
import { attachError, bindError, deviceFileError, iommufdError } from '../host/iommufd-errors.ts';
import { describedDevice, type VfioDevice } from './device.ts';
import type { DmaBackend, GroupedDevice } from './dma-backend.ts';
import { parseIovaRanges } from './iova.ts';
import { type DmaTarget, RamMap } from './ram-map.ts';

/** An opened iommufd with an empty address space: what can be tried without touching a device. */
export interface OpenIommufd {
  readonly fd: Fd;
  readonly ioas: number;
}

/** @throws CausewayError VFIO_MISSING, VFIO_PERMISSION */
export function openIommufd(native: Native, given?: Fd): OpenIommufd {
  let fd: Fd;
  try {
    fd = given === undefined ? native.open(IOMMUFD_NODE, 'rw') : adoptFd(native, given);
  } catch (error) {
    throw iommufdError(error);
  }
  try {
    return { fd, ioas: native.iommufdAllocIoas(fd) };
  } catch (error) {
    native.close(fd);
    throw iommufdError(error);
  }
}

export class IommufdBackend implements DmaBackend {
  readonly kind = 'iommufd';
  readonly groups: ReadonlyMap<number, Fd> = new Map();
  readonly #native: Native;
  readonly #warn: (message: string) => void;
  readonly #iommufd: OpenIommufd;
  readonly dma: DmaTarget;
  readonly #ram: RamMap;
  readonly #files = new Map<HostBdf, Fd>();
  /** Files that a {@link VfioDevice} closes. */
  readonly #handedOut = new Set<Fd>();
  #open = true;

  /**
   * Opens `devices` and puts their DMA under one address space that maps nothing yet.
   * @throws CausewayError, with everything undone
   */
  constructor(
    native: Native,
    devices: readonly GroupedDevice[],
    warn: (message: string) => void,
    given: Pick<GivenFds, 'iommufd'> | OpenIommufd = {},
  ) {
    this.#native = native;
    this.#warn = warn;
    this.#iommufd = 'ioas' in given ? given : openIommufd(native, given.iommufd);
    const { fd, ioas } = this.#iommufd;
    this.dma = {
      // The ranges shrink with each device that is attached: they are asked for when all are.
      info: () => parseIovaRanges(native.iommufdIovaRanges(fd, ioas)),
      map: (hva, iova, sizeBytes) => native.iommufdMap(fd, ioas, hva, iova, sizeBytes),
      unmap: (iova, sizeBytes) => native.iommufdUnmap(fd, ioas, iova, sizeBytes),
    };
    this.#ram = new RamMap(native, this.dma, warn);
    try {
      for (const device of devices) this.#join(device);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  kvmFile(device: GroupedDevice): Fd {
    return this.#files.get(device.bdf)!;
  }

  mapRam(windows: readonly RamWindow[]): void {
    this.#ram.map(windows);
  }

  join(device: GroupedDevice): void {
    try {
      this.#join(device);
    } catch (error) {
      this.leave(device);
      throw error;
    }
  }

  leave({ bdf }: GroupedDevice): void {
    const file = this.#files.get(bdf);
    if (file === undefined) return;
    this.#files.delete(bdf);
    // What was handed out, its device has closed.
    if (!this.#handedOut.delete(file)) this.#native.close(file);
  }

  openDevice(device: GroupedDevice): VfioDevice {
    const fd = this.kvmFile(device);
    this.#handedOut.add(fd);
    return describedDevice(this.#native, device.bdf, fd);
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
    for (const file of this.#files.values()) {
      if (!this.#handedOut.has(file)) attempt(() => this.#native.close(file));
    }
    const { fd, ioas } = this.#iommufd;
    attempt(() => this.#native.iommufdDestroy(fd, ioas));
    attempt(() => this.#native.close(fd));
    return errors;
  }

  #join(device: GroupedDevice): void {
    const { bdf } = device;
    const path = deviceFile(this.#native, bdf);
    let file: Fd;
    try {
      file =
        device.deviceFd === undefined
          ? this.#native.open(path ?? '/dev/vfio/devices', 'rw')
          : adoptFd(this.#native, device.deviceFd);
    } catch (error) {
      throw deviceFileError(this.#native, error, device, path);
    }
    this.#files.set(bdf, file);
    this.#bind(device, file, path);
    try {
      this.#native.vfioAttachIoas(file, this.#iommufd.ioas);
    } catch (error) {
      throw attachError(error, device);
    }
  }

  #bind(device: GroupedDevice, file: Fd, path: string | undefined): void {
    const token = device.vfToken === undefined ? undefined : tokenBytes(device.vfToken);
    try {
      this.#native.vfioBindIommufd(file, this.#iommufd.fd, token);
    } catch (error) {
      if (token === undefined || !hasErrno(error, 'EINVAL')) throw bindError(this.#native, error, device, path);
      this.#bindWithoutToken(device, file, path);
    }
  }

  /** Before Linux 6.17 BIND knows no tokens, refuses every one, and asks for none. */
  #bindWithoutToken(device: GroupedDevice, file: Fd, path: string | undefined): void {
    try {
      this.#native.vfioBindIommufd(file, this.#iommufd.fd);
    } catch (error) {
      throw bindError(this.#native, error, device, path);
    }
    this.#warn(`${device.bdf}: the kernel did not take its VF token through iommufd, and opened it without`);
  }
}

function tokenBytes(uuid: string): Uint8Array {
  return new Uint8Array(Buffer.from(uuid.replaceAll('-', ''), 'hex'));
}
