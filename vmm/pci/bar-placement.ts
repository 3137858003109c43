/** Firmware's part for BARs: gives each an address before the guest starts. Pure. */
import { alignUp } from '../base/bits.ts';
import { CausewayError } from '../base/errors.ts';
import { endOf, type Range } from '../base/ranges.ts';
import { formatSize } from '../base/units.ts';
import type { BarRequest, PciFunction } from './function.ts';

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

/**
 * Places all BARs, largest first, naturally aligned. Prefetchable 64-bit BARs go to the prefetchable window, all other
 * memory BARs below 4 GiB, where a 64-bit one that does not fit falls back to the 64-bit window.
 * @throws CausewayError BAR_NO_SPACE
 */
export function placeBars(functions: readonly PciFunction[], windows: BarWindows): Placement[] {
  const next = new Map<Range, number>([windows.mmio32, windows.mmio64, windows.ports].map((w) => [w, w.start]));
  const wanted = functions.flatMap((f) => f.bars.map((bar) => ({ function: f, bar })));
  wanted.sort((a, b) => b.bar.sizeBytes - a.bar.sizeBytes);
  return wanted.map((want) => {
    for (const window of windowsFor(want.bar, windows)) {
      const address = alignUp(next.get(window)!, want.bar.sizeBytes);
      if (address + want.bar.sizeBytes > endOf(window)) continue;
      next.set(window, address + want.bar.sizeBytes);
      return { ...want, address };
    }
    throw new CausewayError(
      'BAR_NO_SPACE',
      `${want.function.label}: BAR ${want.bar.index} of ${formatSize(want.bar.sizeBytes)} does not fit into the guest's windows`,
      { hint: 'assign fewer devices to this VM, or use a host CPU with wider physical addresses' },
    );
  });
}

function windowsFor(bar: BarRequest, windows: BarWindows): Range[] {
  if (bar.kind === 'port') return [windows.ports];
  if (bar.is64) return bar.prefetchable ? [windows.mmio64, windows.mmio32] : [windows.mmio32, windows.mmio64];
  return [windows.mmio32];
}
