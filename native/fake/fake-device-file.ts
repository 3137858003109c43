/** A file of a device, as open or VFIO_GROUP_GET_DEVICE_FD gives it. */
import { kernelError } from '../kernel-error.ts';
import type { Width } from '../types.ts';
import { type FakeDevice, REGION_STRIDE } from './fake-device.ts';
import { MmioFile } from './fake-memory.ts';
import type { OpenFile } from './open-file.ts';

const EINVAL = -22;

/**
 * An opened device fd. Holds its owner, as in the kernel: the group that it came from, or the iommufd that it was bound
 * to. A file of /dev/vfio/devices has no owner, and does nothing, before that.
 */
export class FakeDeviceFile extends MmioFile {
  readonly label: string;
  readonly device: FakeDevice;
  /** The last fd is gone; the owner is still held. */
  onRelease: (() => void) | undefined;
  private holder: OpenFile | undefined;

  constructor(device: FakeDevice, owner?: OpenFile) {
    super();
    this.device = device;
    this.label = `vfio-device ${device.bdf}`;
    if (owner !== undefined) this.grant(owner);
  }

  get owner(): OpenFile | undefined {
    return this.holder;
  }

  /** The device is opened for this file. */
  grant(owner: OpenFile): void {
    this.holder = owner;
    owner.hold();
    this.device.opened();
  }

  override pread(offset: number, into: Uint8Array): number {
    return this.holder === undefined ? EINVAL : this.device.pread(offset, into);
  }

  override pwrite(offset: number, from: Uint8Array): number {
    return this.holder === undefined ? EINVAL : this.device.pwrite(offset, from);
  }

  checkMap(offset: number, sizeBytes: number): void {
    if (this.holder === undefined) throw kernelError('mmap', 'EINVAL');
    this.device.checkMap(offset, sizeBytes);
  }

  mmioRead(offset: number, width: Width): bigint | undefined {
    if (!this.device.answers) return undefined;
    return this.device.readMemory(Math.floor(offset / REGION_STRIDE), offset % REGION_STRIDE, width, 'mmap');
  }

  mmioWrite(offset: number, width: Width, value: bigint): boolean {
    if (!this.device.answers) return false;
    this.device.writeMemory(Math.floor(offset / REGION_STRIDE), offset % REGION_STRIDE, width, value, 'mmap');
    return true;
  }

  protected override released(): void {
    if (this.holder === undefined) return;
    this.device.closed();
    this.onRelease?.();
    this.holder.drop();
  }
}
