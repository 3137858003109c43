/**
 * Multiboot kernels (Multiboot Specification 0.6.96) for a VMM that boots PVH: the machine state is the same but for two
 * registers, so a kernel gets a few instructions in front that set them, and the multiboot information that they point to.
 */
import { readLe, writeLe } from '../../../vmm/base/bits.ts';
import { CausewayError } from '../../../vmm/base/errors.ts';
import { parseElf } from '../../../vmm/boot/elf.ts';

const HEADER_MAGIC = 0x1bad_b002;
const LOADER_MAGIC = 0x2bad_b002;
/** The header lies in this part of the file, on a multiple of four (§3.1). */
const HEADER_LIMIT = 8192;
/** Conventional memory that neither the kernel nor the VMM's own tables use. */
const STUB_AT = 0x8_0000;
const INFO_AT = STUB_AT + 0x40;
const MAP_AT = STUB_AT + 0xc0;
const NAME_AT = STUB_AT + 0x100;
const CMDLINE_AT = STUB_AT + 0x120;
const STUB_BYTES = 0x1000;
const LOW_KIB = 639;
const MIB = 2 ** 20;

/** ELF32: sizes, program header types, the note that asks for PVH. */
const ELF = { headerBytes: 52, programBytes: 32, load: 1, note: 4, exec: 2, i386: 3, phys32Entry: 18 } as const;
/** Fields of the information that are valid (§3.3): memory, command line, memory map, name of the loader. */
const INFO_FLAGS = (1 << 0) | (1 << 2) | (1 << 6) | (1 << 9);

export function isMultiboot(file: Uint8Array): boolean {
  for (let at = 0; at + 12 <= Math.min(file.length, HEADER_LIMIT); at += 4) {
    if (readLe(file, at, 4) !== HEADER_MAGIC) continue;
    const [flags, checksum] = [readLe(file, at + 4, 4), readLe(file, at + 8, 4)];
    if ((HEADER_MAGIC + flags + checksum) % 2 ** 32 === 0) return true;
  }
  return false;
}

/**
 * The same kernel as a PVH ELF.
 * @param cmdline with the kernel's name as its first word, as loaders give it
 * @throws CausewayError KERNEL_INVALID for what is no 32-bit ELF, or lies where the information goes
 */
export function multibootToPvh(file: Uint8Array, path: string, cmdline: string, memoryBytes: number): Uint8Array {
  const fail = (fault: string): CausewayError => new CausewayError('KERNEL_INVALID', `${path}: ${fault}`, { path });
  if (readLe(file, 0, 4) !== 0x464c_457f || file[4] !== 1) throw fail('a multiboot kernel has to be a 32-bit ELF file');
  const segments = segmentsOf(file);
  const entry = readLe(file, 24, 4);
  for (const { gpa, memoryBytes: size } of segments) {
    if (gpa < STUB_AT + STUB_BYTES && gpa + size > STUB_AT)
      throw fail('it lies where the boot information goes, at 512 KiB');
  }
  const stub = bootStub(entry, cmdline, memoryBytes);
  if (!stub) throw fail('its command line is too long');
  const all = [{ gpa: STUB_AT, bytes: stub, memoryBytes: STUB_BYTES }, ...segments];
  const elf = writeElf(all, STUB_AT);
  // Bounds and overlaps are judged by the loader's own parser.
  parseElf((offset, length) => elf.subarray(offset, offset + length), elf.length, path);
  return elf;
}

interface Piece {
  readonly gpa: number;
  readonly bytes: Uint8Array;
  readonly memoryBytes: number;
}

function segmentsOf(file: Uint8Array): Piece[] {
  const [table, count] = [readLe(file, 28, 4), readLe(file, 44, 2)];
  return Array.from({ length: count }, (_, i) => table + i * ELF.programBytes)
    .filter((at) => readLe(file, at, 4) === ELF.load && readLe(file, at + 20, 4) > 0)
    .map((at) => {
      const [offset, size] = [readLe(file, at + 4, 4), readLe(file, at + 16, 4)];
      return {
        gpa: readLe(file, at + 12, 4),
        bytes: file.subarray(offset, offset + size),
        memoryBytes: readLe(file, at + 20, 4),
      };
    });
}

/** Instructions, information, memory map and texts. Undefined when the command line does not fit. */
function bootStub(entry: number, cmdline: string, memoryBytes: number): Uint8Array | undefined {
  const text = new TextEncoder().encode(`${cmdline}\0`);
  if (CMDLINE_AT - STUB_AT + text.length > STUB_BYTES) return undefined;
  const stub = new Uint8Array(CMDLINE_AT - STUB_AT + text.length);
  const put = (gpa: number, ...words: number[]): void => {
    for (const [i, word] of words.entries()) writeLe(stub, gpa - STUB_AT + 4 * i, 4, word);
  };
  const dword = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
  // mov eax, magic; mov ebx, information; mov ecx, entry; jmp ecx
  stub.set([0xb8, ...dword(LOADER_MAGIC), 0xbb, ...dword(INFO_AT), 0xb9, ...dword(entry), 0xff, 0xe1]);
  put(INFO_AT, INFO_FLAGS, LOW_KIB, (memoryBytes - MIB) / 1024, 0, CMDLINE_AT, 0, 0);
  // size (without itself), base, length, type 1: available (§3.3)
  const map = [20, 0, 0, LOW_KIB * 1024, 0, 1, 20, MIB, 0, memoryBytes - MIB, 0, 1];
  put(INFO_AT + 44, 4 * map.length, MAP_AT);
  put(INFO_AT + 64, NAME_AT);
  put(MAP_AT, ...map);
  stub.set(new TextEncoder().encode('causeway\0'), NAME_AT - STUB_AT);
  stub.set(text, CMDLINE_AT - STUB_AT);
  return stub;
}

function writeElf(pieces: readonly Piece[], pvhEntry: number): Uint8Array {
  const noteAt = ELF.headerBytes + (pieces.length + 1) * ELF.programBytes;
  const note = new Uint8Array(20);
  for (const [i, word] of [4, 4, ELF.phys32Entry, 0x006e_6558, pvhEntry].entries()) writeLe(note, 4 * i, 4, word);
  let end = noteAt + note.length;
  const placed = pieces.map((piece) => {
    const offset = end;
    end += piece.bytes.length;
    return { ...piece, offset };
  });
  const elf = new Uint8Array(end);
  elf.set([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1]);
  for (const [at, width, value] of [
    [16, 2, ELF.exec],
    [18, 2, ELF.i386],
    [20, 4, 1],
    [24, 4, pvhEntry],
    [28, 4, ELF.headerBytes],
    [40, 2, ELF.headerBytes],
    [42, 2, ELF.programBytes],
    [44, 2, pieces.length + 1],
  ] as const) {
    writeLe(elf, at, width, value);
  }
  const header = (
    index: number,
    type: number,
    offset: number,
    gpa: number,
    fileBytes: number,
    memoryBytes: number,
  ): void => {
    const at = ELF.headerBytes + index * ELF.programBytes;
    for (const [i, word] of [type, offset, gpa, gpa, fileBytes, memoryBytes, 7, 4].entries())
      writeLe(elf, at + 4 * i, 4, word);
  };
  header(0, ELF.note, noteAt, 0, note.length, note.length);
  elf.set(note, noteAt);
  placed.forEach(({ gpa, bytes, memoryBytes, offset }, i) => {
    header(i + 1, ELF.load, offset, gpa, bytes.length, memoryBytes);
    elf.set(bytes, offset);
  });
  return elf;
}
