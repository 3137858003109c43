/** Reading kernels and initrds: small pieces into the heap, everything big straight into guest memory. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { MIB } from '../base/bits.ts';
import { CausewayError, type ErrorCode } from '../base/errors.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';

/** An open regular file. Whoever opened it closes it. */
export interface BootFile {
  readonly path: string;
  readonly fd: number;
  readonly sizeBytes: number;
}

const WHAT = { KERNEL_NOT_FOUND: 'kernel image', INITRD_NOT_FOUND: 'initrd' } as const satisfies Partial<
  Record<ErrorCode, string>
>;

const REASONS: Readonly<Record<string, readonly [reason: string, hint: string]>> = {
  ENOENT: ['there is no such file', 'check the path; distributions keep theirs in /boot'],
  ENOTDIR: ['there is no such file', 'check the path; distributions keep theirs in /boot'],
  EACCES: ['this user may not read it', 'copy it to a place that this user can read, or change its mode'],
  EPERM: ['this user may not read it', 'copy it to a place that this user can read, or change its mode'],
};

/**
 * Opens a regular file for reading.
 * @throws CausewayError with `code`
 */
export function openBootFile(path: string, code: keyof typeof WHAT): BootFile {
  const fail = (reason: string, hint: string, cause?: unknown) =>
    new CausewayError(code, `${WHAT[code]} ${path} cannot be read: ${reason}`, { path, hint, cause });
  let fd: number;
  try {
    // O_NONBLOCK (0o4000): the path may be a FIFO, and opening that would wait for a writer.
    fd = openSync(path, 0o4000);
  } catch (error) {
    const errno = (error as NodeJS.ErrnoException).code ?? 'unknown error';
    const [reason, hint] = REASONS[errno] ?? [errno, 'check the path'];
    throw fail(reason, hint, error);
  }
  const stat = fstatSync(fd);
  if (!stat.isFile()) {
    closeSync(fd);
    throw fail(stat.isDirectory() ? 'it is a directory' : 'it is not a regular file', 'give the path of a file');
  }
  return { path, fd, sizeBytes: stat.size };
}

/** Up to `length` bytes at `offset`, fewer at the end of the file. */
export function readPiece(fd: number, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const got = readSync(fd, bytes, done, length - done, offset + done);
    if (got === 0) break;
    done += got;
  }
  return bytes.subarray(0, done);
}

/** A read never crosses a multiple of this; no window of guest RAM begins or ends elsewhere inside a valid range. */
const READ_ALIGN: number = 64 * MIB;

/**
 * Reads `sizeBytes` at `offset` into guest memory, with no copy in the heap.
 * @returns false when the file ends before that
 * @throws RangeError outside guest RAM
 */
export function readIntoGuest(
  fd: number,
  offset: number,
  memory: Pick<GuestMemory, 'bytes'>,
  gpa: number,
  sizeBytes: number,
): boolean {
  let done = 0;
  while (done < sizeBytes) {
    const at = gpa + done;
    const view = memory.bytes(at, Math.min(sizeBytes - done, READ_ALIGN - (at % READ_ALIGN)));
    const got = readSync(fd, view, 0, view.length, offset + done);
    if (got === 0) return false;
    done += got;
  }
  return true;
}
