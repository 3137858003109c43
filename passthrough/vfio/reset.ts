/**
 * How a device is brought into its power-on state: the function alone if the kernel can, else slot or bus together with
 * every function that shares it, if all of those are ours, else not at all. What was done is reported, never assumed.
 */
import type { Fd, HostBdf, Native } from '../../native/types.ts';
import { VFIO_DEVID_NOT_OWNED, VFIO_HOT_RESET_FLAGS, VFIO_HOT_RESET_INFO } from '../../native/vfio-abi.ts';
import { isKernelError } from '../../vmm/base/errors.ts';
import { PCI_DEVICES, readText } from '../host/sysfs.ts';
import type { VfioDevice } from './device.ts';
import { viewOf } from './info-caps.ts';

export interface ResetResult {
  /** `function (flr)`, `hot reset`, `hot reset (with 0000:01:00.1)`, `none: …`. */
  readonly method: string;
  readonly ok: boolean;
}

/** A function that a hot reset would also hit. */
interface Affected {
  /** Its IOMMU group; with iommufd its device id there. */
  readonly group: number;
  readonly bdf: HostBdf;
  /** Told by an iommufd, which knows its devices: ours, or another's. */
  readonly isOwned?: boolean;
}

const REVISION_AND_CLASS = 8;

/** Resets the devices of one session; remembers which ones a hot reset has already taken along. */
export class Resetter {
  readonly #native: Native;
  readonly #groups: ReadonlyMap<number, Fd>;
  /** Reset by a neighbour's hot reset and not used since. */
  readonly #takenAlong = new Map<HostBdf, HostBdf>();

  constructor(native: Native, groups: ReadonlyMap<number, Fd>) {
    this.#native = native;
    this.#groups = groups;
  }

  /** The device has been used since it was last reset. */
  used(device: VfioDevice): void {
    this.#takenAlong.delete(device.bdf);
  }

  /** Never throws; a reset that did not work says so. */
  reset(device: VfioDevice): ResetResult {
    const by = this.#takenAlong.get(device.bdf);
    if (by !== undefined) {
      this.#takenAlong.delete(device.bdf);
      return this.#checked(device, `hot reset (with ${by})`);
    }
    if (device.canReset) {
      try {
        this.#native.vfioDeviceReset(device.fd);
        return this.#checked(device, this.#functionMethod(device));
      } catch (error) {
        return this.#hotReset(device, `function reset failed (${codeOf(error)}), `);
      }
    }
    return this.#hotReset(device, '');
  }

  #functionMethod(device: VfioDevice): string {
    const first = (readText(this.#native, `${PCI_DEVICES}/${device.bdf}/reset_method`) ?? '').split(/\s+/)[0];
    return first ? `function (${first})` : 'function';
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
    // An iommufd wants no proof.
    const groups = [...new Set(affected.flatMap(({ group, isOwned }) => (isOwned ? [] : this.#groups.get(group)!)))];
    try {
      this.#native.vfioHotReset(device.fd, groups);
    } catch (error) {
      return { method: `none: ${before}hot reset failed (${codeOf(error)})`, ok: false };
    }
    for (const { bdf } of affected) if (bdf !== device.bdf) this.#takenAlong.set(bdf, device.bdf);
    return this.#checked(device, `${before}hot reset`);
  }

  /** A device that fell off the bus reads all ones. The ids are cached by VFIO, revision and class are not. */
  #checked(device: VfioDevice, method: string): ResetResult {
    const alive = device.read(REVISION_AND_CLASS, 4) !== 0xffff_ffff;
    return alive ? { method, ok: true } : { method: `${method}, and the device does not answer`, ok: false };
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
