/**
 * Guest RAM: windows of memory mapped into this process. Knows nothing of KVM or VFIO; both are given its ranges.
 * It is anonymous memory, because only that gets transparent huge pages with a stock kernel (shmem, and so memfd, has
 * them off by default): pinning it for DMA and the guest's own page walks are cheaper by far. Nobody else maps it.
 */
import type { FileDescriptors, Gpa, Hva, Memory } from '../../native/types.ts';
import { GIB, MIB } from '../base/bits.ts';
import { CausewayError } from '../base/errors.ts';
import { endOf, type Range } from '../base/ranges.ts';
import { formatSize, hex } from '../base/units.ts';

/** A piece of guest RAM, contiguous in guest-physical and in host-virtual memory. */
export interface RamWindow {
  readonly gpa: Gpa;
  readonly hva: Hva;
  readonly sizeBytes: number;
}

interface MappedWindow extends RamWindow {
  readonly bytes: Uint8Array;
}

/** Node 20 has no ArrayBuffer beyond 4 GiB; a window a little below keeps every Node version alike. */
const MAX_WINDOW_BYTES: number = 2 * GIB;

export interface GuestMemoryOptions {
  /** 0, 2 MiB or 1 GiB. */
  readonly hugePageBytes?: 0 | typeof HUGE_2M | typeof HUGE_1G;
}
export const HUGE_2M: number = 2 * MIB;
export const HUGE_1G: number = GIB;

/**
 * RAM of a guest: zeroed, and excluded from fork.
 * While a device has it mapped for DMA it must not be unmapped: close devices first.
 */
export class GuestMemory {
  readonly #native: Memory & FileDescriptors;
  readonly #windows: readonly MappedWindow[];
  #open = true;

  /** @throws CausewayError MEMORY_UNAVAILABLE */
  constructor(native: Memory & FileDescriptors, ranges: readonly Range[], options: GuestMemoryOptions = {}) {
    this.#native = native;
    const windows: MappedWindow[] = [];
    try {
      for (const range of ranges) {
        for (let at = range.start; at < endOf(range); at += MAX_WINDOW_BYTES) {
          windows.push(mapWindow(native, at as Gpa, Math.min(MAX_WINDOW_BYTES, endOf(range) - at), options));
        }
      }
    } catch (error) {
      for (const window of windows) native.unmap(window.hva);
      const wanted = ranges.reduce((sum, range) => sum + range.size, 0);
      throw new CausewayError('MEMORY_UNAVAILABLE', `the host cannot give ${formatSize(wanted)} of guest memory`, {
        cause: error,
        hint: options.hugePageBytes
          ? 'reserve huge pages first: sysctl vm.nr_hugepages=N'
          : 'lower the memory size, or free memory on the host',
      });
    }
    this.#windows = windows;
  }

  get windows(): readonly RamWindow[] {
    return this.#windows;
  }

  get sizeBytes(): number {
    return this.#windows.reduce((sum, window) => sum + window.sizeBytes, 0);
  }

  /**
   * A view of guest memory, valid until {@link close}. The guest may change it at any time.
   * @throws RangeError when the bytes are not all in one window of RAM
   */
  bytes(gpa: number, length: number): Uint8Array {
    const window = this.#windows.find((w) => gpa >= w.gpa && gpa + length <= w.gpa + w.sizeBytes);
    if (!window || length < 0) throw new RangeError(`no guest RAM for ${length} bytes at ${hex(gpa)}`);
    return window.bytes.subarray(gpa - window.gpa, gpa - window.gpa + length);
  }

  /** Copies into guest memory, across windows where they adjoin. @throws RangeError outside RAM */
  write(gpa: number, data: Uint8Array): void {
    let done = 0;
    while (done < data.length) {
      const at = gpa + done;
      const window = this.#windows.find((w) => at >= w.gpa && at < w.gpa + w.sizeBytes);
      if (!window) throw new RangeError(`no guest RAM at ${hex(at)}`);
      const length = Math.min(data.length - done, window.gpa + window.sizeBytes - at);
      window.bytes.set(data.subarray(done, done + length), at - window.gpa);
      done += length;
    }
  }

  /** Unmaps everything; views become empty. A second call is ignored. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    for (const window of this.#windows) this.#native.unmap(window.hva);
  }
}

function mapWindow(
  native: Memory & FileDescriptors,
  gpa: Gpa,
  sizeBytes: number,
  { hugePageBytes = 0 }: GuestMemoryOptions,
): MappedWindow {
  // Congruent with the GPA, so that KVM can use huge pages on both levels.
  const align = Math.max(hugePageBytes, HUGE_2M);
  const alignment = { align, phase: gpa % align };
  const hva = hugePageBytes === 0 ? native.mapAnonymous(sizeBytes, alignment) : mapReserved();
  return { gpa, hva, sizeBytes, bytes: new Uint8Array(native.view(hva, sizeBytes)) };

  /** From the host's reserve of huge pages. */
  function mapReserved(): Hva {
    const memfd = native.memfd('causeway-ram', sizeBytes, hugePageBytes);
    try {
      return native.map(memfd, 0, sizeBytes, alignment);
    } finally {
      native.close(memfd);
    }
  }
}
