/** Files of the host over node:fs: the part of the seam that needs no C++. Errors become KernelErrors. */

import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeSync,
} from 'node:fs';
import { ERRNO, kernelError } from './kernel-error.ts';
import type { HostFiles, OwnedFile } from './types.ts';

/** Runs a call of node:fs and converts what it throws. */
function call<T>(syscall: string, path: string, body: () => T): T {
  try {
    return body();
  } catch (error) {
    // node:fs gives errors of libuv: a negative errno, and a path only where the call itself took one.
    if (error instanceof Error && 'code' in error && typeof error.code === 'string' && error.code in ERRNO) {
      const name = 'syscall' in error && typeof error.syscall === 'string' ? error.syscall : syscall;
      throw kernelError(name, error.code, path);
    }
    throw error;
  }
}

function writeFile(path: string, text: string): void {
  const bytes = Buffer.from(text);
  call('write', path, () => {
    // No O_CREAT: a missing sysfs attribute must be ENOENT. No O_TRUNC: sysfs takes one write(2) as one command.
    const fd = openSync(path, constants.O_WRONLY);
    try {
      if (writeSync(fd, bytes, 0, bytes.length) !== bytes.length) throw kernelError('write', 'EIO', path);
    } finally {
      closeSync(fd);
    }
  });
}

function readOwnedFile(path: string): OwnedFile {
  return call('open', path, () => {
    const fd = openSync(path, constants.O_RDONLY);
    try {
      const { uid, mode } = fstatSync(fd);
      return { bytes: new Uint8Array(readFileSync(fd)), uid, mode: mode & 0o7777 };
    } finally {
      closeSync(fd);
    }
  });
}

function access(path: string, mode: 'r' | 'rw'): number {
  try {
    accessSync(path, mode === 'r' ? constants.R_OK : constants.R_OK | constants.W_OK);
    return 0;
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'EIO';
    return -(ERRNO[code] ?? ERRNO.EIO!);
  }
}

/** The real files of this machine. */
export const hostFiles: HostFiles = {
  readFile: (path) => call('read', path, () => new Uint8Array(readFileSync(path))),
  readOwnedFile,
  writeFile,
  readDir: (path) => call('scandir', path, () => readdirSync(path)),
  readLink: (path) => call('readlink', path, () => readlinkSync(path)),
  exists: (path) => existsSync(path),
  access,
};
