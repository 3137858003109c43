/** Tiny guests without an operating system: a PVH ELF with a few bytes of 32-bit code, assembled by hand. */

/** Where the first byte of the code is loaded and run. */
export const PAYLOAD_AT = 0x10_0000;
/** Zeroed memory behind the code, up to this far from its start. */
const MEMORY_SIZE = 0x1000;
const HEADER_SIZE = 64;
const PROGRAM_HEADER_SIZE = 56;
const NOTE_AT: number = HEADER_SIZE + 2 * PROGRAM_HEADER_SIZE;
const CODE_AT = 0x1000;
const DATA_SIZE = 0x80;
const PT_LOAD = 1;
const PT_NOTE = 4;
const XEN_ELFNOTE_PHYS32_ENTRY = 18;

/** A 64-bit ELF file whose code starts at its PVH entry, in protected mode with flat segments and no IDT. */
export function pvhElf(...code: readonly (readonly number[])[]): Uint8Array {
  const bytes = code.flat();
  // Some data behind the code.
  while (bytes.length < DATA_SIZE) bytes.push(0);
  const note = noteSegment(PAYLOAD_AT);
  const file = new Uint8Array(CODE_AT + bytes.length);
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true); // executable
  view.setUint16(18, 62, true); // x86-64
  view.setUint32(20, 1, true);
  view.setBigUint64(24, BigInt(PAYLOAD_AT), true);
  view.setBigUint64(32, BigInt(HEADER_SIZE), true);
  view.setUint16(52, HEADER_SIZE, true);
  view.setUint16(54, PROGRAM_HEADER_SIZE, true);
  view.setUint16(56, 2, true);
  programHeader(view, HEADER_SIZE, PT_LOAD, CODE_AT, PAYLOAD_AT, bytes.length, MEMORY_SIZE);
  programHeader(view, HEADER_SIZE + PROGRAM_HEADER_SIZE, PT_NOTE, NOTE_AT, 0, note.length, note.length);
  file.set(note, NOTE_AT);
  file.set(bytes, CODE_AT);
  return file;
}

function programHeader(
  view: DataView,
  at: number,
  type: number,
  offset: number,
  gpa: number,
  fileSize: number,
  memorySize: number,
): void {
  view.setUint32(at, type, true);
  view.setUint32(at + 4, 7, true);
  view.setBigUint64(at + 8, BigInt(offset), true);
  view.setBigUint64(at + 16, BigInt(gpa), true);
  view.setBigUint64(at + 24, BigInt(gpa), true);
  view.setBigUint64(at + 32, BigInt(fileSize), true);
  view.setBigUint64(at + 40, BigInt(memorySize), true);
  view.setBigUint64(at + 48, 4n, true);
}

function noteSegment(entry: number): Uint8Array {
  const note = new Uint8Array(20);
  const view = new DataView(note.buffer);
  view.setUint32(0, 4, true);
  view.setUint32(4, 4, true);
  view.setUint32(8, XEN_ELFNOTE_PHYS32_ENTRY, true);
  note.set([0x58, 0x65, 0x6e, 0], 12); // "Xen"
  view.setUint32(16, entry, true);
  return note;
}

function dword(value: number): number[] {
  return [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
}

/** mov dx, port */
function selectPort(port: number): number[] {
  return [0x66, 0xba, port & 0xff, port >> 8];
}

/** out port, byte */
export function outByte(port: number, value: number): number[] {
  return [...selectPort(port), 0xb0, value, 0xee];
}

/** out port, eax */
export function outEax(port: number): number[] {
  return [...selectPort(port), 0xef];
}

/** mov eax, value */
export function setEax(value: number): number[] {
  return [0xb8, ...dword(value)];
}

/** in eax, port */
export function inEax(port: number): number[] {
  return [...selectPort(port), 0xed];
}

/** mov al from port, the rest of eax zero */
export function inAl(port: number): number[] {
  return [...selectPort(port), 0xec, 0x0f, 0xb6, 0xc0];
}

/** mov eax, [address] */
export function loadEax(address: number): number[] {
  return [0xa1, ...dword(address)];
}

/** mov [address], eax */
export function storeEax(address: number): number[] {
  return [0xa3, ...dword(address)];
}

/** mov eax, address; jmp eax */
export function jumpTo(address: number): number[] {
  return [...setEax(address), 0xff, 0xe0];
}

/** Writes `text` to a port with one `rep outsb`. The text lies in the middle of the code. */
export function outString(port: number, text: string): number[] {
  const bytes = [...Buffer.from(text, 'latin1')];
  // call over the text, so that its address is on the stack; pop esi; mov ecx, length; cld; rep outsb
  const call = [0xe8, ...dword(bytes.length), ...bytes];
  return [...call, 0x5e, 0xb9, ...dword(bytes.length), 0xfc, ...selectPort(port), 0xf3, 0x6e];
}

/** Waits until something was typed at the first serial port. */
export const WAIT_FOR_KEY: readonly number[] = [...selectPort(0x3fd), 0xec, 0xa8, 0x01, 0x74, 0xfb];
/** An invalid opcode; without an IDT that is a triple fault. */
export const INVALID_OPCODE: readonly number[] = [0x0f, 0x0b];
/** hlt with interrupts off, for ever */
export const HALT: readonly number[] = [0xf4, 0xeb, 0xfd];
/** jmp to itself: never leaves the guest */
export const SPIN: readonly number[] = [0xeb, 0xfe];
