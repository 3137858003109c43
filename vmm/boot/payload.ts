/** The packed kernel inside a bzImage: which packer made it, and how to unpack it on the host. */
import { spawn } from 'node:child_process';
import { accessSync, constants, writeSync } from 'node:fs';
import { join } from 'node:path';
import { Readable, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import * as zlib from 'node:zlib';
import { GIB, KIB, readLe } from '../base/bits.ts';
import { readPiece } from './boot-file.ts';

/** The packers that the kernel's build offers (init/Kconfig, "Kernel compression mode"), and the unpacked ELF itself. */
export type Packing = 'gzip' | 'xz' | 'zstd' | 'lz4' | 'lzma' | 'bzip2' | 'lzo' | 'none';

const MAGICS: readonly (readonly [Packing, readonly number[]])[] = [
  ['gzip', [0x1f, 0x8b]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['lz4', [0x02, 0x21, 0x4c, 0x18]],
  ['lzma', [0x5d, 0x00, 0x00]],
  ['bzip2', [0x42, 0x5a, 0x68]],
  ['lzo', [0x89, 0x4c, 0x5a, 0x4f, 0x00, 0x0d, 0x0a, 0x1a, 0x0a]],
  ['none', [0x7f, 0x45, 0x4c, 0x46]],
];

/** Unpacks from stdin to stdout. */
const COMMANDS: Readonly<Record<Exclude<Packing, 'none' | 'gzip'>, readonly [string, ...string[]]>> = {
  xz: ['xz', '-dc'],
  zstd: ['zstd', '-dcq'],
  lz4: ['lz4', '-dcq'],
  lzma: ['xz', '--format=lzma', '-dc'],
  bzip2: ['bzip2', '-dc'],
  lzo: ['lzop', '-dc'],
};

/** No kernel unpacks to more; a stream that does is a bomb. */
const MAX_UNPACKED: number = GIB;
const READ_CHUNK: number = 256 * KIB;

/** @param head the first bytes of the payload */
export function packingOf(head: Uint8Array): Packing | undefined {
  return MAGICS.find(([, magic]) => magic.every((byte, index) => head[index] === byte))?.[0];
}

/** Why a payload could not be unpacked: the kernel then starts as it is. */
export class UnpackFailure extends Error {
  override readonly name = 'UnpackFailure';
}

/**
 * Unpacks the payload at `offset` of `fd` into the file `out`, through small buffers only.
 * @returns bytes written
 * @throws UnpackFailure when this host cannot unpack it, or the payload is broken
 */
export async function unpackPayload(fd: number, offset: number, sizeBytes: number, out: number): Promise<number> {
  const packing = packingOf(readPiece(fd, offset, 16));
  if (packing === undefined) throw new UnpackFailure('its payload is packed in an unknown way');
  // The build appends the unpacked size to every format but gzip, which ends with it by itself (scripts/Makefile.lib, size_append).
  const expected = readLe(readPiece(fd, offset + sizeBytes - 4, 4), 0, 4);
  const length = packing === 'gzip' ? sizeBytes : sizeBytes - 4;
  const source = Readable.from(pieces(fd, offset, length), { objectMode: false });
  let written = 0;
  for await (const chunk of decoded(packing, source)) {
    written += chunk.length;
    if (written > MAX_UNPACKED) throw new UnpackFailure(`its ${packing} payload does not end`);
    for (let done = 0; done < chunk.length; ) done += writeSync(out, chunk, done);
  }
  if (written !== expected) {
    throw new UnpackFailure(`its ${packing} payload gave ${written} bytes where it promises ${expected}`);
  }
  return written;
}

/** Not fs.ReadStream: destroying one closes its fd, even with autoClose off. */
function* pieces(fd: number, offset: number, length: number): Generator<Uint8Array> {
  for (let done = 0; done < length; ) {
    const piece = readPiece(fd, offset + done, Math.min(READ_CHUNK, length - done));
    if (piece.length === 0) return;
    yield piece;
    done += piece.length;
  }
}

function decoded(packing: Packing, source: Readable): AsyncIterable<Uint8Array> {
  if (packing === 'none') return source;
  if (packing === 'gzip') return throughStream(packing, source, zlib.createGunzip({ chunkSize: READ_CHUNK }));
  // A command is preferred where zlib could do it too: the window (up to 128 MiB for zstd) then is not in this process.
  const [command, ...args] = COMMANDS[packing];
  if (hasCommand(command)) return throughCommand(packing, command, args, source);
  const zstd = (zlib as { createZstdDecompress?: () => Transform }).createZstdDecompress;
  if (packing === 'zstd' && zstd) return throughStream(packing, source, zstd());
  throw new UnpackFailure(`its payload is packed with ${packing}, and there is no ${command} command`);
}

function hasCommand(command: string): boolean {
  return (process.env.PATH ?? '').split(':').some((dir) => {
    try {
      accessSync(join(dir, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

async function* throughStream(packing: Packing, source: Readable, decoder: Transform): AsyncGenerator<Uint8Array> {
  const fed = pipeline(source, decoder).catch(() => {});
  try {
    yield* decoder as AsyncIterable<Uint8Array>;
    await fed;
  } catch (error) {
    throw new UnpackFailure(`its ${packing} payload is broken: ${(error as Error).message}`);
  } finally {
    source.destroy();
  }
}

async function* throughCommand(
  packing: Packing,
  command: string,
  args: readonly string[],
  source: Readable,
): AsyncGenerator<Uint8Array> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let complaint = '';
  child.stderr.on('data', (text: Buffer) => {
    if (complaint.length < 500) complaint += text.toString();
  });
  const ended = new Promise<number | string>((resolve) => {
    child.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    child.on('close', (status, signal) => resolve(status ?? signal ?? 'unknown'));
  });
  const fed = pipeline(source, child.stdin).catch(() => {});
  let complete = false;
  try {
    yield* child.stdout as AsyncIterable<Uint8Array>;
    complete = true;
  } finally {
    if (!complete) child.kill('SIGKILL');
    source.destroy();
  }
  const outcome = await ended;
  await fed;
  if (outcome === 0) return;
  throw new UnpackFailure(`${command} could not unpack its ${packing} payload: ${complaint.trim() || outcome}`);
}
