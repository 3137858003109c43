/** Unsigned arithmetic on JS numbers, whose own bit operators are signed and 32-bit. */

export const KIB: number = 1024;
export const MIB: number = 1024 ** 2;
export const GIB: number = 1024 ** 3;
export const PAGE_SIZE = 4096;

/** Rounds up to a multiple of `align` (a power of two or not), exact below 2^53. */
export function alignUp(value: number, align: number): number {
  return Math.ceil(value / align) * align;
}

export function alignDown(value: number, align: number): number {
  return Math.floor(value / align) * align;
}

export function isPowerOfTwo(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value));
}

/** The low 32 bits of a number below 2^53. */
export function low32(value: number): number {
  return (value % 0x1_0000_0000) >>> 0;
}

/** Bits 32 and up of a number below 2^53. */
export function high32(value: number): number {
  return Math.floor(value / 0x1_0000_0000);
}

/** Joins two unsigned 32-bit halves; exact while the result is below 2^53. */
export function join32(low: number, high: number): number {
  return (high >>> 0) * 0x1_0000_0000 + (low >>> 0);
}

/** All ones for an access of 1, 2 or 4 bytes: what an unclaimed read returns. */
export function ones(width: number): number {
  return width >= 4 ? 0xffff_ffff : (1 << (width * 8)) - 1;
}

/** Little-endian unsigned read of 1, 2 or 4 bytes. */
export function readLe(bytes: Uint8Array, at: number, width: number): number {
  let value = 0;
  for (let i = width - 1; i >= 0; i--) value = value * 256 + (bytes[at + i] ?? 0);
  return value;
}

/** Little-endian write of 1, 2 or 4 bytes. */
export function writeLe(bytes: Uint8Array, at: number, width: number, value: number): void {
  for (let i = 0; i < width; i++) bytes[at + i] = value >>> (8 * i);
}
