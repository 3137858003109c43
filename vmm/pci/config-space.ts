/**
 * The register engine of one function's config space. It knows masks and where bits go, not what they mean.
 * Each bit has one home: the image, or the device. Reads: {@link ConfigWindow}. Writes: `guestWrite` bits change, those
 * of them in `deviceWrite` on the device, the others in the image; all other bits keep their value. An access of any
 * width is first merged into its dword (guests write BARs and COMMAND in bytes, words and dwords), so handlers see
 * one dword before and after.
 */
import { ones, readLe, writeLe } from '../base/bits.ts';
import type { ConfigWindow } from './config-window.ts';

/** Where the bits live that the image does not hold. Unsigned values, 1, 2 or 4 bytes. */
export interface ConfigDevice {
  /** All ones when the device does not answer. */
  read(offset: number, width: number): number;
  /** Failures are the device's to count; nothing is thrown. */
  write(offset: number, width: number, value: number): void;
}

/** A dword of the image changed, or at least was written to, by the guest. */
export interface RegisterWrite {
  /** Dword-aligned offset of the register. */
  readonly offset: number;
  /** The image's dword before and after. */
  readonly before: number;
  readonly after: number;
  /** What the guest put on the bus, for bits in `lanes`. */
  readonly raw: number;
  /** Ones in the bytes that the access covered. */
  readonly lanes: number;
}

/** Called after the image took the new bits; may change the image again with {@link ConfigSpace.set}. */
export type RegisterHandler = (write: RegisterWrite) => void;

export class ConfigSpace {
  readonly window: ConfigWindow;
  /** Bytes that exist: 256 or 4096. Above, reads give all ones and writes are dropped. */
  readonly sizeBytes: number;
  /** Bits that the guest may change. */
  readonly guestWrite: Uint8Array;
  /** Bits of `guestWrite` whose home is the device. */
  readonly deviceWrite: Uint8Array;
  /** Bits of the image that a written 1 clears (RW1C). Disjoint from `guestWrite`. */
  readonly clearOnOne: Uint8Array;
  readonly #device: ConfigDevice;
  readonly #handlers = new Map<number, RegisterHandler>();

  constructor(window: ConfigWindow, device: ConfigDevice, sizeBytes: number) {
    this.window = window;
    this.sizeBytes = sizeBytes;
    this.guestWrite = new Uint8Array(sizeBytes);
    this.deviceWrite = new Uint8Array(sizeBytes);
    this.clearOnOne = new Uint8Array(sizeBytes);
    this.#device = device;
  }

  /** Registers what happens when the guest writes into the dword at `offset`. */
  onWrite(offset: number, handler: RegisterHandler): void {
    this.#handlers.set(offset & ~3, handler);
  }

  /** Sets image bytes, whatever the masks say. For the VMM, never for a guest's value unmasked. */
  set(offset: number, width: number, value: number): void {
    writeLe(this.window.image, offset, width, value);
  }

  /** Image bytes, without asking the device. */
  get(offset: number, width: number): number {
    return readLe(this.window.image, offset, width);
  }

  /** What a guest reads there: the machine thread's own copy of what a vCPU thread does. */
  read(offset: number, width: number): number {
    if (!this.#holds(offset, width)) return ones(width);
    const device = readLe(this.window.deviceBits, offset, width);
    const image = readLe(this.window.image, offset, width);
    if (device === 0) return image;
    return ((image & ~device) | (this.#device.read(offset, width) & device)) >>> 0;
  }

  /**
   * A guest's write. Never throws for any offset, width or value; what does not lie in one dword is taken apart.
   */
  write(offset: number, width: number, value: number): void {
    if (!this.#holds(offset, width)) return;
    for (let done = 0; done < width; ) {
      const at = offset + done;
      const part = Math.min(width - done, 4 - (at & 3));
      this.#writeDword(at, part, (value >>> (8 * done)) & ones(part));
      done += part;
    }
  }

  #holds(offset: number, width: number): boolean {
    return Number.isInteger(offset) && offset >= 0 && width >= 1 && width <= 4 && offset + width <= this.sizeBytes;
  }

  #writeDword(at: number, width: number, value: number): void {
    const offset = at & ~3;
    const shift = 8 * (at & 3);
    const lanes = (ones(width) << shift) >>> 0;
    const raw = (value << shift) >>> 0;
    const writable = readLe(this.guestWrite, offset, 4) & lanes;
    const toDevice = writable & readLe(this.deviceWrite, offset, 4);
    const toImage = writable & ~toDevice;
    const before = this.get(offset, 4);
    const cleared = raw & lanes & readLe(this.clearOnOne, offset, 4);
    const after = (((before & ~toImage) | (raw & toImage)) & ~cleared) >>> 0;
    if (after !== before) this.set(offset, 4, after);
    if (toDevice !== 0) this.#writeDevice(at, width, value, toDevice >>> shift);
    this.#handlers.get(offset)?.({ offset, before, after, raw, lanes });
  }

  /** Read-modify-write with the guest's own width; bits not in `mask` keep what the device has. */
  #writeDevice(at: number, width: number, value: number, mask: number): void {
    // Two and four bytes only where they are aligned: the kernel splits others anyway.
    if (width === 3 || at % width !== 0) {
      for (let i = 0; i < width; i++) {
        const byteMask = (mask >>> (8 * i)) & 0xff;
        if (byteMask !== 0) this.#writeDevice(at + i, 1, (value >>> (8 * i)) & 0xff, byteMask);
      }
      return;
    }
    const whole = (mask & ones(width)) >>> 0 === ones(width);
    const kept = whole ? 0 : this.#device.read(at, width) & ~mask;
    this.#device.write(at, width, ((kept | (value & mask)) & ones(width)) >>> 0);
  }
}
