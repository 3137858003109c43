/** iommufd in memory, and VFIO devices that are bound to it by their own files. */

import { kernelError } from '../kernel-error.ts';
import type { Fd, Hva, Iommufd, Iova } from '../types.ts';
import { IOMMU_IOVA_RANGE } from '../vfio-abi.ts';
import { FakeDeviceFile } from './fake-device-file.ts';
import type { FakeFds } from './fake-fds.ts';
import { FakeIoas, FakeIommufdFile } from './fake-ioas.ts';
import type { FakeMemory } from './fake-memory.ts';
import type { FakeVfio } from './fake-vfio.ts';

export class FakeIommufd implements Iommufd {
  readonly opened: FakeIommufdFile[] = [];
  /** VFIO_DEVICE_BIND_FLAG_TOKEN, since Linux 6.17. Without it any token is EINVAL, and none is asked for. */
  takesTokens = true;

  private readonly fds: FakeFds;
  private readonly memory: FakeMemory;
  private readonly vfio: FakeVfio;
  private readonly attached = new Map<FakeDeviceFile, FakeIoas>();

  constructor(fds: FakeFds, memory: FakeMemory, vfio: FakeVfio) {
    this.fds = fds;
    this.memory = memory;
    this.vfio = vfio;
  }

  open(): FakeIommufdFile {
    const file = new FakeIommufdFile();
    this.opened.push(file);
    return file;
  }

  /** Where a DMA of a bound device would go. */
  translate(bdf: string, iova: number): number | undefined {
    for (const [{ device }, ioas] of this.attached) if (device.bdf === bdf) return ioas.translate(iova);
    return undefined;
  }

  iommufdAllocIoas(iommufd: Fd): number {
    return this.fds.get(iommufd, FakeIommufdFile, 'IOMMU_IOAS_ALLOC').add(new FakeIoas());
  }

  iommufdDestroy(iommufd: Fd, id: number): void {
    const call = 'IOMMU_DESTROY';
    const file = this.fds.get(iommufd, FakeIommufdFile, call);
    const object = file.objects.get(id);
    if (object === undefined) throw kernelError(call, 'ENOENT');
    if (!(object instanceof FakeIoas) || object.devices.size > 0) throw kernelError(call, 'EBUSY');
    file.objects.delete(id);
  }

  iommufdIovaRanges(iommufd: Fd, ioas: number): { readonly alignmentBytes: number; readonly ranges: Uint8Array } {
    const call = 'IOMMU_IOAS_IOVA_RANGES';
    const { ranges } = this.fds.get(iommufd, FakeIommufdFile, call).ioas(ioas, call);
    const view = new DataView(new ArrayBuffer(ranges.length * IOMMU_IOVA_RANGE.bytes));
    ranges.forEach(({ start, last }, index) => {
      view.setBigUint64(index * IOMMU_IOVA_RANGE.bytes + IOMMU_IOVA_RANGE.start, BigInt(start), true);
      view.setBigUint64(index * IOMMU_IOVA_RANGE.bytes + IOMMU_IOVA_RANGE.last, BigInt(last), true);
    });
    return { alignmentBytes: 4096, ranges: new Uint8Array(view.buffer) };
  }

  iommufdMap(iommufd: Fd, ioas: number, hva: Hva, iova: Iova, sizeBytes: number): void {
    const call = 'IOMMU_IOAS_MAP';
    const target = this.fds.get(iommufd, FakeIommufdFile, call).ioas(ioas, call);
    if (!this.memory.isMapped(hva, sizeBytes)) throw kernelError(call, 'EFAULT');
    if (target.pinnedBytes + sizeBytes > this.vfio.memlockBytes()) throw kernelError(call, 'ENOMEM');
    target.map({ iova, sizeBytes, hva });
  }

  iommufdUnmap(iommufd: Fd, ioas: number, iova: Iova, sizeBytes: number): number {
    const call = 'IOMMU_IOAS_UNMAP';
    return this.fds.get(iommufd, FakeIommufdFile, call).ioas(ioas, call).unmap(iova, sizeBytes);
  }

  vfioBindIommufd(device: Fd, iommufd: Fd, token?: Uint8Array): number {
    const call = 'VFIO_DEVICE_BIND_IOMMUFD';
    const file = this.fds.get(device, FakeDeviceFile, call);
    if (token !== undefined && !this.takesTokens) throw kernelError(call, 'EINVAL');
    const group = this.vfio.group(file.device.group);
    if (group.opened !== undefined) throw kernelError(call, 'EBUSY');
    if (file.owner !== undefined || file.device.isOpen) throw kernelError(call, 'EINVAL');
    const owner = this.fds.get(iommufd, FakeIommufdFile, call, 'EBADFD');
    const refusal = this.takesTokens ? file.device.tokenError(token && uuidText(token)) : undefined;
    if (refusal !== undefined) throw kernelError(call, refusal);
    if (!this.vfio.interruptRemapping && !this.vfio.allowUnsafeInterrupts) throw kernelError(call, 'EPERM');
    if (!group.isViable) throw kernelError(call, 'EPERM');
    file.grant(owner);
    group.boundDevices++;
    const id = owner.add(file.device);
    file.onRelease = () => {
      this.detach(file);
      group.boundDevices--;
      owner.objects.delete(id);
    };
    return id;
  }

  vfioAttachIoas(device: Fd, ioas: number): number {
    const call = 'VFIO_DEVICE_ATTACH_IOMMUFD_PT';
    const file = this.bound(device, call);
    const target = (file.owner as FakeIommufdFile).ioas(ioas, call);
    this.detach(file);
    target.devices.add(file.device);
    this.attached.set(file, target);
    return ioas + 1000;
  }

  vfioDetachIoas(device: Fd): void {
    this.detach(this.bound(device, 'VFIO_DEVICE_DETACH_IOMMUFD_PT'));
  }

  private bound(device: Fd, call: string): FakeDeviceFile {
    const file = this.fds.get(device, FakeDeviceFile, call);
    if (!(file.owner instanceof FakeIommufdFile)) throw kernelError(call, 'EINVAL');
    return file;
  }

  private detach(file: FakeDeviceFile): void {
    this.attached.get(file)?.devices.delete(file.device);
    this.attached.delete(file);
  }
}

function uuidText(bytes: Uint8Array): string {
  const digits = Buffer.from(bytes).toString('hex');
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
