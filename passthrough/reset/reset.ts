/**
 * How a device is brought into its power-on state: the function alone if the kernel can, else slot or bus together with
 * every function that shares it, if all of those are ours, else by a change of its power state, else not at all. What was
 * done is reported, never assumed.
 */
import type { Fd, HostBdf, Native } from '../../native/types.ts';
import { VFIO_DEVID_NOT_OWNED, VFIO_HOT_RESET_FLAGS, VFIO_HOT_RESET_INFO } from '../../native/vfio-abi.ts';
import { isKernelError } from '../../vmm/base/errors.ts';
import type { ResetMethod } from '../../vmm/config/model.ts';
import { HEADER } from '../config-space/permission-table.ts';
import { type HostDevice, PCI_DEVICES, readText } from '../host/sysfs.ts';
import type { VfioDevice } from '../vfio/device.ts';
import { viewOf } from '../vfio/info-caps.ts';
import { configDifferences, isDead, reread, vendorFault } from './health.ts';

export interface ResetResult {
  /** `function (flr)`, `hot reset`, `hot reset (with 0000:01:00.1)`, `none: …`. */
  readonly method: string;
  readonly ok: boolean;
  /** What the device then had that it should not, for people. */
  readonly faults?: readonly string[];
}

/** What is known of a device beside VFIO's own facts. */
export interface ResetSubject {
  readonly host: HostDevice;
  /** Default: auto. */
  readonly method: ResetMethod | undefined;
  /** Config space as VFIO showed it when the device was opened. */
  readonly baseline: Uint8Array;
  /** A guest uses it at the moment: nobody else's reset may hit it. */
  readonly isActive: () => boolean;
}

/** A function that a hot reset would also hit. */
interface Affected {
  /** Its IOMMU group; with iommufd its device id there. */
  readonly group: number;
  readonly bdf: HostBdf;
  /** Told by an iommufd, which knows its devices: ours, or another's. */
  readonly isOwned?: boolean;
}

/**
 * From D3hot to D0, the kernel's last resort for a function alone. It clears what the device's maker chose (PCI PM 1.2
 * §5.4.1): some forget nothing, and go on with the last guest's DMA when the next one lets them.
 */
const POWER_STATE = 'pm';

/** Resets the devices of one session; remembers which ones a hot reset has already taken along. */
export class Resetter {
  readonly #native: Native;
  readonly #groups: ReadonlyMap<number, Fd>;
  readonly #subjects = new Map<HostBdf, ResetSubject>();
  /** Reset by a neighbour's hot reset and not used since. */
  readonly #takenAlong = new Map<HostBdf, HostBdf>();

  constructor(native: Native, groups: ReadonlyMap<number, Fd>) {
    this.#native = native;
    this.#groups = groups;
  }

  /** Before the first reset of a device. */
  register(bdf: HostBdf, subject: ResetSubject): void {
    this.#subjects.set(bdf, subject);
  }

  /** The device has been used since it was last reset. */
  used(device: VfioDevice): void {
    this.#takenAlong.delete(device.bdf);
  }

  /** Whether a guest may be offered to reset this function alone. */
  canResetAlone(device: VfioDevice): boolean {
    const method = this.#methodOf(device);
    return device.canReset && method !== 'none' && method !== 'hot';
  }

  /** Never throws; a reset that did not work says so. */
  reset(device: VfioDevice): ResetResult {
    const method = this.#methodOf(device);
    if (method === 'none') return { method: 'none, as configured', ok: true };
    const by = this.#takenAlong.get(device.bdf);
    if (by !== undefined) {
      this.#takenAlong.delete(device.bdf);
      return this.#checked(device, `hot reset (with ${by})`);
    }
    if (method === 'hot') return this.#hotReset(device, '');
    if (!device.canReset) {
      return method === 'auto'
        ? this.#hotReset(device, '')
        : { method: `none: the kernel has no function reset for it (${method})`, ok: false };
    }
    const preferred = this.#kernelPrefers(device);
    const name = preferred ? `function (${preferred})` : 'function';
    const stronger = method === 'auto' && preferred === POWER_STATE ? this.#hotReset(device, '') : undefined;
    if (stronger?.ok) return stronger;
    try {
      this.#native.vfioDeviceReset(device.fd);
    } catch (error) {
      const failed = `function reset failed (${codeOf(error)})`;
      if (stronger) return { method: `${stronger.method}, ${failed}`, ok: false };
      return method === 'auto' ? this.#hotReset(device, `${failed}, `) : { method: `none: ${failed}`, ok: false };
    }
    const result = this.#checked(device, name);
    if (result.ok || method !== 'auto' || stronger) return result;
    // The next rung of the ladder, where it can be had; else what was found stays the report.
    const second = this.#hotReset(device, `${name} left it unwell, `);
    return second.ok ? second : result;
  }

  #methodOf({ bdf }: VfioDevice): ResetMethod {
    return this.#subjects.get(bdf)?.method ?? 'auto';
  }

  /** What VFIO_DEVICE_RESET tries first; empty when the kernel does not say. */
  #kernelPrefers({ bdf }: VfioDevice): string {
    return (readText(this.#native, `${PCI_DEVICES}/${bdf}/reset_method`) ?? '').split(/\s+/)[0]!;
  }

  #hotReset(device: VfioDevice, before: string): ResetResult {
    let affected: Affected[];
    try {
      affected = parseHotResetInfo(this.#native.vfioHotResetInfo(device.fd));
    } catch (error) {
      return { method: `none: ${before}no slot or bus reset (${codeOf(error)})`, ok: false };
    }
    const foreign = affected.filter(({ group, isOwned }) => !(isOwned ?? this.#groups.has(group)));
    if (foreign.length > 0) {
      const names = foreign.map(({ bdf }) => bdf).join(', ');
      return { method: `none: ${before}a hot reset would also hit ${names}`, ok: false };
    }
    const others = affected.filter(({ bdf }) => bdf !== device.bdf);
    const active = others.filter(({ bdf }) => this.#subjects.get(bdf)?.isActive());
    if (active.length > 0) {
      const names = active.map(({ bdf }) => bdf).join(', ');
      return { method: `none: ${before}a hot reset would also hit ${names}, which the guest uses`, ok: false };
    }
    // An iommufd wants no proof.
    const groups = [...new Set(affected.flatMap(({ group, isOwned }) => (isOwned ? [] : this.#groups.get(group)!)))];
    try {
      this.#native.vfioHotReset(device.fd, groups);
    } catch (error) {
      return { method: `none: ${before}hot reset failed (${codeOf(error)})`, ok: false };
    }
    for (const { bdf } of others) this.#takenAlong.set(bdf, device.bdf);
    return this.#checked(device, `${before}hot reset`);
  }

  /** A device that fell off the bus reads all ones; one that lost its firmware may have another face. */
  #checked(device: VfioDevice, method: string): ResetResult {
    if (isDead(device.read(HEADER.CLASS, 4))) return { method: `${method}, and the device does not answer`, ok: false };
    const subject = this.#subjects.get(device.bdf);
    if (!subject) return { method, ok: true };
    const config = reread(subject.baseline, (offset) => device.read(offset, 4));
    const vendor = vendorFault(this.#native, subject.host);
    const faults = [...(vendor === undefined ? [] : [vendor]), ...configDifferences(subject.baseline, config)];
    return faults.length === 0 ? { method, ok: true } : { method, ok: false, faults };
  }
}

/** Decodes struct vfio_pci_hot_reset_info; entries that lie outside the answer are dropped. */
export function parseHotResetInfo(bytes: Uint8Array): Affected[] {
  const info = viewOf(bytes);
  if (info.byteLength < VFIO_HOT_RESET_INFO.devices) return [];
  const affected: Affected[] = [];
  const byId = (info.getUint32(VFIO_HOT_RESET_INFO.flags, true) & VFIO_HOT_RESET_FLAGS.DEV_ID) !== 0;
  const count = info.getUint32(VFIO_HOT_RESET_INFO.count, true);
  for (let i = 0; i < count; i++) {
    const at = VFIO_HOT_RESET_INFO.devices + i * VFIO_HOT_RESET_INFO.deviceBytes;
    if (at + VFIO_HOT_RESET_INFO.deviceBytes > info.byteLength) break;
    const [bus, devfn] = [info.getUint8(at + 6), info.getUint8(at + 7)];
    const digits = (value: number, width: number): string => value.toString(16).padStart(width, '0');
    const bdf = `${digits(info.getUint16(at + 4, true), 4)}:${digits(bus, 2)}:${digits(devfn >> 3, 2)}.${devfn & 7}`;
    const group = info.getUint32(at, true);
    affected.push({ group, bdf: bdf as HostBdf, ...(byId ? { isOwned: group !== VFIO_DEVID_NOT_OWNED } : {}) });
  }
  return affected;
}

function codeOf(error: unknown): string {
  return isKernelError(error) ? error.code : String(error);
}
