/**
 * From what a function decodes to what the guest's address space shall hold. Pure: the same registers always give the
 * same slots and traps, and {@link Mapping} applies the difference.
 */
import { alignDown, alignUp } from '../../vmm/base/bits.ts';
import { contains, endOf, overlaps, type Range, subtract } from '../../vmm/base/ranges.ts';
import type { DecodedBar } from '../../vmm/pci/bar-registers.ts';
import type { BarArea, BarRequest } from '../../vmm/pci/function.ts';
import type { BarLocation } from '../../vmm/pci/msix.ts';
import type { Region } from '../vfio/regions.ts';
import { type MsixPlacement, tableOnlyPages } from './msix-relocation.ts';

/** What stands behind a part of a BAR. */
export type Backing = 'device' | 'msix-table' | 'msix-pba' | 'rom';

/** A part of a BAR; `offset` is relative to it. */
export interface BackedArea extends BarArea {
  readonly backing: Backing;
}

/** One piece of a function in the guest's address space. */
export interface Piece {
  readonly bar: number;
  readonly space: 'memory' | 'port';
  readonly gpa: number;
  readonly area: BackedArea;
}

/**
 * How a BAR is split up, wherever it lies. The pages of the MSI-X table and of the pending bits are never direct, even
 * where the kernel lets them be mapped; other registers in those pages are reached through the device's fd.
 * Bytes of the guest's BAR beyond the region belong to nobody.
 */
export function splitBar(
  request: BarRequest,
  region: Region,
  msix: Pick<MsixPlacement, 'guest' | 'hardware' | 'isRelocated'> | undefined,
  pageBytes: number,
): BackedArea[] {
  const whole: Range = { start: 0, size: Math.min(region.sizeBytes, request.sizeBytes) };
  if (request.kind === 'port') return [trapped(whole, 'device', 'io-bar')];

  // Moved, they may lie behind the end of the device's own region.
  const room = { start: 0, size: msix?.isRelocated ? request.sizeBytes : whole.size };
  const table = located(msix?.guest.table, request.index, room);
  const pending = located(msix?.guest.pending, request.index, room);
  const emulated = [table, pending].filter((range) => range !== undefined);
  const closedPages = emulated.map((range) => outward(range, pageBytes));
  const hidden = msix?.isRelocated ? tableOnlyPages(msix.hardware, request.index, pageBytes) : [];
  const direct = directRanges(request, region, pageBytes).flatMap((range) =>
    subtract(range, [...closedPages, ...hidden]),
  );
  const areas: BackedArea[] = direct.map((range) => ({
    offset: range.start,
    sizeBytes: range.size,
    mode: 'direct',
    backing: 'device',
  }));
  if (table) areas.push(trapped(table, 'msix-table', 'msix-table'));
  // A pending array laid over the table is a broken device; the table wins.
  for (const part of pending ? subtract(pending, table ? [table] : []) : []) {
    areas.push(trapped(part, 'msix-pba', 'msix-pba'));
  }
  for (const part of subtract(whole, [...direct, ...emulated])) {
    const beside = closedPages.some((page) => overlaps(page, part));
    // Cut at the edge of the emulated pages, so that the report tells which bytes trap for which reason.
    for (const piece of beside ? cut(part, closedPages) : [part]) {
      const inside = (pages: readonly Range[]): boolean => pages.some((page) => contains(page, piece));
      const why = inside(closedPages) ? 'beside msix' : inside(hidden) ? "the device's table" : trapReason(region);
      areas.push(trapped(piece, 'device', why));
    }
  }
  return areas.sort((a, b) => a.offset - b.offset);
}

/** Every piece that shall be in the guest's address space, BARs in the order of decoding. */
export function desiredMapping(
  decoded: readonly DecodedBar[],
  areasOf: (bar: number) => readonly BackedArea[],
): Piece[] {
  return decoded.flatMap(({ index, kind, gpa }) =>
    areasOf(index).map((area): Piece => ({ bar: index, space: kind, gpa: gpa + area.offset, area })),
  );
}

/** Identity of a piece: two pieces with one key are the same mapping. */
export function pieceKey({ bar, space, gpa, area }: Piece): string {
  return `${space} ${gpa} ${area.sizeBytes} ${area.mode} ${area.backing} ${bar}+${area.offset}`;
}

function directRanges(request: BarRequest, region: Region, pageBytes: number): Range[] {
  // The kernel reserved the rest of the page before it offered to map a BAR smaller than one.
  const subPage = region.sizeBytes < pageBytes && region.mmapAreas.length > 0;
  if (subPage) return request.sizeBytes >= pageBytes ? [{ start: 0, size: pageBytes }] : [];
  return region.mmapAreas.map((area) => inward(area, pageBytes)).filter((area) => area.size > 0);
}

function trapReason(region: Region): string {
  return region.mmapAreas.length === 0 ? 'no-mmap' : 'not mappable';
}

function trapped(range: Range, backing: Backing, why: string): BackedArea {
  return { offset: range.start, sizeBytes: range.size, mode: 'trap', why, backing };
}

/** An MSI-X structure of this BAR, as far as it lies inside. */
function located(location: BarLocation | undefined, bar: number, whole: Range): Range | undefined {
  if (location?.bar !== bar || location.offset >= endOf(whole)) return undefined;
  return { start: location.offset, size: Math.min(location.sizeBytes, endOf(whole) - location.offset) };
}

function outward(range: Range, pageBytes: number): Range {
  const start = alignDown(range.start, pageBytes);
  return { start, size: alignUp(endOf(range), pageBytes) - start };
}

function inward(range: Range, pageBytes: number): Range {
  const start = alignUp(range.start, pageBytes);
  return { start, size: Math.max(0, alignDown(endOf(range), pageBytes) - start) };
}

/** `range` cut at every edge of `pages` that lies inside it. */
function cut(range: Range, pages: readonly Range[]): Range[] {
  const edges = [...new Set(pages.flatMap((page) => [page.start, endOf(page)]))]
    .filter((edge) => edge > range.start && edge < endOf(range))
    .sort((a, b) => a - b);
  const starts = [range.start, ...edges];
  return starts.map((start, i) => ({ start, size: (starts[i + 1] ?? endOf(range)) - start }));
}
