/**
 * Base address registers as a guest sees them, purely virtual: nothing here ever reaches a device. Writes come in
 * any width and order; what they amount to is decided by {@link decodeBars}, a pure function.
 */
import { high32, join32, low32 } from '../base/bits.ts';
import { contains, overlaps, type Range } from '../base/ranges.ts';
import { type BarRequest, ROM_BAR } from './function.ts';

export const BAR_COUNT = 6;
/** Config offset of BAR0. */
export const BAR0_OFFSET = 0x10;
/** Config offset of the expansion ROM's base address (PCI 3.0 §6.2.5.2). */
export const ROM_OFFSET = 0x30;

const PORT_SPACE = 0x1;
const MEMORY_64 = 0x4;
const PREFETCHABLE = 0x8;
const MEMORY_FLAGS_MASK = 0xf;
const PORT_FLAGS_MASK = 0x3;
const ROM_ENABLE = 0x1;
const ROM_FLAGS_MASK = 0x7ff;

export interface DecodedBar {
  readonly index: number;
  readonly kind: 'memory' | 'port';
  /** Guest-physical address, or first port. */
  readonly gpa: number;
  readonly sizeBytes: number;
}

/** What decides, beside the BARs, whether and where they are decoded. */
export interface DecodeState {
  /** COMMAND.IO and COMMAND.MEM, both as the guest wrote them. */
  readonly portDecode: boolean;
  readonly memoryDecode: boolean;
  /** False in D3hot: a function decodes nothing then. */
  readonly powered: boolean;
  readonly memoryWindows: readonly Range[];
  readonly portWindow: Range;
}

/** The six registers of one function, and that of its expansion ROM where it has one. */
export class BarRegisters {
  readonly requests: readonly BarRequest[];
  /** Address bits as written, flags excluded; index by register. */
  readonly #address = new Uint32Array(BAR_COUNT + 1);
  /** The guest wrote all ones to size the BAR and has not written an address since. */
  readonly #probed = new Set<number>();
  #romEnabled = false;

  constructor(requests: readonly BarRequest[]) {
    this.requests = requests;
  }

  /** The register's dword. Unimplemented ones read 0. */
  read(register: number): number {
    const low = this.requests.find((request) => request.index === register);
    if (register === ROM_BAR) return low ? (this.#address[register]! | (this.#romEnabled ? ROM_ENABLE : 0)) >>> 0 : 0;
    if (low) return (this.#address[register]! | flagsOf(low)) >>> 0;
    return this.#upperOf(register) ? this.#address[register]! : 0;
  }

  /** Writes a whole dword; the caller has merged narrower accesses with {@link read}. */
  write(register: number, value: number): void {
    const low = this.requests.find((request) => request.index === register);
    if (low) {
      const flagBits = flagBitsOf(low);
      if (register === ROM_BAR) this.#romEnabled = (value & ROM_ENABLE) !== 0;
      const mask = sizeMask(low.sizeBytes) & ~flagBits;
      this.#address[register] = value & mask;
      // All ones, with or without the type bits kept, where an aligned address would have zeros.
      const allOnes = (value | flagBits) >>> 0 === 0xffff_ffff && mask >>> 0 !== ~flagBits >>> 0;
      if (allOnes) this.#probed.add(register);
      else this.#probed.delete(register);
      return;
    }
    const upper = register < BAR_COUNT ? this.#upperOf(register) : undefined;
    if (upper) this.#address[register] = value & upperSizeMask(upper.sizeBytes);
  }

  /** Address of a BAR as it stands, by the index of its request; undefined while it is being sized. */
  address(index: number): number | undefined {
    const request = this.requests.find((candidate) => candidate.index === index);
    if (!request || this.#probed.has(index)) return undefined;
    const low = this.#address[index]!;
    return request.is64 ? join32(low, this.#address[index + 1] ?? 0) : low;
  }

  /** Sets an address, as firmware does. Bits that the BAR does not have are dropped. */
  place(index: number, address: number): void {
    const request = this.requests.find((candidate) => candidate.index === index);
    if (!request) return;
    this.write(index, low32(address));
    this.#probed.delete(index);
    if (request.is64) this.write(index + 1, high32(address));
  }

  /** Whether the guest lets the expansion ROM be decoded, beside COMMAND.MEM. */
  get romEnabled(): boolean {
    return this.#romEnabled;
  }

  /** All addresses 0, as after a reset. */
  reset(): void {
    this.#romEnabled = false;
    this.#address.fill(0);
    this.#probed.clear();
  }

  /** The 64-bit BAR whose upper half a register is. */
  #upperOf(register: number): BarRequest | undefined {
    return this.requests.find((request) => request.is64 && request.index === register - 1);
  }
}

/**
 * What a function decodes. Dropped, never an error: address 0, what does not lie in a window as a whole (with it every sizing
 * pattern, and most halves of a 64-bit move), and a BAR that overlaps one before it.
 */
export function decodeBars(registers: BarRegisters, state: DecodeState): DecodedBar[] {
  const decoded: DecodedBar[] = [];
  if (!state.powered) return decoded;
  for (const { index, kind, sizeBytes } of registers.requests) {
    if (!(kind === 'port' ? state.portDecode : state.memoryDecode)) continue;
    if (index === ROM_BAR && !registers.romEnabled) continue;
    const gpa = registers.address(index);
    // Beyond 2^53 a JS number is not exact, and beyond every window.
    if (gpa === undefined || gpa === 0 || !Number.isSafeInteger(gpa + sizeBytes)) continue;
    const range: Range = { start: gpa, size: sizeBytes };
    const windows = kind === 'port' ? [state.portWindow] : state.memoryWindows;
    if (!windows.some((window) => contains(window, range))) continue;
    const taken = decoded.some((other) => other.kind === kind && overlaps(range, rangeOf(other)));
    if (!taken) decoded.push({ index, kind, gpa, sizeBytes });
  }
  return decoded;
}

function rangeOf(bar: DecodedBar): Range {
  return { start: bar.gpa, size: bar.sizeBytes };
}

function flagBitsOf(request: BarRequest): number {
  if (request.index === ROM_BAR) return ROM_FLAGS_MASK;
  return request.kind === 'port' ? PORT_FLAGS_MASK : MEMORY_FLAGS_MASK;
}

function flagsOf(request: BarRequest): number {
  if (request.kind === 'port') return PORT_SPACE;
  return (request.is64 ? MEMORY_64 : 0) | (request.prefetchable ? PREFETCHABLE : 0);
}

/** Writable address bits of the lower half. A BAR of 4 GiB or more has none there. */
function sizeMask(sizeBytes: number): number {
  return sizeBytes >= 2 ** 32 ? 0 : ~(sizeBytes - 1) >>> 0;
}

function upperSizeMask(sizeBytes: number): number {
  return sizeBytes > 2 ** 32 ? ~(sizeBytes / 2 ** 32 - 1) >>> 0 : 0xffff_ffff;
}
