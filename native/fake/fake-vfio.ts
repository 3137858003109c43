/** VFIO in memory: containers, groups and DMA mappings with the type1 rules; devices are in fake-device.ts. */

import { kernelError } from '../kernel-error.ts';
import type { Fd, Hva, Iova, Vfio, VfioIrqSet } from '../types.ts';
import { VFIO_DEVID_NOT_OWNED } from '../vfio-abi.ts';
import { FakeContainer } from './fake-container.ts';
import type { FakeDevice } from './fake-device.ts';
import { FakeDeviceFile } from './fake-device-file.ts';
import { deviceInfo, hotResetInfo, regionInfo } from './fake-device-info.ts';
import type { FakeFds } from './fake-fds.ts';
import { FakeIommufdFile } from './fake-ioas.ts';
import type { FakeMemory } from './fake-memory.ts';
import { OpenFile } from './open-file.ts';

/** Drivers that leave a group viable: they do no DMA of their own. */
const HARMLESS_DRIVERS = new Set(['vfio-pci', 'pci-stub', 'pcieport']);

/** An opened /dev/vfio/N. */
export class FakeGroupFile extends OpenFile {
  readonly label: string;
  readonly group: FakeGroup;
  container: FakeContainer | undefined;

  constructor(group: FakeGroup) {
    super();
    this.group = group;
    this.label = `vfio-group ${group.number}`;
  }

  leaveContainer(): void {
    this.container?.groups.delete(this);
    this.container?.groupLeft();
    this.container?.drop();
    this.container = undefined;
  }

  protected override released(): void {
    this.leaveContainer();
    this.group.opened = undefined;
  }
}

/** An IOMMU group. */
export class FakeGroup {
  readonly number: number;
  readonly devices: FakeDevice[] = [];
  opened: FakeGroupFile | undefined;
  /** Devices that are bound to an iommufd: they and an open group exclude each other. */
  boundDevices = 0;

  constructor(number: number) {
    this.number = number;
  }

  get isViable(): boolean {
    return this.devices.every(({ driver }) => driver === undefined || HARMLESS_DRIVERS.has(driver));
  }

  open(): FakeGroupFile {
    if (this.opened !== undefined || this.boundDevices > 0) throw kernelError('open', 'EBUSY');
    this.opened = new FakeGroupFile(this);
    return this.opened;
  }
}

export class FakeVfio implements Vfio {
  readonly groups = new Map<number, FakeGroup>();
  readonly containers: FakeContainer[] = [];
  /** False makes VFIO_SET_IOMMU fail with EPERM, as on a machine without interrupt remapping. */
  interruptRemapping = true;
  allowUnsafeInterrupts = false;
  /** VFIO_CHECK_EXTENSION: TYPE1, TYPE1v2, UNMAP_ALL, UPDATE_VADDR. */
  readonly extensions: Set<number> = new Set([1, 3, 9, 10]);
  /** Bytes that DMA mappings may pin; beyond is ENOMEM. A function, because the limit can be raised at run time. */
  memlockBytes: () => number = () => Number.POSITIVE_INFINITY;

  private readonly fds: FakeFds;
  private readonly memory: FakeMemory;

  constructor(fds: FakeFds, memory: FakeMemory) {
    this.fds = fds;
    this.memory = memory;
  }

  group(number: number): FakeGroup {
    let group = this.groups.get(number);
    if (group === undefined) {
      group = new FakeGroup(number);
      this.groups.set(number, group);
    }
    return group;
  }

  openContainer(): FakeContainer {
    const container = new FakeContainer();
    this.containers.push(container);
    return container;
  }

  // ---- container ----------------------------------------------------------------------------------------------

  private container(fd: Fd, syscall: string): FakeContainer {
    return this.fds.get(fd, FakeContainer, syscall);
  }

  /** Calls that the IOMMU driver answers: none is there before VFIO_SET_IOMMU. */
  private withIommu(fd: Fd, syscall: string): FakeContainer {
    const container = this.container(fd, syscall);
    if (container.iommuType === undefined) throw kernelError(syscall, 'EINVAL');
    return container;
  }

  vfioApiVersion(container: Fd): number {
    this.container(container, 'VFIO_GET_API_VERSION');
    return 0;
  }

  vfioCheckExtension(container: Fd, extension: number): boolean {
    this.container(container, 'VFIO_CHECK_EXTENSION');
    return this.extensions.has(extension);
  }

  vfioSetIommu(container: Fd, type: number): void {
    const target = this.container(container, 'VFIO_SET_IOMMU');
    if (target.groups.size === 0 || target.iommuType !== undefined) throw kernelError('VFIO_SET_IOMMU', 'EINVAL');
    if (!this.extensions.has(type)) throw kernelError('VFIO_SET_IOMMU', 'EINVAL');
    if (!this.interruptRemapping && !this.allowUnsafeInterrupts) throw kernelError('VFIO_SET_IOMMU', 'EPERM');
    target.iommuType = type;
  }

  vfioIommuInfo(container: Fd): Uint8Array {
    return this.withIommu(container, 'VFIO_IOMMU_GET_INFO').info();
  }

  vfioMapDma(container: Fd, hva: Hva, iova: Iova, sizeBytes: number): void {
    const target = this.withIommu(container, 'VFIO_IOMMU_MAP_DMA');
    target.checkMap(iova, sizeBytes, hva);
    if (!this.memory.isMapped(hva, sizeBytes)) throw kernelError('VFIO_IOMMU_MAP_DMA', 'EFAULT');
    if (target.pinnedBytes + sizeBytes > this.memlockBytes()) throw kernelError('VFIO_IOMMU_MAP_DMA', 'ENOMEM');
    target.mappings.set(iova, { iova, sizeBytes, hva });
  }

  vfioUnmapDma(container: Fd, iova: Iova, sizeBytes: number): number {
    return this.withIommu(container, 'VFIO_IOMMU_UNMAP_DMA').unmap(iova, sizeBytes);
  }

  // ---- group --------------------------------------------------------------------------------------------------

  vfioGroupStatus(group: Fd): number {
    const file = this.fds.get(group, FakeGroupFile, 'VFIO_GROUP_GET_STATUS');
    return (file.group.isViable ? 1 : 0) | (file.container !== undefined ? 2 : 0);
  }

  vfioGroupSetContainer(group: Fd, container: Fd): void {
    const call = 'VFIO_GROUP_SET_CONTAINER';
    const file = this.fds.get(group, FakeGroupFile, call);
    const target = this.fds.get(container, FakeContainer, call, 'EINVAL');
    if (file.container !== undefined) throw kernelError(call, 'EINVAL');
    if (!file.group.isViable) throw kernelError(call, 'EPERM');
    file.container = target;
    target.groups.add(file);
    target.hold();
  }

  vfioGroupUnsetContainer(group: Fd): void {
    const call = 'VFIO_GROUP_UNSET_CONTAINER';
    const file = this.fds.get(group, FakeGroupFile, call);
    if (file.container === undefined) throw kernelError(call, 'EINVAL');
    if (file.group.devices.some((device) => device.isOpen)) throw kernelError(call, 'EBUSY');
    file.leaveContainer();
  }

  vfioGroupGetDevice(group: Fd, name: string): Fd {
    const call = 'VFIO_GROUP_GET_DEVICE_FD';
    const file = this.fds.get(group, FakeGroupFile, call);
    if (file.container?.iommuType === undefined) throw kernelError(call, 'EINVAL');
    const [bdf, ...options] = name.split(' ');
    const device = file.group.devices.find((each) => each.bdf === bdf);
    if (device === undefined || device.driver !== 'vfio-pci') throw kernelError(call, 'ENODEV');
    const token = options.find((option) => option.startsWith('vf_token='))?.slice('vf_token='.length);
    const refusal = device.tokenError(token);
    if (refusal !== undefined) throw kernelError(call, refusal);
    const opened = new FakeDeviceFile(device, file);
    opened.onRelease = () => {
      if (device.isLeaving) file.leaveContainer();
    };
    return this.fds.install(opened);
  }

  // ---- device -------------------------------------------------------------------------------------------------

  private device(fd: Fd, syscall: string): FakeDevice {
    const file = this.fds.get(fd, FakeDeviceFile, syscall);
    if (file.owner === undefined) throw kernelError(syscall, 'EINVAL');
    return file.device;
  }

  vfioDeviceInfo(device: Fd): Uint8Array {
    return deviceInfo(this.device(device, 'VFIO_DEVICE_GET_INFO'));
  }

  vfioRegionInfo(device: Fd, index: number): Uint8Array {
    return regionInfo(this.device(device, 'VFIO_DEVICE_GET_REGION_INFO'), index);
  }

  vfioIrqInfo(device: Fd, index: number): { readonly flags: number; readonly count: number } {
    return this.device(device, 'VFIO_DEVICE_GET_IRQ_INFO').irqs.info(index);
  }

  vfioSetIrqs(device: Fd, set: VfioIrqSet): number {
    return this.device(device, 'VFIO_DEVICE_SET_IRQS').irqs.set(set);
  }

  vfioDeviceReset(device: Fd): void {
    this.device(device, 'VFIO_DEVICE_RESET').reset();
  }

  vfioHotResetInfo(device: Fd): Uint8Array {
    const target = this.device(device, 'VFIO_DEVICE_GET_PCI_HOT_RESET_INFO');
    const affected = this.affectedBy(target);
    const { owner } = this.fds.get(device, FakeDeviceFile, 'VFIO_DEVICE_GET_PCI_HOT_RESET_INFO');
    const ids = owner instanceof FakeIommufdFile ? affected.map((each) => owner.idOf(each)) : undefined;
    return hotResetInfo(target, affected, ids);
  }

  vfioHotReset(device: Fd, groups: readonly Fd[]): void {
    const call = 'VFIO_DEVICE_PCI_HOT_RESET';
    const target = this.device(device, call);
    if (!target.canHotReset) throw kernelError(call, 'ENODEV');
    const { owner } = this.fds.get(device, FakeDeviceFile, call);
    const isByIommufd = owner instanceof FakeIommufdFile;
    if ((groups.length === 0) !== isByIommufd) throw kernelError(call, 'EINVAL');
    const owned = new Set(groups.map((fd) => this.fds.get(fd, FakeGroupFile, call, 'EINVAL').group));
    const affected = this.affectedBy(target);
    const isOurs = (each: FakeDevice) =>
      isByIommufd ? owner.idOf(each) !== VFIO_DEVID_NOT_OWNED : owned.has(this.group(each.group));
    if (!affected.every(isOurs)) throw kernelError(call, 'EINVAL');
    for (const each of affected) each.wasReset('hot');
  }

  /** All functions of the device's bus. */
  private affectedBy(device: FakeDevice): FakeDevice[] {
    const bus = device.bdf.slice(0, 7);
    return [...this.groups.values()].flatMap((group) => group.devices).filter((each) => each.bdf.startsWith(bus));
  }

  vfioDeviceFeature(device: Fd, flags: number, payload: Uint8Array): void {
    this.device(device, 'VFIO_DEVICE_FEATURE').feature(flags, payload);
  }
}
