/** What the guest is told about its memory (e820), and where the loader's own data lies in it. Pure. */
import { alignDown, alignUp, KIB, MIB, PAGE_SIZE } from '../base/bits.ts';
import { endOf, overlaps, type Range, subtract } from '../base/ranges.ts';

/**
 * What the loader leaves below 1 MiB for the kernel's first instructions; the kernel takes what it needs of it and
 * then uses the memory. Addresses are guest-physical.
 */
export const BOOT_AREA = {
  gdt: 0x1000,
  startInfo: 0x6000,
  zeroPage: 0x7000,
  /** Grows down from here, one page. Linux sets up its own; small payloads may use it. */
  stackTop: 0x9000,
  /** PML4, one table of pointers, and four page directories that map the first 4 GiB. */
  pageTables: 0x9000,
  cmdline: 0x2_0000,
} as const;
const CMDLINE_ROOM: number = 64 * KIB;
/** No kernel may be loaded into it. */
export const BOOT_RANGE: Range = { start: 0, size: BOOT_AREA.cmdline + CMDLINE_ROOM };

/** Type numbers of an e820 entry (ACPI 6.5 §15, table 15.4). */
export const E820_RAM = 1;
export const E820_RESERVED = 2;

export interface E820Entry extends Range {
  readonly type: typeof E820_RAM | typeof E820_RESERVED;
}

/** From the end of conventional memory to 1 MiB: where PCs have EBDA, video memory, option ROMs and firmware. */
const LEGACY_HOLE: Range = { start: 0x9_fc00, size: MIB - 0x9_fc00 };

/** The memory map in ascending order, without overlap: RAM, and what is reserved within it or beside it. */
export function e820(ram: readonly Range[], reserved: readonly Range[]): E820Entry[] {
  const holes: Range[] = [LEGACY_HOLE];
  // A range within the hole or within another one is not reserved twice.
  for (const range of reserved) holes.push(...subtract(range, holes));
  const entries: E820Entry[] = [
    ...holes.map((range) => ({ ...range, type: E820_RESERVED }) as const),
    ...ram.flatMap((range) => subtract(range, holes)).map((range) => ({ ...range, type: E820_RAM }) as const),
  ];
  return entries.filter((entry) => entry.size > 0).sort((a, b) => a.start - b.start);
}

export function usableRam(map: readonly E820Entry[]): Range[] {
  return map.filter((entry) => entry.type === E820_RAM);
}

/** True when one piece of usable RAM holds all of `range`, clear of the loader's own data. */
export function fits(range: Range, usable: readonly Range[]): boolean {
  if (overlaps(range, BOOT_RANGE)) return false;
  return usable.some((ram) => range.start >= ram.start && endOf(range) <= endOf(ram));
}

/**
 * The highest page-aligned place for `size` bytes below `limit` (else, if `above4g`, anywhere above 4 GiB), in whole
 * pages so that the kernel can free them. High, because kernels unpack themselves and allocate from the bottom.
 */
export function placeInitrd(
  usable: readonly Range[],
  size: number,
  avoid: Range,
  limit: number,
  above4g: boolean,
): number | undefined {
  const free = usable.flatMap((ram) => subtract(ram, [avoid])).filter((range) => endOf(range) > MIB);
  const highest = (from: number, to: number) => {
    const starts = free.flatMap((range) => {
      const start = alignDown(Math.min(endOf(range), to) - alignUp(size, PAGE_SIZE), PAGE_SIZE);
      return start >= Math.max(range.start, from) ? [start] : [];
    });
    return starts.length > 0 ? Math.max(...starts) : undefined;
  };
  return highest(MIB, limit) ?? (above4g ? highest(2 ** 32, Number.MAX_SAFE_INTEGER) : undefined);
}
