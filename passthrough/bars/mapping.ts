/**
 * Keeps a guest's address space equal to the desired pieces of one function. BARs are mapped into this process once, at
 * open; memory slots and traps come and go with decode, power states, resets and moves. Removals come first.
 */
import type { Gpa, Hva, Native } from '../../native/types.ts';
import { GIB, MIB } from '../../vmm/base/bits.ts';
import { contains, type Range } from '../../vmm/base/ranges.ts';
import { hex } from '../../vmm/base/units.ts';
import type { AccessCount, Trap } from '../../vmm/bus/trap.ts';
import type { BarRequest, PciServices, TrappedPage } from '../../vmm/pci/function.ts';
import type { HostResource } from '../host/sysfs.ts';
import type { VfioDevice } from '../vfio/device.ts';
import { type Piece, pieceKey } from './desired-mapping.ts';
import type { PageCounts } from './page-counts.ts';
import type { PeerMap } from './peer-map.ts';

/** One mmap of a part of a BAR. */
interface BarMap {
  readonly bar: number;
  readonly range: Range;
  readonly hva: Hva;
}

const HUGE_2M: number = 2 * MIB;

/** The BARs of one device in this process's memory. */
export class BarMaps {
  readonly #native: Native;
  readonly #maps: BarMap[] = [];

  /** Maps every area that the kernel offers; what it then refuses is warned about and will be trapped. */
  constructor(
    native: Native,
    device: VfioDevice,
    requests: readonly BarRequest[],
    resources: readonly HostResource[],
    warn: (message: string) => void,
  ) {
    this.#native = native;
    for (const { index, kind } of requests) {
      const region = device.regions[index]!;
      if (kind !== 'memory') continue;
      for (const area of region.mmapAreas) {
        // A BAR smaller than a page is mapped as the page that the kernel reserved for it.
        const range = { start: area.start, size: Math.max(area.size, native.pageSizeBytes) };
        try {
          const alignment = alignmentOf(range, resources[index]?.start ?? 0);
          const hva = native.map(device.fd, region.fdOffset + range.start, range.size, alignment);
          this.#maps.push({ bar: index, range, hva });
        } catch (error) {
          warn(`${device.bdf}: BAR${index} cannot be mapped and is trapped: ${String(error)}`);
        }
      }
    }
  }

  /** What is mapped of a BAR. */
  areasOf(bar: number): Range[] {
    return this.#maps.filter((map) => map.bar === bar).map((map) => map.range);
  }

  /** Where an area of a BAR lies. @throws RangeError when it is not mapped as a whole */
  hva(bar: number, area: Range): Hva {
    const map = this.#maps.find((candidate) => candidate.bar === bar && contains(candidate.range, area));
    if (!map) throw new RangeError(`${area.size} bytes at ${hex(area.start)} of BAR${bar} are not mapped`);
    return (map.hva + (area.start - map.range.start)) as Hva;
  }

  /** Memory of this process that stands behind a BAR; unmapped with the rest. */
  add(bar: number, hva: Hva, sizeBytes: number): void {
    this.#maps.push({ bar, range: { start: 0, size: sizeBytes }, hva });
  }

  close(): void {
    for (const { hva } of this.#maps.splice(0)) this.#native.unmap(hva);
  }
}

/** KVM uses huge pages only where HVA and host-physical address agree modulo their size. */
function alignmentOf(range: Range, hostPhysical: number): { align: number; phase: number } | undefined {
  if (range.size < HUGE_2M) return undefined;
  const align = range.size >= GIB ? GIB : HUGE_2M;
  return { align, phase: (hostPhysical + range.start) % align };
}

/** What a trapped area does. */
export type TrapOf = (piece: Piece) => Trap;

/** The pieces of one function that are in a guest's address space. For one power cycle. */
export class Mapping {
  readonly #maps: BarMaps;
  readonly #services: PciServices;
  readonly #trapOf: TrapOf;
  readonly #counts: PageCounts;
  readonly #peers: PeerMap | undefined;
  readonly #present = new Map<string, Piece>();
  /** BARs that stayed out because something else is there. */
  readonly #blocked = new Set<number>();
  readonly #warned = new Set<string>();

  constructor(maps: BarMaps, services: PciServices, trapOf: TrapOf, counts: PageCounts, peers?: PeerMap) {
    this.#maps = maps;
    this.#counts = counts;
    this.#peers = peers;
    this.#services = services;
    this.#trapOf = trapOf;
  }

  /**
   * Makes the guest's address space hold exactly `wanted`. A BAR that is in the way of something else stays out as a
   * whole and is tried again at the next change. Never throws for where a guest puts its BARs.
   * @returns whether addresses became free, in which another function's BAR may have been waiting
   */
  apply(wanted: readonly Piece[]): boolean {
    const keys = new Set(wanted.map(pieceKey));
    let freed = false;
    for (const [key, piece] of this.#present) {
      if (keys.has(key)) continue;
      this.#remove(key, piece);
      freed = true;
    }
    this.#blocked.clear();
    const bars = new Set(wanted.map((piece) => piece.bar));
    for (const bar of bars) {
      const missing = wanted.filter((piece) => piece.bar === bar && !this.#present.has(pieceKey(piece)));
      this.#addBar(bar, missing);
    }
    return freed;
  }

  /** Whether a BAR that the guest decodes stayed out. */
  get isBlocked(): boolean {
    return this.#blocked.size > 0;
  }

  /**
   * Replaces every memory slot by traps on the device's fd, until the next {@link apply} maps again. For a revocation
   * that nobody announced: KVM then tells neither address nor slot. Returns how many slots there were.
   */
  trapDirect(): number {
    // What is no memory of the device cannot have been revoked.
    const direct = this.pieces.filter(({ area }) => area.mode === 'direct' && area.backing === 'device');
    for (const piece of direct) this.#remove(pieceKey(piece), piece);
    for (const { area, ...rest } of direct) {
      this.#addBar(rest.bar, [{ ...rest, area: { ...area, mode: 'trap', why: 'revoked' } }]);
    }
    return direct.length;
  }

  /** The trapped pages that the guest touched most. */
  trappedPages(): TrappedPage[] {
    const trapped = this.pieces.filter(({ area }) => area.mode === 'trap');
    return this.#counts.report(trapped.map((piece) => ({ piece, counts: this.#countsOf(piece) })));
  }

  /** The pieces that are there now. */
  get pieces(): readonly Piece[] {
    return [...this.#present.values()];
  }

  #addBar(bar: number, pieces: readonly Piece[]): void {
    const added: Piece[] = [];
    try {
      for (const piece of pieces) {
        this.#add(piece);
        this.#present.set(pieceKey(piece), piece);
        added.push(piece);
      }
    } catch (error) {
      for (const piece of added) this.#remove(pieceKey(piece), piece);
      this.#blocked.add(bar);
      const at = pieces[0]!.gpa - pieces[0]!.area.offset;
      const message = `BAR${bar} at ${hex(at)} is not mapped: ${error instanceof Error ? error.message : String(error)}`;
      if (!this.#warned.has(message)) this.#services.warn(message);
      this.#warned.add(message);
    }
  }

  #add(piece: Piece): void {
    const { gpa, area, bar, space } = piece;
    // Slots and traps are two tables, and a slot would win over a trap: whoever came first keeps the addresses.
    const others = area.mode === 'trap' ? this.#services.slots : this.#services.memoryTraps;
    if (space === 'memory' && !others.isFree(gpa, area.sizeBytes)) {
      throw new RangeError(`range at ${hex(gpa)} overlaps another function's`);
    }
    if (area.mode === 'trap') {
      const onBurst = (offset: number): void => this.#counts.burst(piece, offset);
      this.#traps(space).add(gpa, area.sizeBytes, { ...this.#trapOf(piece), onBurst });
      return;
    }
    const hva = this.#maps.hva(bar, { start: area.offset, size: area.sizeBytes });
    // A guest's writes to a read-only slot are exits that find no trap: dropped.
    this.#services.slots.add(gpa as Gpa, area.sizeBytes, hva, { readonly: area.backing === 'rom' });
    if (area.backing === 'device') this.#peers?.add(bar, gpa, area.sizeBytes, hva);
  }

  #remove(key: string, piece: Piece): void {
    const { gpa, area, space } = piece;
    this.#present.delete(key);
    if (area.mode === 'trap') {
      this.#counts.absorb(piece, this.#countsOf(piece));
      this.#traps(space).remove(gpa);
    } else {
      this.#peers?.remove(gpa);
      this.#services.slots.remove(gpa as Gpa);
    }
  }

  #countsOf({ space, gpa }: Piece): readonly AccessCount[] {
    return this.#traps(space).accessCounts(gpa);
  }

  #traps(space: Piece['space']): PciServices['memoryTraps'] {
    return space === 'memory' ? this.#services.memoryTraps : this.#services.portTraps;
  }
}
