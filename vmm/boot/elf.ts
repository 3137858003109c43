/**
 * x86 ELF kernels: their segments, entry, and the note that asks for PVH boot (ELF gABI chapters 4 and 5;
 * Xen docs/misc/pvh.pandoc). The file is not trusted.
 */
import { alignUp, KIB, MIB, readLe } from '../base/bits.ts';
import { CausewayError } from '../base/errors.ts';
import { hex } from '../base/units.ts';

/** A piece of the file and where it goes. What `memorySize` has beyond `fileSize` is zero. */
export interface Segment {
  readonly gpa: number;
  readonly offset: number;
  readonly fileSize: number;
  readonly memorySize: number;
}

export interface ElfKernel {
  readonly bits: 32 | 64;
  /** PT_LOAD segments that are not empty, in ascending order of address, without overlap. */
  readonly segments: readonly Segment[];
  /** Physical address of the ELF entry. */
  readonly entry: number;
  /** Physical address of the 32-bit PVH entry, when the kernel has one. */
  readonly pvhEntry: number | undefined;
}

/** Reads up to `length` bytes at `offset` of the file. */
export type ReadAt = (offset: number, length: number) => Uint8Array;

const MAGIC = 0x464c_457f;
const MACHINE_386 = 3;
const MACHINE_X86_64 = 62;
const TYPE_EXEC = 2;
const TYPE_DYN = 3;
const PT_LOAD = 1;
const PT_NOTE = 4;
const MAX_PROGRAM_HEADERS = 256;
const MAX_NOTE_SIZE: number = 256 * KIB;
const XEN_ELFNOTE_PHYS32_ENTRY = 18;

interface ProgramHeader extends Segment {
  readonly type: number;
  readonly vaddr: bigint;
  readonly align: number;
}

export function isElf(head: Uint8Array): boolean {
  return head.length >= 4 && readLe(head, 0, 4) === MAGIC;
}

/**
 * @param read reads the file
 * @param fileSize its length, bytes
 * @throws CausewayError KERNEL_INVALID
 */
export function parseElf(read: ReadAt, fileSize: number, path: string): ElfKernel {
  const fail = (fault: string, hint = 'give an x86-64 kernel: a bzImage or an ELF vmlinux') =>
    new CausewayError('KERNEL_INVALID', `${path} is not a usable ELF kernel: ${fault}`, { path, hint });
  const head = read(0, 64);
  const bits = head[4] === 2 ? 64 : 32;
  if (head.length < (bits === 64 ? 64 : 52)) throw fail('the file ends within its header');
  const machine = readLe(head, 18, 2);
  if (head[5] !== 1 || (machine !== MACHINE_X86_64 && machine !== MACHINE_386)) {
    throw fail(`it is for another processor (e_machine ${machine})`);
  }
  const type = readLe(head, 16, 2);
  if (type !== TYPE_EXEC && type !== TYPE_DYN) throw fail(`it is not an executable (e_type ${type})`);

  const view = new DataView(head.buffer, head.byteOffset, head.length);
  const [entry, tableOffset] =
    bits === 64
      ? [view.getBigUint64(24, true), Number(view.getBigUint64(32, true))]
      : [BigInt(view.getUint32(24, true)), view.getUint32(28, true)];
  const [entrySize, count] = [readLe(head, bits === 64 ? 54 : 42, 2), readLe(head, bits === 64 ? 56 : 44, 2)];
  if (entrySize !== (bits === 64 ? 56 : 32)) throw fail(`its program headers have ${entrySize} bytes each`);
  if (count === 0 || count > MAX_PROGRAM_HEADERS) throw fail(`it has ${count} program headers`);
  if (!Number.isSafeInteger(tableOffset) || tableOffset + count * entrySize > fileSize) {
    throw fail('the file ends within its program headers');
  }
  const table = read(tableOffset, count * entrySize);
  if (table.length < count * entrySize) throw fail('the file ends within its program headers');
  const headers = Array.from({ length: count }, (_, index) => programHeader(table, index * entrySize, bits));

  const loads = headers.filter((header) => header.type === PT_LOAD && header.memorySize > 0);
  for (const { gpa, offset, fileSize: size, memorySize } of loads) {
    if (![gpa, offset, size, memorySize, gpa + memorySize, offset + size].every(Number.isSafeInteger)) {
      throw fail('a segment lies beyond 2^53');
    }
    if (size > memorySize) throw fail(`the segment at ${hex(gpa)} is longer in the file than in memory`);
    if (size > 0 && offset + size > fileSize) throw fail(`the file ends within the segment at ${hex(gpa)}`);
  }
  loads.sort((a, b) => a.gpa - b.gpa);
  if (loads.length === 0) throw fail('it has no segment to load');
  if (loads.some((load, index) => index > 0 && load.gpa < loads[index - 1]!.gpa + loads[index - 1]!.memorySize)) {
    throw fail('its segments overlap');
  }
  const pvhEntry = headers
    .filter((header) => header.type === PT_NOTE)
    .map((note) => pvhNote(read, note))
    .find((found) => found !== undefined);
  const physical = physicalEntry(entry, loads);
  if (pvhEntry === undefined && physical === undefined)
    throw fail(`its entry 0x${entry.toString(16)} is in no segment`);
  if (pvhEntry !== undefined && !loads.some((load) => holds(load, pvhEntry))) {
    throw fail(`its PVH entry ${hex(pvhEntry)} is in no segment`);
  }
  if (pvhEntry === undefined && (bits === 32 || machine === MACHINE_386)) {
    throw fail('it is a 32-bit program without a PVH entry note', 'link it with a XEN_ELFNOTE_PHYS32_ENTRY note');
  }
  const segments = loads.map(({ gpa, offset, fileSize: size, memorySize }) => ({
    gpa,
    offset,
    fileSize: size,
    memorySize,
  }));
  return { bits, segments, entry: physical ?? 0, pvhEntry };
}

function programHeader(table: Uint8Array, at: number, bits: 32 | 64): ProgramHeader {
  const view = new DataView(table.buffer, table.byteOffset + at);
  const type = view.getUint32(0, true);
  const wide = (offset: number) => Number(view.getBigUint64(offset, true));
  const narrow = (offset: number) => view.getUint32(offset, true);
  if (bits === 32) {
    const [offset, vaddr, gpa, fileSize] = [narrow(4), BigInt(narrow(8)), narrow(12), narrow(16)];
    return { type, offset, vaddr, gpa, fileSize, memorySize: narrow(20), align: narrow(28) };
  }
  const [offset, vaddr, gpa, fileSize] = [wide(8), view.getBigUint64(16, true), wide(24), wide(32)];
  return { type, offset, vaddr, gpa, fileSize, memorySize: wide(40), align: wide(48) };
}

function holds(segment: Segment, gpa: number): boolean {
  return gpa >= segment.gpa && gpa < segment.gpa + segment.memorySize;
}

/** Linux writes a physical address into e_entry; other kernels write a virtual one. */
function physicalEntry(entry: bigint, loads: readonly ProgramHeader[]): number | undefined {
  const plain = Number(entry);
  if (loads.some((load) => holds(load, plain))) return plain;
  const home = loads.find((load) => entry >= load.vaddr && entry < load.vaddr + BigInt(load.memorySize));
  return home && Number(entry - home.vaddr) + home.gpa;
}

/** Searches one note segment. Broken notes end the search: they are not ours to judge. */
function pvhNote(read: ReadAt, { offset, fileSize, align }: ProgramHeader): number | undefined {
  if (!Number.isSafeInteger(offset) || fileSize > MAX_NOTE_SIZE) return undefined;
  const notes = read(offset, fileSize);
  const padding = align === 8 ? 8 : 4;
  for (let at = 0; at + 12 <= notes.length; ) {
    const nameSize = readLe(notes, at, 4);
    const dataSize = readLe(notes, at + 4, 4);
    const dataAt = alignUp(at + 12 + nameSize, padding);
    if (nameSize > MIB || dataSize > MIB || dataAt + dataSize > notes.length) return undefined;
    const isXen = nameSize === 4 && readLe(notes, at + 12, 4) === 0x006e_6558;
    if (isXen && readLe(notes, at + 8, 4) === XEN_ELFNOTE_PHYS32_ENTRY && dataSize >= 4) {
      // 4 or 8 bytes; the entry is 32-bit in any case.
      return readLe(notes, dataAt, 4);
    }
    at = alignUp(dataAt + dataSize, padding);
  }
  return undefined;
}
