/**
 * Capability chains in the answers of VFIO's INFO ioctls: a header {id u16, version u16, next u32}, `next` counted from
 * the start of the answer. A future kernel may say anything here, so all of it is bounded and unknown ids are left to
 * the reader to ignore.
 */

export interface InfoCapability {
  readonly id: number;
  readonly version: number;
  /** Where the capability's header starts in the answer. */
  readonly offset: number;
}

const HEADER_BYTES = 8;

/** The chain from `first` (0: none), in its order; it ends at a pointer that repeats, goes backwards or outside. */
export function walkInfoCapabilities(info: DataView, first: number): InfoCapability[] {
  const found: InfoCapability[] = [];
  const seen = new Set<number>();
  for (let at = first; at !== 0 && at + HEADER_BYTES <= info.byteLength && !seen.has(at); ) {
    seen.add(at);
    found.push({ id: info.getUint16(at, true), version: info.getUint16(at + 2, true), offset: at });
    at = info.getUint32(at + 4, true);
  }
  return found;
}

/** A 64-bit value of the kernel as a number; what is beyond 2^53 is clamped to it: no address that matters is there. */
export function readU64(info: DataView, at: number): number {
  if (at < 0 || at + 8 > info.byteLength) return 0;
  const value = info.getBigUint64(at, true);
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(value);
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
