/** What a guest finds where a function has its MSI-X table and pending bits: never the hardware's own. */
import type { Trap, TrapHandler, TrapMap } from '../../vmm/bus/trap.ts';
import type { Msix } from '../../vmm/pci/msix.ts';
import type { BackedArea } from './desired-mapping.ts';
import type { MsixPlacement } from './msix-relocation.ts';

export class MsixTraps {
  readonly #msix: Msix;
  readonly #placement: MsixPlacement;
  readonly #changed: () => void;
  /** The table, in memory of the bus. */
  #shared: Uint8Array | undefined;
  #sharedBy: TrapMap | undefined;

  /** @param changed called after a write that changes which vectors may come, or as what */
  constructor(msix: Msix, placement: MsixPlacement, changed: () => void) {
    this.#msix = msix;
    this.#placement = placement;
    this.#changed = changed;
  }

  /**
   * Lets vCPU threads read the table by themselves, and write what is masked, in the bus's memory. When that has no room, all
   * of it are calls. Once a power cycle; further calls change nothing.
   */
  share(traps: TrapMap): void {
    if (this.#sharedBy === traps) return;
    // As long as the hardware's table, which is what is trapped, even where VFIO has fewer vectors.
    const { sizeBytes } = this.#placement.guest.table;
    this.#sharedBy = traps;
    this.#shared = undefined;
    try {
      this.#shared = traps.allocateShared(sizeBytes);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
    this.#msix.useTable(this.#shared ?? new Uint8Array(sizeBytes));
  }

  /**
   * Gives that memory back. Not with the end of a power cycle: a vCPU thread that found the trap before it went may be on its
   * way to store something.
   */
  unshare(): void {
    const shared = this.#shared;
    if (!shared) return;
    this.#shared = undefined;
    this.#msix.useTable(new Uint8Array(shared.length));
    this.#sharedBy?.releaseShared(shared);
  }

  /** Undefined for an area that is neither table nor pending bits. */
  trapOf(area: BackedArea, barName: string): Trap | undefined {
    const msix = this.#msix;
    if (area.backing === 'msix-table') {
      const handler: TrapHandler = {
        read: (offset, width) => msix.readTable(offset, width),
        write: (offset, width, value) => {
          if (msix.writeTable(offset, width, value)) this.#changed();
        },
      };
      const trap = { name: `${barName} MSI-X table`, handler };
      return this.#shared ? { kind: 'msix-table', bytes: msix.tableMemory, ...trap } : { kind: 'call', ...trap };
    }
    if (area.backing === 'msix-pba') {
      const pbaOffset = area.offset - this.#placement.guest.pending.offset;
      return {
        kind: 'call',
        name: `${barName} MSI-X pending bits`,
        handler: { read: (offset, width) => msix.readPending(pbaOffset + offset, width), write: () => {} },
      };
    }
    return undefined;
  }
}
