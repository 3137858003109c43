/**
 * Unpacked kernels on disk, by the hash of what they were unpacked from. An entry is an ELF file that has only what is
 * loaded: no sections, no relocations, no long runs of zeros. So a later start reads less than half of a vmlinux.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { alignUp, KIB, PAGE_SIZE } from '../base/bits.ts';
import { type BootFile, readPiece } from './boot-file.ts';
import { type ElfKernel, parseElf, type Segment } from './elf.ts';
import { UnpackFailure, unpackPayload } from './payload.ts';

/** Part of the key: raise it when the form of the entries changes. */
const FORMAT = 'causeway-kernel-1';
const CHUNK: number = 256 * KIB;
/** Program headers must fit into the first page. */
const MAX_SEGMENTS = 64;
const ELF_HEADER_SIZE = 64;
const PROGRAM_HEADER_SIZE = 56;

/** A kernel that is ready to be loaded. Whoever got it closes `fd`. */
export interface UnpackedKernel {
  readonly fd: number;
  readonly elf: ElfKernel;
  readonly fromCache: boolean;
}

/** `$CAUSEWAY_CACHE/kernels`, by default below `~/.cache/causeway`. */
export function defaultCacheDir(): string {
  return join(process.env.CAUSEWAY_CACHE || join(homedir(), '.cache', 'causeway'), 'kernels');
}

/**
 * The kernel in the payload of a bzImage, from the cache or freshly unpacked. A cache that cannot be written is no
 * error: the unpacked kernel then lives in an unlinked temporary file.
 * @throws UnpackFailure when the payload cannot be unpacked here, or is not a 64-bit ELF kernel
 */
export async function unpackedKernel(
  image: BootFile,
  payload: { readonly offset: number; readonly sizeBytes: number },
  cacheDir: string,
): Promise<UnpackedKernel> {
  const entry = join(cacheDir, `${payloadHash(image.fd, payload)}.elf`);
  const cached = openEntry(entry);
  if (cached) return cached;

  const scratch = scratchPlace(cacheDir);
  const raw = openSync(`${scratch.path}.raw`, 'wx+', 0o600);
  // The name is not needed any more, and so nothing is left behind if this process is killed.
  unlinkSync(`${scratch.path}.raw`);
  let lean: number | undefined;
  try {
    const size = await unpackPayload(image.fd, payload.offset, payload.sizeBytes, raw);
    const elf = kernelElf(raw, size, image.path);
    lean = openSync(`${scratch.path}.elf`, 'wx+', 0o600);
    writeLean(raw, elf, lean);
    const result = { fd: lean, elf: kernelElf(lean, fstatSync(lean).size, image.path), fromCache: false };
    if (scratch.cacheable) tryTo(() => renameSync(`${scratch.path}.elf`, entry));
    return result;
  } catch (error) {
    if (lean !== undefined) closeSync(lean);
    if (error instanceof UnpackFailure) throw error;
    throw new UnpackFailure(`its unpacked form could not be kept: ${(error as Error).message}`, { cause: error });
  } finally {
    closeSync(raw);
    // After a rename it is gone already.
    rmSync(`${scratch.path}.elf`, { force: true });
  }
}

/** Hash of the packed kernel. The setup header is left out: what is in it is read anew each time. */
function payloadHash(fd: number, { offset, sizeBytes }: { offset: number; sizeBytes: number }): string {
  const hash = createHash('sha256').update(FORMAT);
  const buffer = new Uint8Array(CHUNK);
  for (let done = 0; done < sizeBytes; ) {
    const got = readSync(fd, buffer, 0, Math.min(CHUNK, sizeBytes - done), offset + done);
    if (got === 0) break;
    hash.update(buffer.subarray(0, got));
    done += got;
  }
  return hash.digest('hex').slice(0, 40);
}

/** An entry of the cache; a broken one is removed. */
function openEntry(path: string): UnpackedKernel | undefined {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    return undefined;
  }
  try {
    return { fd, elf: kernelElf(fd, fstatSync(fd).size, path), fromCache: true };
  } catch {
    closeSync(fd);
    tryTo(() => unlinkSync(path));
    return undefined;
  }
}

/** Where to write: beside the entries, else in the system's place for temporary files. */
function scratchPlace(cacheDir: string): { readonly path: string; readonly cacheable: boolean } {
  const name = `.new-${process.pid}-${randomBytes(6).toString('hex')}`;
  const probe = join(cacheDir, `${name}.elf`);
  const cacheable = tryTo(() => {
    makeDirs(cacheDir);
    closeSync(openSync(probe, 'wx', 0o600));
    unlinkSync(probe);
  });
  return { path: join(cacheable ? cacheDir : tmpdir(), name), cacheable };
}

/** Not the `recursive` option of mkdir: Node never returns from it where a parent cannot be made (below /proc). */
function makeDirs(path: string): void {
  if (existsSync(path)) return;
  if (dirname(path) !== path) makeDirs(dirname(path));
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    // Another start may have made it meanwhile.
    if (!existsSync(path)) throw error;
  }
}

function kernelElf(fd: number, size: number, path: string): ElfKernel {
  try {
    const elf = parseElf((offset, length) => readPiece(fd, offset, length), size, path);
    if (elf.bits === 64 && elf.entry !== 0) return elf;
  } catch (error) {
    throw new UnpackFailure('its payload is not a kernel that can be loaded', { cause: error });
  }
  throw new UnpackFailure('its payload is not a 64-bit kernel');
}

/** Copies segments from `raw` to `out`, leaving zeros out. */
function writeLean(raw: number, elf: ElfKernel, out: number): void {
  const pieces: Segment[] = [];
  const buffer = Buffer.alloc(CHUNK);
  const zeros = Buffer.alloc(CHUNK);
  let end = PAGE_SIZE;
  for (const segment of elf.segments) {
    let piece: { gpa: number; offset: number; fileSize: number } | undefined;
    const open = (gpa: number) => {
      // The end of one piece is the start of the next, so that zeros in between belong to a piece as well.
      if (piece) pieces.push({ ...piece, memorySize: gpa - piece.gpa });
      piece = { gpa, offset: end, fileSize: 0 };
    };
    open(segment.gpa);
    for (let done = 0; done < segment.fileSize; ) {
      const got = readSync(raw, buffer, 0, Math.min(CHUNK, segment.fileSize - done), segment.offset + done);
      if (got === 0) throw new UnpackFailure('its payload changed while it was read');
      const isZero = buffer.subarray(0, got).equals(zeros.subarray(0, got));
      const at = segment.gpa + done;
      if (!isZero) {
        const contiguous = piece!.gpa + piece!.fileSize === at;
        if (!contiguous && pieces.length < MAX_SEGMENTS - elf.segments.length) open(at);
        // Short of headers: the zeros become a hole in the file instead.
        const offset = piece!.offset + (at - piece!.gpa);
        for (let put = 0; put < got; ) put += writeSync(out, buffer, put, got - put, offset + put);
        piece!.fileSize = at - piece!.gpa + got;
        end = alignUp(offset + got, PAGE_SIZE);
      }
      done += got;
    }
    open(segment.gpa + segment.memorySize);
  }
  writeSync(out, elfHeaders(elf.entry, pieces), 0, PAGE_SIZE, 0);
}

function elfHeaders(entry: number, pieces: readonly Segment[]): Uint8Array {
  const bytes = new Uint8Array(PAGE_SIZE);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, 62, true);
  view.setUint32(20, 1, true);
  view.setBigUint64(24, BigInt(entry), true);
  view.setBigUint64(32, BigInt(ELF_HEADER_SIZE), true);
  view.setUint16(52, ELF_HEADER_SIZE, true);
  view.setUint16(54, PROGRAM_HEADER_SIZE, true);
  view.setUint16(56, pieces.length, true);
  for (const [index, piece] of pieces.entries()) {
    const at = ELF_HEADER_SIZE + index * PROGRAM_HEADER_SIZE;
    view.setUint32(at, 1, true);
    view.setUint32(at + 4, 7, true);
    view.setBigUint64(at + 8, BigInt(piece.offset), true);
    view.setBigUint64(at + 16, BigInt(piece.gpa), true);
    view.setBigUint64(at + 24, BigInt(piece.gpa), true);
    view.setBigUint64(at + 32, BigInt(piece.fileSize), true);
    view.setBigUint64(at + 40, BigInt(piece.memorySize), true);
    view.setBigUint64(at + 48, 1n, true);
  }
  return bytes;
}

function tryTo(action: () => void): boolean {
  try {
    action();
    return true;
  } catch {
    return false;
  }
}
