/** The MSI capability of one function as guest state (PCI 3.0 §6.8.1). Knows registers, not what delivers. */
import { readLe } from '../base/bits.ts';
import type { MsiMessage } from '../irq/irq-router.ts';
import type { ConfigSpace } from './config-space.ts';

const CONTROL = 2;
const ADDRESS_LO = 4;
const ENABLE = 0x0001;
const MULTI_CAPABLE = 0x000e;
const MULTI_ENABLE = 0x0070;
const IS_64 = 0x0080;
const PER_VECTOR_MASK = 0x0100;
const MAX_LOG2_VECTORS = 5;

/** One vector that shall be delivered right now. */
export interface ArmedVector {
  readonly vector: number;
  readonly message: MsiMessage;
}

export interface MsiOptions {
  /** Config offset of the capability. */
  readonly offset: number;
  /** Message control as the hardware has it; decides the layout. */
  readonly control: number;
  /** Vectors to offer at most; rounded down to a power of two. */
  readonly maxVectors: number;
}

export class Msi {
  readonly offset: number;
  /** Vectors offered: 1, 2, 4 … 32. */
  readonly vectorCount: number;
  readonly sizeBytes: number;
  readonly #space: ConfigSpace;
  readonly #is64: boolean;
  readonly #maskOffset: number | undefined;
  readonly #control: number;

  /** Lays the capability out in the image, everything but its id and next pointer. */
  constructor(space: ConfigSpace, { offset, control, maxVectors }: MsiOptions) {
    this.#space = space;
    this.offset = offset;
    this.#is64 = (control & IS_64) !== 0;
    const offered = Math.min((control & MULTI_CAPABLE) >> 1, MAX_LOG2_VECTORS, Math.floor(Math.log2(maxVectors)));
    this.vectorCount = 1 << offered;
    this.#control = (control & (IS_64 | PER_VECTOR_MASK)) | (offered << 1);
    const data = this.#dataOffset;
    this.#maskOffset = control & PER_VECTOR_MASK ? data + 4 : undefined;
    this.sizeBytes = this.#maskOffset === undefined ? data + 2 - offset : this.#maskOffset + 8 - offset;
    this.#allow(offset + CONTROL, 2, ENABLE | MULTI_ENABLE);
    this.#allow(offset + ADDRESS_LO, 4, 0xffff_fffc);
    if (this.#is64) this.#allow(offset + ADDRESS_LO + 4, 4, 0xffff_ffff);
    this.#allow(data, 2, 0xffff);
    if (this.#maskOffset !== undefined) this.#allow(this.#maskOffset, 4, this.#vectorBits);
    this.reset();
  }

  /** As after a reset: off, nothing masked. */
  reset(): void {
    for (let at = this.offset + CONTROL; at < this.offset + this.sizeBytes; at++) this.#space.set(at, 1, 0);
    this.#space.set(this.offset + CONTROL, 2, this.#control);
  }

  get enabled(): boolean {
    return (this.#space.get(this.offset + CONTROL, 2) & ENABLE) !== 0;
  }

  /** Vectors that the guest enabled: 2^MME, no more than offered. */
  get enabledCount(): number {
    const log2 = (this.#space.get(this.offset + CONTROL, 2) & MULTI_ENABLE) >> 4;
    return Math.min(1 << Math.min(log2, MAX_LOG2_VECTORS), this.vectorCount);
  }

  /** Enabled vectors that are not masked, each with its message; empty while MSI is off. */
  desiredVectors(): ArmedVector[] {
    if (!this.enabled) return [];
    const count = this.enabledCount;
    const mask = this.#maskOffset === undefined ? 0 : this.#space.get(this.#maskOffset, 4);
    const addressLo = this.#space.get(this.offset + ADDRESS_LO, 4);
    const addressHi = this.#is64 ? this.#space.get(this.offset + ADDRESS_LO + 4, 4) : 0;
    const data = this.#space.get(this.#dataOffset, 2);
    const armed: ArmedVector[] = [];
    for (let vector = 0; vector < count; vector++) {
      if ((mask >>> vector) & 1) continue;
      // The function puts the vector into the low bits of the data (§6.8.1.4).
      armed.push({ vector, message: { addressLo, addressHi, data: (data & ~(count - 1)) | vector } });
    }
    return armed;
  }

  /** Config offsets of the dwords that make up the capability: where a write may change the desired vectors. */
  dwords(): number[] {
    const first = this.offset & ~3;
    return Array.from({ length: Math.ceil((this.offset + this.sizeBytes - first) / 4) }, (_, i) => first + 4 * i);
  }

  /** Config offset of the pending bits, when the function has them. */
  get pendingOffset(): number | undefined {
    return this.#maskOffset === undefined ? undefined : this.#maskOffset + 4;
  }

  get #dataOffset(): number {
    return this.offset + (this.#is64 ? 12 : 8);
  }

  get #vectorBits(): number {
    return this.vectorCount === 32 ? 0xffff_ffff : (1 << this.vectorCount) - 1;
  }

  #allow(offset: number, width: number, bits: number): void {
    for (let i = 0; i < width; i++) this.#space.guestWrite[offset + i] = (bits >>> (8 * i)) & 0xff;
  }
}

/** Message control of the capability at `offset` of a config image. */
export function msiControl(config: Uint8Array, offset: number): number {
  return readLe(config, offset + CONTROL, 2);
}
