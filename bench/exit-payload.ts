/**
 * A guest without an operating system that times exits to user space by the time-stamp counter. A 32-bit ELF with the PVH
 * entry note, which both Causeway and QEMU's `-kernel` boot: flat protected mode, no paging, interrupts off.
 *
 * It prints lines of 16 hex digits on COM1: the counter at the start; for each kind of exit the length of each
 * batch; the counter at the end. Between first and last line whoever listens can tell how fast the counter runs.
 */
import { CodeBuffer } from './code-buffer.ts';

/** Batches of each kind. The first lets a just-in-time compiler do its work, and is not counted. */
export const BATCHES = 5;

/** The exits that are timed, in the order of the output. */
export const EXIT_KINDS = ['read', 'write'] as const;
export type ExitKind = (typeof EXIT_KINDS)[number];

/** Scratch register of the serial port: every VMM has it, and reading it does nothing else. */
const SCRATCH_PORT = 0x3ff;
/** Where firmware writes its progress; a delay for others. No VMM makes the guest wait for anything there. */
const POST_CODE_PORT = 0x80;
/** Causeway's debug exit; for QEMU an `isa-debug-exit` is put there. */
const DEBUG_EXIT_PORT = 0xf4;
const COM1 = 0x3f8;
const LINE_STATUS = 0x3fd;
const LINE_CONTROL = 0x3fb;

const LOAD_ADDRESS = 0x10_0000;
const STACK_TOP = 0x8_0000;
const HEADER_SIZE = 52;
const PROGRAM_HEADER_SIZE = 32;
const NOTE_OFFSET = 0x80;
const CODE_OFFSET = 0x1000;
const PT_LOAD = 1;
const PT_NOTE = 4;
const XEN_ELFNOTE_PHYS32_ENTRY = 18;

/** The ELF file. @param exits exits in a batch */
export function exitPayload(exits: number): Uint8Array {
  const code = exitCode(exits);
  const file = new Uint8Array(CODE_OFFSET + code.length);
  const view = new DataView(file.buffer);
  const u32 = (at: number, ...values: number[]) => {
    for (const [i, value] of values.entries()) view.setUint32(at + 4 * i, value, true);
  };
  // Little-endian 32-bit ELF, executable, for the 386.
  file.set([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1]);
  u32(16, (3 << 16) | 2, 1, LOAD_ADDRESS, HEADER_SIZE, 0, 0);
  view.setUint16(40, HEADER_SIZE, true);
  view.setUint16(42, PROGRAM_HEADER_SIZE, true);
  view.setUint16(44, 2, true);
  // Offset, virtual and physical address, size in file and memory, flags (read, execute), alignment.
  u32(HEADER_SIZE, PT_LOAD, CODE_OFFSET, LOAD_ADDRESS, LOAD_ADDRESS, code.length, code.length, 5, 0x1000);
  u32(HEADER_SIZE + PROGRAM_HEADER_SIZE, PT_NOTE, NOTE_OFFSET, 0, 0, 24, 24, 4, 4);
  // Name "Xen"; QEMU reads eight bytes of address.
  u32(NOTE_OFFSET, 4, 8, XEN_ELFNOTE_PHYS32_ENTRY, 0x006e_6558, LOAD_ADDRESS, 0);
  file.set(code, CODE_OFFSET);
  return file;
}

function exitCode(exits: number): Uint8Array {
  const code = new CodeBuffer();
  code.bytes(0xfa); // cli
  code.withImm32([0xbc], STACK_TOP); // mov esp, STACK_TOP
  output(code, LINE_CONTROL, 3);
  code.bytes(0x0f, 0x31).call('print'); // rdtsc
  for (const kind of EXIT_KINDS) {
    for (let batch = 0; batch < BATCHES; batch++) {
      const loop = `${kind}${batch}`;
      code.withImm32([0xba], SCRATCH_PORT); // mov edx, SCRATCH_PORT: before the clock starts, rdtsc overwrites it
      code.bytes(0x89, 0xd5); // mov ebp, edx
      code.bytes(0x0f, 0xae, 0xe8, 0x0f, 0x31); // lfence; rdtsc
      code.bytes(0x89, 0xc6, 0x89, 0xd7); // mov esi, eax; mov edi, edx
      code.bytes(0x89, 0xea); // mov edx, ebp
      code.withImm32([0xb9], exits); // mov ecx, exits
      code.label(loop);
      if (kind === 'read')
        code.bytes(0xec); // in al, dx
      else code.bytes(0xe6, POST_CODE_PORT); // out POST_CODE_PORT, al
      code.bytes(0x49).shortJump(0x75, loop); // dec ecx; jnz loop
      code.bytes(0x0f, 0x31); // rdtsc
      code.bytes(0x29, 0xf0, 0x19, 0xfa); // sub eax, esi; sbb edx, edi
      code.call('print');
    }
  }
  code.bytes(0x0f, 0x31).call('print');
  code.bytes(0x31, 0xc0, 0xe6, DEBUG_EXIT_PORT); // xor eax, eax; out DEBUG_EXIT_PORT, al
  code.label('halt').bytes(0xf4).shortJump(0xeb, 'halt'); // hlt; jmp halt
  printSubroutine(code);
  return code.finish();
}

/** Prints edx:eax as 16 hex digits and a newline. */
function printSubroutine(code: CodeBuffer): void {
  code.label('print');
  code.bytes(0x89, 0xc3, 0x89, 0xd7); // mov ebx, eax; mov edi, edx
  code.withImm32([0xb9], 16); // mov ecx, 16
  code.label('digit');
  code.bytes(0x89, 0xf8, 0xc1, 0xe8, 28); // mov eax, edi; shr eax, 28
  code.bytes(0x0f, 0xa4, 0xdf, 4, 0xc1, 0xe3, 4); // shld edi, ebx, 4; shl ebx, 4
  code.bytes(0x04, 0x30, 0x3c, 0x39).shortJump(0x76, 'put'); // add al, '0'; cmp al, '9'; jbe put
  code.bytes(0x04, 39); // add al, 'a' - '0' - 10
  code.label('put').call('putc');
  code.bytes(0x49).shortJump(0x75, 'digit'); // dec ecx; jnz digit
  code.bytes(0xb0, 0x0a); // mov al, '\n'; falls through
  code.label('putc');
  code.bytes(0x88, 0xc4); // mov ah, al
  code.withImm32([0xba], LINE_STATUS); // mov edx, LINE_STATUS
  code.label('busy').bytes(0xec, 0xa8, 0x20).shortJump(0x74, 'busy'); // in al, dx; test al, 0x20; jz busy
  output(code, COM1);
  code.bytes(0xc3); // ret
}

/** Writes a constant, or ah, to a port. */
function output(code: CodeBuffer, port: number, value?: number): void {
  code.withImm32([0xba], port); // mov edx, port
  if (value === undefined)
    code.bytes(0x88, 0xe0); // mov al, ah
  else code.bytes(0xb0, value); // mov al, value
  code.bytes(0xee); // out dx, al
}

/** What the payload's lines say. */
export interface ExitTiming {
  /** Ticks of the time-stamp counter for one exit, by kind: the median of the counted batches is up to the reader. */
  readonly ticks: Readonly<Record<ExitKind, readonly number[]>>;
  /** Ticks from the first line to the last. */
  readonly totalTicks: number;
}

/** @throws RangeError when lines are missing */
export function parseExitOutput(text: string, exits: number): ExitTiming {
  const lines = text.split(/\r?\n/).filter((line) => /^[0-9a-f]{16}$/.test(line));
  const expected = 2 + EXIT_KINDS.length * BATCHES;
  if (lines.length !== expected) {
    throw new RangeError(
      `${lines.length} lines of numbers instead of ${expected}: ${JSON.stringify(text.slice(-200))}`,
    );
  }
  const values = lines.map((line) => BigInt(`0x${line}`));
  const batches = (kind: ExitKind) => {
    const first = 1 + EXIT_KINDS.indexOf(kind) * BATCHES;
    return values.slice(first + 1, first + BATCHES).map((ticks) => Number(ticks) / exits);
  };
  return {
    ticks: { read: batches('read'), write: batches('write') },
    totalTicks: Number(values.at(-1)! - values[0]!),
  };
}
