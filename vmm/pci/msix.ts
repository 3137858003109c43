/** MSI-X of one function as guest state (PCI 3.0 §6.8.2): control word, table, pending bits. Never the device's own table. */
import { ones, readLe, writeLe } from '../base/bits.ts';
import type { ArmedVector } from './msi.ts';

/** Bytes of one table entry: address low and high, data, vector control. */
export const MSIX_ENTRY_BYTES = 16;
const ENTRY_DATA = 8;
const ENTRY_CONTROL = 12;
const ENTRY_MASKED = 1;

const CONTROL_ENABLE = 0x8000;
const CONTROL_FUNCTION_MASK = 0x4000;
const CONTROL_SIZE = 0x07ff;

/** A structure in a BAR. */
export interface BarLocation {
  readonly bar: number;
  readonly offset: number;
  readonly sizeBytes: number;
}

export interface MsixLayout {
  readonly vectorCount: number;
  readonly table: BarLocation;
  readonly pending: BarLocation;
}

/**
 * A write into an entry that is masked and stays so, which a vCPU thread stores by itself: software may change a message only
 * while it is masked (PCI 3.0 §6.8.2), and what it says then is looked at when the entry is unmasked. Linux masks every
 * entry when it turns MSI-X on, masked as they are.
 * @param tableAt where the table begins in `bytes`
 * @returns false, and nothing is stored, for every other write
 */
export function storeWhileMasked(
  bytes: Uint8Array,
  tableAt: number,
  offset: number,
  width: number,
  value: number,
): boolean {
  const inEntry = offset % MSIX_ENTRY_BYTES;
  const entry = tableAt + offset - inEntry;
  if (inEntry + width > MSIX_ENTRY_BYTES || (bytes[entry + ENTRY_CONTROL]! & ENTRY_MASKED) === 0) return false;
  const control = ENTRY_CONTROL - inEntry;
  if (control >= 0 && control < width && ((value >>> (8 * control)) & ENTRY_MASKED) === 0) return false;
  for (let i = 0; i < width; i++) bytes[entry + inEntry + i] = (value >>> (8 * i)) & writableBits(inEntry + i);
  return true;
}

/** Reads the capability at `offset` of a config image. */
export function parseMsix(config: Uint8Array, offset: number): MsixLayout {
  const vectorCount = (readLe(config, offset + 2, 2) & CONTROL_SIZE) + 1;
  const table = readLe(config, offset + 4, 4);
  const pending = readLe(config, offset + 8, 4);
  return {
    vectorCount,
    table: { bar: table & 7, offset: (table & ~7) >>> 0, sizeBytes: vectorCount * MSIX_ENTRY_BYTES },
    pending: { bar: pending & 7, offset: (pending & ~7) >>> 0, sizeBytes: Math.ceil(vectorCount / 64) * 8 },
  };
}

export class Msix {
  readonly vectorCount: number;
  readonly #isPending: (vector: number) => boolean;
  #table: Uint8Array;
  #control = 0;

  /** @param isPending whether an interrupt of that vector waits to be delivered; asked when the guest reads the PBA */
  constructor(vectorCount: number, isPending: (vector: number) => boolean) {
    this.vectorCount = vectorCount;
    this.#isPending = isPending;
    this.#table = new Uint8Array(vectorCount * MSIX_ENTRY_BYTES);
    this.reset();
  }

  /** Moves the table into `bytes`, from which vCPU threads read it; they are {@link tableBytes} long. */
  useTable(bytes: Uint8Array): void {
    bytes.set(this.#table);
    this.#table = bytes;
  }

  /** Where the table lies now. */
  get tableMemory(): Uint8Array {
    return this.#table;
  }

  get tableBytes(): number {
    return this.vectorCount * MSIX_ENTRY_BYTES;
  }

  /** As after a reset: off, every vector masked, entries 0. */
  reset(): void {
    this.#control = 0;
    this.#table.fill(0);
    for (let at = ENTRY_CONTROL; at < this.#table.length; at += MSIX_ENTRY_BYTES) this.#table[at] = ENTRY_MASKED;
  }

  /** Message control: the vector count is read-only, enable and function mask are the guest's. */
  get control(): number {
    return this.#control | (this.vectorCount - 1);
  }

  set control(value: number) {
    this.#control = value & (CONTROL_ENABLE | CONTROL_FUNCTION_MASK);
  }

  get enabled(): boolean {
    return (this.#control & CONTROL_ENABLE) !== 0;
  }

  get functionMasked(): boolean {
    return (this.#control & CONTROL_FUNCTION_MASK) !== 0;
  }

  readTable(offset: number, width: number): number {
    return offset >= 0 && offset + width <= this.#table.length ? readLe(this.#table, offset, width) : ones(width);
  }

  /** A guest's write into the table. Returns whether anything changed. Writes outside are dropped. */
  writeTable(offset: number, width: number, value: number): boolean {
    if (offset < 0 || offset + width > this.#table.length) return false;
    let changed = false;
    for (let i = 0; i < width; i++) {
      const at = offset + i;
      const byte = (value >>> (8 * i)) & writableBits(at % MSIX_ENTRY_BYTES);
      changed ||= this.#table[at] !== byte;
      this.#table[at] = byte;
    }
    return changed;
  }

  /** Pending bits, answered at the moment of the read. Writes to the PBA have no effect, so there is no method. */
  readPending(offset: number, width: number): number {
    let value = 0;
    for (let bit = 0; bit < width * 8; bit++) {
      const vector = offset * 8 + bit;
      if (vector >= 0 && vector < this.vectorCount && this.#isPending(vector)) value += 2 ** bit;
    }
    return value;
  }

  /** The vectors that shall be delivered now, in ascending order: enabled, and masked neither alone nor all together. */
  desiredVectors(): ArmedVector[] {
    if (!this.enabled || this.functionMasked) return [];
    const armed: ArmedVector[] = [];
    for (let vector = 0; vector < this.vectorCount; vector++) {
      const at = vector * MSIX_ENTRY_BYTES;
      if (this.#table[at + ENTRY_CONTROL]! & ENTRY_MASKED) continue;
      const message = {
        addressLo: readLe(this.#table, at, 4),
        addressHi: readLe(this.#table, at + 4, 4),
        data: readLe(this.#table, at + ENTRY_DATA, 4),
      };
      armed.push({ vector, message });
    }
    return armed;
  }

  /** For tests and tools: writes the control word's two bits into a config image's capability. */
  storeControl(image: Uint8Array, capabilityOffset: number): void {
    writeLe(image, capabilityOffset + 2, 2, this.control);
  }
}

/** Address bits 1:0 are 0, vector control has only its mask bit. */
function writableBits(byteOfEntry: number): number {
  if (byteOfEntry === 0) return 0xfc;
  if (byteOfEntry < ENTRY_CONTROL) return 0xff;
  return byteOfEntry === ENTRY_CONTROL ? ENTRY_MASKED : 0;
}
