/** Mappings of the fake kernel: guest RAM as ArrayBuffers, device BARs as accesses that the device sees. */

import { kernelError } from '../kernel-error.ts';
import type { Fd, Hva, MapAlignment, Memory, Width } from '../types.ts';
import type { FakeFds } from './fake-fds.ts';
import { OpenFile } from './open-file.ts';

const PAGE = 4096;
const MAX_VIEW = 2 ** 32;

/** A file whose mapping is device memory. */
export abstract class MmioFile extends OpenFile {
  /** Says whether [offset, offset + size) may be mapped; throws a KernelError if not. Returns the size of the region. */
  abstract checkMap(offset: number, sizeBytes: number): void;
  /** One bus access through a mapping; undefined when the mapping is revoked. */
  abstract mmioRead(offset: number, width: Width): bigint | undefined;
  /** False when the mapping is revoked. */
  abstract mmioWrite(offset: number, width: Width, value: bigint): boolean;
}

class FakeMemfd extends OpenFile {
  readonly label: string;
  readonly sizeBytes: number;
  readonly hugePageBytes: number;
  /** Views of the same part are the same memory. */
  readonly buffers = new Map<string, ArrayBuffer>();

  constructor(name: string, sizeBytes: number, hugePageBytes: number) {
    super();
    this.label = `memfd ${name}`;
    this.sizeBytes = sizeBytes;
    this.hugePageBytes = hugePageBytes;
  }
}

interface Mapping {
  readonly hva: number;
  readonly sizeBytes: number;
  readonly label: string;
  readonly offset: number;
  readonly file: OpenFile | undefined;
  readonly buffers: Map<string, ArrayBuffer>;
}

export class FakeMemory implements Memory {
  private readonly mappings = new Map<number, Mapping>();
  private readonly fds: FakeFds;
  private next = 0x7f00_0000_0000;

  constructor(fds: FakeFds) {
    this.fds = fds;
  }

  memfd(name: string, sizeBytes: number, hugePageBytes: number): Fd {
    if (hugePageBytes !== 0 && sizeBytes % hugePageBytes !== 0) throw kernelError('ftruncate', 'EINVAL');
    return this.fds.install(new FakeMemfd(name, sizeBytes, hugePageBytes));
  }

  map(fd: Fd, offset: number, sizeBytes: number, alignment?: MapAlignment): Hva {
    const file = this.fds.find(fd);
    if (file === undefined) throw kernelError('mmap', 'EBADF');
    if (sizeBytes <= 0 || offset % PAGE !== 0) throw kernelError('mmap', 'EINVAL');
    if (file instanceof MmioFile) file.checkMap(offset, sizeBytes);
    else if (!(file instanceof FakeMemfd)) throw kernelError('mmap', 'ENODEV');
    file.hold();
    return this.place(sizeBytes, file.label, offset, file, alignment);
  }

  mapAnonymous(sizeBytes: number, alignment?: MapAlignment): Hva {
    if (sizeBytes <= 0) throw kernelError('mmap', 'EINVAL');
    return this.place(sizeBytes, 'anonymous', 0, undefined, alignment);
  }

  private place(
    sizeBytes: number,
    label: string,
    offset: number,
    file: OpenFile | undefined,
    alignment: MapAlignment = { align: PAGE, phase: 0 },
  ): Hva {
    const { align, phase } = alignment;
    if (align < PAGE || !Number.isInteger(Math.log2(align)) || phase >= align || phase % PAGE !== 0) {
      throw kernelError('mmap', 'EINVAL');
    }
    const hva = Math.ceil((this.next - phase) / align) * align + phase;
    const size = Math.ceil(sizeBytes / PAGE) * PAGE;
    this.next = hva + size + PAGE; // a hole, so that an overrun is a fault
    const buffers = file instanceof FakeMemfd ? file.buffers : new Map<string, ArrayBuffer>();
    this.mappings.set(hva, { hva, sizeBytes: size, label, offset, file, buffers });
    return hva as Hva;
  }

  /** Whether [hva, hva + sizeBytes) is mapped as a whole. */
  isMapped(hva: number, sizeBytes: number): boolean {
    return this.findMapping(hva, sizeBytes) !== undefined;
  }

  private findMapping(hva: number, sizeBytes: number): Mapping | undefined {
    for (const mapping of this.mappings.values()) {
      if (hva >= mapping.hva && hva + sizeBytes <= mapping.hva + mapping.sizeBytes) return mapping;
    }
    return undefined;
  }

  /**
   * Two views of one part of a mapping (or of two mappings of the same part of a memfd) are one ArrayBuffer. Views that
   * overlap otherwise do not share their bytes: JavaScript cannot do that.
   */
  view(hva: Hva, sizeBytes: number): ArrayBuffer {
    if (sizeBytes > MAX_VIEW) throw new RangeError(`view: ${sizeBytes} bytes; an ArrayBuffer holds at most 4 GiB`);
    const mapping = this.findMapping(hva, sizeBytes);
    if (mapping === undefined) throw kernelError('view', 'EFAULT');
    if (mapping.file instanceof MmioFile) throw new Error(`fake kernel: a view of device memory (${mapping.label})`);
    const key = `${mapping.offset + hva - mapping.hva}+${sizeBytes}`;
    let buffer = mapping.buffers.get(key);
    if (buffer === undefined || buffer.byteLength !== sizeBytes) {
      buffer = new ArrayBuffer(sizeBytes);
      mapping.buffers.set(key, buffer);
    }
    return buffer;
  }

  unmap(hva: Hva): void {
    const mapping = this.mappings.get(hva);
    if (mapping === undefined) return;
    this.mappings.delete(hva);
    mapping.file?.drop();
    const shared = [...this.mappings.values()].some((other) => other.buffers === mapping.buffers);
    for (const [key, buffer] of mapping.buffers) {
      // A memfd keeps its bytes when nobody maps it: they move into a fresh buffer.
      if (shared) continue;
      const kept = structuredClone(buffer, { transfer: [buffer] });
      if (mapping.file instanceof FakeMemfd) mapping.buffers.set(key, kept);
    }
  }

  dropPages(): void {}

  mmioRead(hva: Hva, offset: number, width: Width): bigint {
    const { file, at } = this.device(hva, offset, width, 'mmioRead');
    const value = file.mmioRead(at, width);
    if (value === undefined) throw kernelError('mmioRead', 'EIO');
    return value;
  }

  mmioWrite(hva: Hva, offset: number, width: Width, value: bigint): void {
    const { file, at } = this.device(hva, offset, width, 'mmioWrite');
    if (!file.mmioWrite(at, width, value)) throw kernelError('mmioWrite', 'EIO');
  }

  private device(hva: Hva, offset: number, width: Width, call: string): { file: MmioFile; at: number } {
    const mapping = this.findMapping(hva + offset, width);
    if (mapping === undefined) throw kernelError(call, 'EFAULT');
    if ((hva + offset) % width !== 0) throw kernelError(call, 'EINVAL');
    if (!(mapping.file instanceof MmioFile)) throw new Error('fake kernel: mmio access to memory that is no BAR');
    return { file: mapping.file, at: mapping.offset + hva + offset - mapping.hva };
  }

  /** Mappings that nobody unmapped. */
  list(): { hva: Hva; sizeBytes: number; label: string; offset: number }[] {
    return [...this.mappings.values()].map(({ hva, sizeBytes, label, offset }) => {
      return { hva: hva as Hva, sizeBytes, label, offset };
    });
  }
}
