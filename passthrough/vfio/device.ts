/** One open VFIO device: its facts, and exact-width access to its regions. Takes over its fd. */
import type { Fd, HostBdf, Native } from '../../native/types.ts';
import { VFIO_DEVICE_FLAGS, VFIO_DEVICE_INFO, VFIO_PCI_IRQ, VFIO_PCI_REGION } from '../../native/vfio-abi.ts';
import { ones, readLe, writeLe } from '../../vmm/base/bits.ts';
import { CausewayError, hasErrno } from '../../vmm/base/errors.ts';
import type { ConfigDevice } from '../../vmm/pci/config-space.ts';
import { viewOf } from './info-caps.ts';
import { parseRegionInfo, type Region } from './regions.ts';

export interface IrqInfo {
  readonly flags: number;
  readonly count: number;
}

const NO_IRQ: IrqInfo = { flags: 0, count: 0 };
const STANDARD_CONFIG_BYTES = 256;
const MAX_CONFIG_BYTES = 4096;

/**
 * Takes over the fd of a device that was just opened.
 * @throws CausewayError DEVICE_UNSUPPORTED, with the fd closed
 */
export function describedDevice(native: Native, bdf: HostBdf, fd: Fd): VfioDevice {
  try {
    return new VfioDevice(native, bdf, fd);
  } catch (error) {
    native.close(fd);
    throw new CausewayError('DEVICE_UNSUPPORTED', `${bdf}: VFIO does not describe the device`, { cause: error, bdf });
  }
}

export class VfioDevice implements ConfigDevice {
  readonly bdf: HostBdf;
  readonly fd: Fd;
  /** The kernel can reset this function alone. */
  readonly canReset: boolean;
  /** By region index; regions that the device lacks have size 0. */
  readonly regions: readonly Region[];
  /** By interrupt index. */
  readonly irqs: readonly IrqInfo[];
  /** Bytes of config space: 256 or 4096. */
  readonly configBytes: number;
  readonly #native: Native;
  readonly #scratch = new Uint8Array(8);
  #failures = 0;
  #open = true;

  /** @throws KernelError of the INFO ioctls */
  constructor(native: Native, bdf: HostBdf, fd: Fd) {
    this.#native = native;
    this.bdf = bdf;
    this.fd = fd;
    const info = viewOf(native.vfioDeviceInfo(fd));
    this.canReset = (info.getUint32(VFIO_DEVICE_INFO.flags, true) & VFIO_DEVICE_FLAGS.RESET) !== 0;
    const regionCount = Math.min(info.getUint32(VFIO_DEVICE_INFO.numRegions, true), VFIO_PCI_REGION.COUNT);
    const irqCount = Math.min(info.getUint32(VFIO_DEVICE_INFO.numIrqs, true), VFIO_PCI_IRQ.COUNT);
    this.regions = Array.from({ length: VFIO_PCI_REGION.COUNT }, (_, index) => this.#region(index, regionCount));
    this.irqs = Array.from({ length: VFIO_PCI_IRQ.COUNT }, (_, index) => this.#irq(index, irqCount));
    this.configBytes = Math.min(this.regions[VFIO_PCI_REGION.CONFIG]!.sizeBytes, MAX_CONFIG_BYTES);
  }

  /** Config accesses that the kernel refused. */
  get failures(): number {
    return this.#failures;
  }

  /** One config read of the device of 1, 2 or 4 bytes; all ones when it fails. */
  read(offset: number, width: number): number {
    const status = this.#native.pread(this.fd, this.#configOffset + offset, this.#scratch, 0, width);
    if (status === 0) return readLe(this.#scratch, 0, width);
    this.#failures++;
    return ones(width);
  }

  /** One config write of 1, 2 or 4 bytes. Success of the kernel does not mean that every bit was taken. */
  write(offset: number, width: number, value: number): void {
    writeLe(this.#scratch, 0, width, value);
    const status = this.#native.pwrite(this.fd, this.#configOffset + offset, this.#scratch, 0, width);
    if (status !== 0) this.#failures++;
  }

  /** One byte of a region, for what the VMM itself looks at; 0xff when the read fails. */
  readRegionByte(region: number, offset: number): number {
    const status = this.#native.pread(this.fd, this.regions[region]!.fdOffset + offset, this.#scratch, 0, 1);
    return status === 0 ? this.#scratch[0]! : 0xff;
  }

  /** A whole region, with accesses of the kernel's choice: for a ROM, which it maps anew for each read. Undefined when it refuses. */
  readRegion(region: number): Uint8Array | undefined {
    const { sizeBytes, fdOffset } = this.regions[region]!;
    const bytes = new Uint8Array(sizeBytes);
    return this.#native.readAll(this.fd, fdOffset, bytes) === 0 ? bytes : undefined;
  }

  /** Config space as the kernel shows it now. */
  snapshotConfig(): Uint8Array {
    const config = new Uint8Array(Math.max(this.configBytes, STANDARD_CONFIG_BYTES));
    for (let at = 0; at < this.configBytes; at += 4) writeLe(config, at, 4, this.read(at, 4));
    return config;
  }

  /** Closes the fd; the kernel then resets the device. A second call is ignored. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#native.close(this.fd);
  }

  get #configOffset(): number {
    return this.regions[VFIO_PCI_REGION.CONFIG]!.fdOffset;
  }

  #region(index: number, count: number): Region {
    const absent: Region = { index, sizeBytes: 0, fdOffset: 0, flags: 0, mmapAreas: [] };
    if (index >= count) return absent;
    try {
      return { ...parseRegionInfo(this.#native.vfioRegionInfo(this.fd, index)), index };
    } catch (error) {
      // The VGA region answers EINVAL on everything that is no VGA.
      if (hasErrno(error, 'EINVAL')) return absent;
      throw error;
    }
  }

  #irq(index: number, count: number): IrqInfo {
    if (index >= count) return NO_IRQ;
    try {
      return this.#native.vfioIrqInfo(this.fd, index);
    } catch (error) {
      if (hasErrno(error, 'EINVAL')) return NO_IRQ;
      throw error;
    }
  }
}
