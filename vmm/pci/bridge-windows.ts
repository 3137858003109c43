/**
 * The address windows of a PCI-to-PCI bridge in its type-1 header (PCI-to-PCI Bridge Architecture 1.2 §3.2.5): what of the
 * host's space reaches the bus behind it. Pure: registers in, ranges out, and the other way for firmware's part.
 */
import { high32, join32, low32 } from '../base/bits.ts';
import type { Range } from '../base/ranges.ts';
import type { ConfigSpace } from './config-space.ts';

/** Offsets in a type-1 header. */
export const BRIDGE = {
  PRIMARY_BUS: 0x18,
  SECONDARY_BUS: 0x19,
  SUBORDINATE_BUS: 0x1a,
  IO_BASE: 0x1c,
  IO_LIMIT: 0x1d,
  MEMORY_BASE: 0x20,
  MEMORY_LIMIT: 0x22,
  PREFETCH_BASE: 0x24,
  PREFETCH_LIMIT: 0x26,
  PREFETCH_BASE_HIGH: 0x28,
  PREFETCH_LIMIT_HIGH: 0x2c,
  CONTROL: 0x3e,
} as const;

/** Windows start and end at multiples of these. */
export const MEMORY_GRANULE = 0x10_0000;
export const IO_GRANULE = 0x1000;
/** Low nibble of the prefetchable window's registers: it has upper halves. */
const PREFETCH_64 = 0x1;

/** What a bridge hands on; undefined where a window is closed. */
export interface BridgeWindows {
  readonly io: Range | undefined;
  readonly memory: Range | undefined;
  readonly prefetch: Range | undefined;
}

export const CLOSED_WINDOWS: BridgeWindows = { io: undefined, memory: undefined, prefetch: undefined };

/** Marks the bits of the window registers that a guest may write. */
export function allowWindows(space: ConfigSpace): void {
  space.guestWrite.fill(0xf0, BRIDGE.IO_BASE, BRIDGE.IO_LIMIT + 1);
  for (const at of [BRIDGE.MEMORY_BASE, BRIDGE.MEMORY_LIMIT, BRIDGE.PREFETCH_BASE, BRIDGE.PREFETCH_LIMIT]) {
    space.guestWrite[at] = 0xf0;
    space.guestWrite[at + 1] = 0xff;
  }
  space.guestWrite.fill(0xff, BRIDGE.PREFETCH_BASE_HIGH, BRIDGE.PREFETCH_LIMIT_HIGH + 4);
}

/** Writes windows into the registers, as firmware does. Starts and sizes must be multiples of the granules. */
export function setWindows(space: ConfigSpace, { io, memory, prefetch }: BridgeWindows): void {
  // A base above its limit closes a window.
  const [ioBase, ioLast] = io ? ends(io) : [0xf000, 0];
  space.set(BRIDGE.IO_BASE, 1, (ioBase >>> 8) & 0xf0);
  space.set(BRIDGE.IO_LIMIT, 1, (ioLast >>> 8) & 0xf0);
  const [base, last] = memory ? ends(memory) : [0xfff0_0000, 0];
  space.set(BRIDGE.MEMORY_BASE, 2, (base >>> 16) & 0xfff0);
  space.set(BRIDGE.MEMORY_LIMIT, 2, (last >>> 16) & 0xfff0);
  const [prefetchBase, prefetchLast] = prefetch ? ends(prefetch) : [0xfff0_0000, 0];
  space.set(BRIDGE.PREFETCH_BASE, 2, ((low32(prefetchBase) >>> 16) & 0xfff0) | PREFETCH_64);
  space.set(BRIDGE.PREFETCH_LIMIT, 2, ((low32(prefetchLast) >>> 16) & 0xfff0) | PREFETCH_64);
  space.set(BRIDGE.PREFETCH_BASE_HIGH, 4, high32(prefetchBase));
  space.set(BRIDGE.PREFETCH_LIMIT_HIGH, 4, high32(prefetchLast));
}

/** The windows as the registers have them now, whatever a guest wrote. */
export function windowsOf(space: ConfigSpace): BridgeWindows {
  const ioBase = (space.get(BRIDGE.IO_BASE, 1) & 0xf0) << 8;
  const ioLimit = ((space.get(BRIDGE.IO_LIMIT, 1) & 0xf0) << 8) | (IO_GRANULE - 1);
  const base = address(space, BRIDGE.MEMORY_BASE);
  const limit = address(space, BRIDGE.MEMORY_LIMIT) + (MEMORY_GRANULE - 1);
  const prefetchBase = join32(address(space, BRIDGE.PREFETCH_BASE), space.get(BRIDGE.PREFETCH_BASE_HIGH, 4));
  const prefetchLimit = join32(address(space, BRIDGE.PREFETCH_LIMIT), space.get(BRIDGE.PREFETCH_LIMIT_HIGH, 4));
  return {
    io: between(ioBase, ioLimit),
    memory: between(base, limit),
    prefetch: between(prefetchBase, prefetchLimit + (MEMORY_GRANULE - 1)),
  };
}

function ends({ start, size }: Range): [first: number, last: number] {
  return [start, start + size - 1];
}

function address(space: ConfigSpace, register: number): number {
  return (space.get(register, 2) & 0xfff0) * 0x1_0000;
}

/** Beyond 2^53 a JS number is not exact, and beyond every address that a guest has. */
function between(first: number, last: number): Range | undefined {
  return first <= last && Number.isSafeInteger(last + 1) ? { start: first, size: last - first + 1 } : undefined;
}
