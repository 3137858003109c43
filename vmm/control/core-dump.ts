/** A guest's memory and registers as an ELF core file, the form that crash(8), drgn and gdb read. */
import { open } from 'node:fs/promises';
import type { Segment } from '../../native/types.ts';
import { PAGE_SIZE } from '../base/bits.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';
import type { VcpuRegisters } from './vm.ts';

const HEADER_SIZE = 64;
const PROGRAM_HEADER_SIZE = 56;
const PT_LOAD = 1;
const PT_NOTE = 4;
const NT_PRSTATUS = 1;
/** struct elf_prstatus of x86-64 (kernel: include/linux/elfcore.h): place of the process number and of the registers. */
const PRSTATUS = { size: 336, pid: 32, registers: 112 } as const;
/** Written in pieces of this size, so that a dump needs no memory of its own. */
const PIECE_BYTES: number = 256 * PAGE_SIZE;

/**
 * Writes the file, sparse: pages of zeros are holes. No vCPU may run meanwhile.
 * Physical addresses are those of the guest. Beside the usual note each vCPU has one named QEMU, which carries the
 * control registers and tables that tools need to find the kernel's page tables.
 * @throws Error of the file system
 */
export async function writeCore(path: string, memory: GuestMemory, vcpus: readonly VcpuRegisters[]): Promise<void> {
  const notes = Buffer.concat(
    vcpus.flatMap((vcpu) => [note('CORE', NT_PRSTATUS, prstatus(vcpu)), note('QEMU', 0, cpuState(vcpu))]),
  );
  const { windows } = memory;
  const headers = HEADER_SIZE + PROGRAM_HEADER_SIZE * (1 + windows.length);
  let offset = Math.ceil((headers + notes.length) / PAGE_SIZE) * PAGE_SIZE;
  const head = Buffer.alloc(headers);
  writeFileHeader(head, 1 + windows.length);
  writeProgramHeader(head, 0, { type: PT_NOTE, offset: headers, gpa: 0, size: notes.length });
  const file = await open(path, 'w', 0o600);
  try {
    for (const [index, { gpa, sizeBytes }] of windows.entries()) {
      writeProgramHeader(head, 1 + index, { type: PT_LOAD, offset, gpa, size: sizeBytes });
      for (let at = 0; at < sizeBytes; at += PIECE_BYTES) {
        const piece = memory.bytes(gpa + at, Math.min(PIECE_BYTES, sizeBytes - at));
        for (const [from, to] of filledRuns(piece)) await file.write(piece, from, to - from, offset + at + from);
      }
      offset += sizeBytes;
    }
    await file.truncate(offset);
    await file.write(Buffer.concat([head, notes]), 0, undefined, 0);
  } finally {
    await file.close();
  }
}

const ZEROS = Buffer.alloc(PAGE_SIZE);

/** Where pages that hold something begin and end. */
function filledRuns(piece: Uint8Array): (readonly [number, number])[] {
  const runs: [number, number][] = [];
  for (let at = 0; at < piece.length; at += PAGE_SIZE) {
    const end = Math.min(at + PAGE_SIZE, piece.length);
    if (ZEROS.compare(piece, at, end, 0, end - at) === 0) continue;
    const last = runs.at(-1);
    if (last?.[1] === at) last[1] = end;
    else runs.push([at, end]);
  }
  return runs;
}

function writeFileHeader(head: Buffer, programHeaders: number): void {
  head.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  head.writeUInt16LE(4, 16); // ET_CORE
  head.writeUInt16LE(62, 18); // EM_X86_64
  head.writeUInt32LE(1, 20);
  head.writeBigUInt64LE(BigInt(HEADER_SIZE), 32);
  head.writeUInt16LE(HEADER_SIZE, 52);
  head.writeUInt16LE(PROGRAM_HEADER_SIZE, 54);
  head.writeUInt16LE(programHeaders, 56);
}

interface Piece {
  readonly type: number;
  readonly offset: number;
  readonly gpa: number;
  readonly size: number;
}

function writeProgramHeader(head: Buffer, index: number, { type, offset, gpa, size }: Piece): void {
  const at = HEADER_SIZE + PROGRAM_HEADER_SIZE * index;
  const numbers = [offset, gpa, gpa, size, size];
  head.writeUInt32LE(type, at);
  for (const [i, value] of numbers.entries()) head.writeBigUInt64LE(BigInt(value), at + 8 + 8 * i);
}

function note(name: string, type: number, content: Buffer): Buffer {
  const words = Buffer.alloc(12);
  words.writeUInt32LE(name.length + 1, 0);
  words.writeUInt32LE(content.length, 4);
  words.writeUInt32LE(type, 8);
  return Buffer.concat([words, padded(Buffer.from(`${name}\0`)), padded(content)]);
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}

/** Registers in the order of struct user_regs_struct (kernel: arch/x86/include/asm/user_64.h). */
function prstatus({ index, general: g, system: s }: VcpuRegisters): Buffer {
  const content = Buffer.alloc(PRSTATUS.size);
  content.writeUInt32LE(index + 1, PRSTATUS.pid);
  const selectors = [s.ds, s.es, s.fs, s.gs].map(({ selector }) => BigInt(selector));
  const registers = [
    ...[g.r15, g.r14, g.r13, g.r12, g.rbp, g.rbx, g.r11, g.r10, g.r9, g.r8, g.rax, g.rcx, g.rdx, g.rsi, g.rdi],
    ...[g.rax, g.rip, BigInt(s.cs.selector), g.rflags, g.rsp, BigInt(s.ss.selector), s.fs.base, s.gs.base],
    ...selectors,
  ];
  for (const [i, value] of registers.entries()) content.writeBigUInt64LE(value, PRSTATUS.registers + 8 * i);
  return content;
}

/** What crash(8) and drgn read of a note named QEMU: general registers, segments, tables, cr0 to cr4. */
function cpuState({ general: g, system: s }: VcpuRegisters): Buffer {
  const general = [
    ...[g.rax, g.rbx, g.rcx, g.rdx, g.rsi, g.rdi, g.rsp, g.rbp],
    ...[g.r8, g.r9, g.r10, g.r11, g.r12, g.r13, g.r14, g.r15, g.rip, g.rflags],
  ];
  const tables = [s.gdt, s.idt].map(({ base, limit }) => segment({ base, limit, selector: 0 }));
  const segments = [s.cs, s.ds, s.es, s.fs, s.gs, s.ss, s.ldt, s.tr].map(segment);
  const body = Buffer.concat([
    quads(general),
    ...segments,
    ...tables,
    // cr1 does not exist. The last one is KERNEL_GS_BASE, which struct kvm_sregs does not hold.
    quads([s.cr0, 0n, s.cr2, s.cr3, s.cr4, 0n]),
  ]);
  const head = Buffer.alloc(8);
  head.writeUInt32LE(1, 0);
  head.writeUInt32LE(head.length + body.length, 4);
  return Buffer.concat([head, body]);
}

function segment({ base, limit, selector }: Pick<Segment, 'base' | 'limit' | 'selector'>): Buffer {
  const bytes = Buffer.alloc(24);
  bytes.writeUInt32LE(selector, 0);
  bytes.writeUInt32LE(limit, 4);
  bytes.writeBigUInt64LE(base, 16);
  return bytes;
}

function quads(values: readonly bigint[]): Buffer {
  const bytes = Buffer.alloc(8 * values.length);
  for (const [i, value] of values.entries()) bytes.writeBigUInt64LE(value, 8 * i);
  return bytes;
}
