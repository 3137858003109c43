/** How often a guest touched the trapped pages of one function, over all mappings and power cycles. */
import { alignDown, PAGE_SIZE } from '../../vmm/base/bits.ts';
import { hex } from '../../vmm/base/units.ts';
import { type AccessCount, BURST_ACCESSES } from '../../vmm/bus/trap.ts';
import { ROM_BAR, type TrappedPage } from '../../vmm/pci/function.ts';
import type { Piece } from './desired-mapping.ts';

/** A page is hot when a burst of accesses comes within this time: about a thousand a second. */
const HOT_BURST_MS = 16_000;
/** Pages in a report. */
const REPORTED = 8;

/** What would make a page of this kind cheaper. */
const REMEDY: Readonly<Record<string, string>> = {
  'beside msix': 'registers lie beside the MSI-X table: msixRelocation "auto" moves the table away',
  'msix-table': "the guest's driver masks and unmasks its vectors again and again",
  'msix-pba': "the guest's driver polls the pending bits",
  'io-bar': 'ports are always trapped: a driver that uses a memory BAR has none of it',
  policy: 'wc "deny" traps the BAR',
  'no-mmap': 'the kernel does not offer to map the BAR',
  'not mappable': 'the kernel does not offer to map this part of the BAR',
  revoked: "the kernel took the mapping away; the guest's next change of decode brings it back",
};

interface Page {
  readonly bar: number;
  readonly offset: number;
  readonly why: string;
  accesses: number;
}

export class PageCounts {
  readonly #pages = new Map<string, Page>();
  readonly #hot = new Set<string>();
  /** When each page last completed a burst. */
  readonly #lastBurst = new Map<string, number>();
  readonly #nowMs: () => number;
  readonly #warn: (message: string) => void;
  #startMs: number;

  /** @param warn told once of each hot page */
  constructor(nowMs: () => number, warn: (message: string) => void) {
    this.#nowMs = nowMs;
    this.#warn = warn;
    this.#startMs = nowMs();
  }

  /** A power cycle begins. */
  start(): void {
    this.#startMs = this.#nowMs();
    this.#lastBurst.clear();
  }

  /** Takes over the counts of a trap that is about to go. */
  absorb(piece: Piece, counts: readonly AccessCount[]): void {
    for (const { offset, accesses } of counts) {
      const page = pageOf(piece, offset);
      const known = this.#pages.get(keyOf(page));
      if (known) known.accesses += accesses;
      else this.#pages.set(keyOf(page), { ...page, accesses });
    }
  }

  /** One page has seen another {@link BURST_ACCESSES}. */
  burst(piece: Piece, offset: number): void {
    const page = pageOf(piece, offset);
    const key = keyOf(page);
    const nowMs = this.#nowMs();
    const lastMs = this.#lastBurst.get(key) ?? this.#startMs;
    this.#lastBurst.set(key, nowMs);
    if (nowMs - lastMs > HOT_BURST_MS || this.#hot.has(key)) return;
    this.#hot.add(key);
    const remedy = REMEDY[page.why];
    const seconds = Math.max(1, Math.ceil((nowMs - lastMs) / 1000));
    this.#warn(
      `${nameOf(page)} is trapped and hot: ${BURST_ACCESSES} accesses within ${seconds} s, each an exit to user space` +
        (remedy === undefined ? '' : `. ${remedy[0]!.toUpperCase()}${remedy.slice(1)}`),
    );
  }

  /** The pages that were touched most, most first. @param live the traps that are there, with their counts */
  report(live: readonly { readonly piece: Piece; readonly counts: readonly AccessCount[] }[]): TrappedPage[] {
    const pages = new Map([...this.#pages].map(([key, page]) => [key, { ...page }]));
    for (const { piece, counts } of live) {
      for (const { offset, accesses } of counts) {
        const page = pageOf(piece, offset);
        const known = pages.get(keyOf(page));
        if (known) known.accesses += accesses;
        else pages.set(keyOf(page), { ...page, accesses });
      }
    }
    return [...pages]
      .sort(([, a], [, b]) => b.accesses - a.accesses)
      .slice(0, REPORTED)
      .map(([key, page]) => ({ ...page, isHot: this.#hot.has(key) }));
  }
}

/** `BAR0+0x3000 (beside msix)` */
export function nameOf({
  bar,
  offset,
  why,
}: {
  readonly bar: number;
  readonly offset: number;
  readonly why: string;
}): string {
  return `${bar === ROM_BAR ? 'ROM' : `BAR${bar}`}+${hex(offset)} (${why})`;
}

function pageOf({ bar, area }: Piece, offset: number): Omit<Page, 'accesses'> {
  return { bar, offset: alignDown(area.offset + offset, PAGE_SIZE), why: area.why ?? 'trapped' };
}

function keyOf({ bar, offset, why }: Omit<Page, 'accesses'>): string {
  return `${bar} ${offset} ${why}`;
}
