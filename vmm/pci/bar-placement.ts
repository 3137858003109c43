/** Firmware's part: gives each BAR an address, and each root port its windows, before the guest starts. Pure. */
import { alignUp, GIB, MIB } from '../base/bits.ts';
import { CausewayError } from '../base/errors.ts';
import { endOf, type Range } from '../base/ranges.ts';
import { formatSize } from '../base/units.ts';
import { type BridgeWindows, IO_GRANULE, MEMORY_GRANULE } from './bridge-windows.ts';
import type { BarRequest, PciFunction } from './function.ts';
import type { SlotPlan } from './topology.ts';

/** The windows that the host bridge decodes. */
export interface BarWindows {
  readonly mmio32: Range;
  /** Prefetchable. */
  readonly mmio64: Range;
  readonly ports: Range;
}

/** Ports for BARs; below lie the legacy devices. */
export const PORT_WINDOW: Range = { start: 0x1000, size: 0xf000 };

export interface Placement {
  readonly function: PciFunction;
  readonly bar: BarRequest;
  readonly address: number;
}

export interface PlacementPlan {
  readonly bars: readonly Placement[];
  /** By slot of the plan; undefined for those that are no port. */
  readonly windows: readonly (BridgeWindows | undefined)[];
}

type WindowKind = keyof BridgeWindows;

/** What a port's windows shall have at least, so that a card that comes later finds room. Bytes. */
type Reserve = Readonly<Record<WindowKind, number>>;

/** Tried in this order. */
const RESERVES: readonly Reserve[] = [
  { memory: 32 * MIB, prefetch: 32 * GIB, io: IO_GRANULE },
  { memory: 16 * MIB, prefetch: 4 * GIB, io: IO_GRANULE },
  { memory: 4 * MIB, prefetch: 256 * MIB, io: 0 },
  { memory: 0, prefetch: 0, io: 0 },
];

/** Something that wants a place: a BAR on the root bus, or a window with the BARs behind it. */
interface Want {
  readonly sizeBytes: number;
  readonly align: number;
  readonly ranges: readonly Range[];
  /** BARs within, with their distance from the start. */
  readonly bars: readonly { readonly function: PciFunction; readonly bar: BarRequest; readonly offset: number }[];
  readonly window?: { readonly slot: number; readonly kind: WindowKind };
}

/**
 * Places all BARs, largest first, naturally aligned. On the root bus prefetchable 64-bit BARs go to the 64-bit window, all
 * other memory BARs below 4 GiB, where a 64-bit one that does not fit falls back to the 64-bit window. Behind a port they
 * share its windows; what is 64-bit but not prefetchable must be below 4 GiB there. Spare room is shared out to the ports.
 * @throws CausewayError BAR_NO_SPACE
 */
export function placeSlots(slots: readonly SlotPlan[], windows: BarWindows): PlacementPlan {
  let failure: unknown;
  for (const reserve of RESERVES) {
    try {
      return placeWith(slots, windows, reserve);
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

function placeWith(slots: readonly SlotPlan[], windows: BarWindows, reserve: Reserve): PlacementPlan {
  const wants = slots.flatMap((slot, index) =>
    slot.port === undefined
      ? slot.functions.flatMap(({ fn }) => barWants(fn, windows))
      : portWants(slot, index, windows, reserve),
  );
  wants.sort((a, b) => b.align - a.align || b.sizeBytes - a.sizeBytes);
  const next = new Map<Range, number>([windows.mmio32, windows.mmio64, windows.ports].map((w) => [w, w.start]));
  const bars: Placement[] = [];
  const found = slots.map(({ port }) => (port === undefined ? undefined : new Map<WindowKind, Range>()));
  for (const want of wants) {
    const start = take(want, next);
    for (const { function: fn, bar, offset } of want.bars) bars.push({ function: fn, bar, address: start + offset });
    if (want.window) found[want.window.slot]!.set(want.window.kind, { start, size: want.sizeBytes });
  }
  const ofPort = (made: Map<WindowKind, Range>): BridgeWindows => ({
    io: made.get('io'),
    memory: made.get('memory'),
    prefetch: made.get('prefetch'),
  });
  return { bars, windows: found.map((made) => made && ofPort(made)) };
}

function take(want: Want, next: Map<Range, number>): number {
  for (const range of want.ranges) {
    const start = alignUp(next.get(range)!, want.align);
    if (start + want.sizeBytes > endOf(range)) continue;
    next.set(range, start + want.sizeBytes);
    return start;
  }
  const [biggest] = want.bars;
  const what = biggest
    ? `${biggest.function.label}: BAR ${biggest.bar.index} of ${formatSize(biggest.bar.sizeBytes)}`
    : `a port's window of ${formatSize(want.sizeBytes)}`;
  throw new CausewayError('BAR_NO_SPACE', `${what} does not fit into the guest's windows`, {
    hint: 'assign fewer devices to this VM, or use a host CPU with wider physical addresses',
  });
}

function barWants(fn: PciFunction, windows: BarWindows): Want[] {
  return fn.bars.map((bar) => ({
    sizeBytes: bar.sizeBytes,
    align: bar.sizeBytes,
    ranges: rangesFor(bar, windows),
    bars: [{ function: fn, bar, offset: 0 }],
  }));
}

function portWants(slot: SlotPlan, index: number, windows: BarWindows, reserve: Reserve): Want[] {
  const all = slot.functions.flatMap(({ fn }) => fn.bars.map((bar) => ({ function: fn, bar })));
  const wants: Want[] = [];
  for (const kind of ['io', 'memory', 'prefetch'] as const) {
    const bars = all.filter(({ bar }) => windowKind(bar) === kind).sort((a, b) => b.bar.sizeBytes - a.bar.sizeBytes);
    const granule = kind === 'io' ? IO_GRANULE : MEMORY_GRANULE;
    let end = 0;
    const packed = bars.map((each) => {
      const offset = alignUp(end, each.bar.sizeBytes);
      end = offset + each.bar.sizeBytes;
      return { ...each, offset };
    });
    const sizeBytes = Math.max(alignUp(end, granule), reserve[kind]);
    if (sizeBytes === 0) continue;
    const align = Math.max(granule, bars[0]?.bar.sizeBytes ?? 0);
    const ranges = { io: [windows.ports], memory: [windows.mmio32], prefetch: [windows.mmio64, windows.mmio32] }[kind];
    wants.push({ sizeBytes, align, ranges, bars: packed, window: { slot: index, kind } });
  }
  return wants;
}

function windowKind(bar: BarRequest): WindowKind {
  if (bar.kind === 'port') return 'io';
  return bar.is64 && bar.prefetchable ? 'prefetch' : 'memory';
}

function rangesFor(bar: BarRequest, windows: BarWindows): Range[] {
  if (bar.kind === 'port') return [windows.ports];
  if (bar.is64) return bar.prefetchable ? [windows.mmio64, windows.mmio32] : [windows.mmio32, windows.mmio64];
  return [windows.mmio32];
}
