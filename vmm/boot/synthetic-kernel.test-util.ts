/** Kernels made up for tests: the smallest files that the loader accepts. Not part of the machine. */
import { writeLe } from '../base/bits.ts';

/** A bzImage of one setup sector with `payload` in its protected-mode part. */
export function syntheticBzImage(payload: Uint8Array = new Uint8Array(64), codeSize = 8192): Uint8Array {
  const size = Math.max(codeSize, 1024 + payload.length);
  const image = new Uint8Array(1024 + size);
  const put = (offset: number, width: number, value: number) => writeLe(image, offset, width, value);
  image[0x1f1] = 1;
  put(0x1f4, 4, Math.floor(size / 16));
  put(0x1fe, 2, 0xaa55);
  // The length of the header hides in the jump over it: it ends at 0x202 + this byte.
  put(0x200, 2, 0x6aeb);
  put(0x202, 4, 0x5372_6448);
  put(0x206, 2, 0x20f);
  image[0x211] = 1;
  put(0x22c, 4, 0x7fff_ffff);
  put(0x230, 4, 0x20_0000);
  image[0x234] = 1;
  put(0x236, 2, 3);
  put(0x238, 4, 2047);
  put(0x248, 4, 1024);
  put(0x24c, 4, payload.length);
  put(0x258, 4, 0x100_0000);
  put(0x260, 4, 0x10_0000);
  image.set(payload, 2048);
  return image;
}

export interface SyntheticSegment {
  readonly gpa: number;
  readonly bytes: Uint8Array;
  readonly memorySize?: number;
}

/** A 64-bit ELF kernel whose virtual addresses are its physical ones plus `slide`; `pvhEntry` adds the note. */
export function syntheticElf(
  segments: readonly SyntheticSegment[],
  options: { readonly entry?: bigint; readonly slide?: bigint; readonly pvhEntry?: number } = {},
): Uint8Array {
  const note = new Uint8Array(20);
  writeLe(note, 0, 4, 4);
  writeLe(note, 4, 4, 4);
  writeLe(note, 8, 4, 18);
  note.set([0x58, 0x65, 0x6e, 0], 12);
  writeLe(note, 16, 4, options.pvhEntry ?? 0);
  const parts = segments.map((segment) => ({ type: 1, ...segment }));
  const all = options.pvhEntry === undefined ? parts : [...parts, { type: 4, gpa: 0, bytes: note }];
  const dataAt = 64 + 56 * all.length;
  const file = new Uint8Array(dataAt + all.reduce((sum, part) => sum + part.bytes.length, 0));
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, 62, true);
  view.setBigUint64(24, options.entry ?? BigInt(segments[0]?.gpa ?? 0), true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, all.length, true);
  let offset = dataAt;
  for (const [index, part] of all.entries()) {
    const at = 64 + 56 * index;
    view.setUint32(at, part.type, true);
    view.setBigUint64(at + 8, BigInt(offset), true);
    view.setBigUint64(at + 16, BigInt(part.gpa) + (options.slide ?? 0n), true);
    view.setBigUint64(at + 24, BigInt(part.gpa), true);
    view.setBigUint64(at + 32, BigInt(part.bytes.length), true);
    view.setBigUint64(at + 40, BigInt(('memorySize' in part && part.memorySize) || part.bytes.length), true);
    view.setBigUint64(at + 48, 4n, true);
    file.set(part.bytes, offset);
    offset += part.bytes.length;
  }
  return file;
}
