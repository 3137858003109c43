/** What opens devices and maps guest RAM for their DMA: the legacy container and iommufd look the same from above. */
import type { Fd, HostBdf } from '../../native/types.ts';
import type { RamWindow } from '../../vmm/memory/guest-memory.ts';
import type { BackendKind } from '../host/backend-choice.ts';
import type { VfioDevice } from './device.ts';
import type { DmaTarget } from './ram-map.ts';

/** A function, the IOMMU group that it is in, and what is needed to open it. */
export interface GroupedDevice {
  readonly bdf: HostBdf;
  readonly group: number;
  /** UUID that a PF on vfio-pci shares with its VFs. */
  readonly vfToken?: string;
  /** Opened by somebody else: its file in /dev/vfio/devices, not bound yet; or, with {@link groupFd}, out of that group. */
  readonly deviceFd?: Fd;
  /** Opened by somebody else: its group's file. */
  readonly groupFd?: Fd;
}

/** Where devices are opened and guest RAM is mapped for them: GPAs become IOVAs, one to one. */
export interface DmaBackend {
  readonly kind: BackendKind;
  /** The address space of all its devices: what it can map, and what is mapped beside RAM. */
  readonly dma: DmaTarget;
  /** Maps guest RAM. @throws CausewayError, and nothing stays mapped */
  mapRam(windows: readonly RamWindow[]): void;
  /** Takes in a device that comes later: what is mapped is mapped for it, too. @throws CausewayError, with nothing changed */
  join(device: GroupedDevice): void;
  /** Lets go of a device that is closed; `remaining` are those that stay, and there are some. */
  leave(device: GroupedDevice, remaining: readonly GroupedDevice[]): void;
  /** @throws CausewayError */
  openDevice(device: GroupedDevice): VfioDevice;
  /** The file that KVM wants to know of for this device. Devices may share one. */
  kvmFile(device: GroupedDevice): Fd;
  /** The group fds that prove ownership for a hot reset, by group number; none with iommufd, where the kernel knows. */
  readonly groups: ReadonlyMap<number, Fd>;
  /** Unmaps and closes everything; devices must be closed before. Errors are collected, none thrown. */
  close(): unknown[];
}
