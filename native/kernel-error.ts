/** The error of the seam, in the shape that the addon throws too. */

import { constants } from 'node:os';
import type { KernelError } from './types.ts';

/** Symbolic errno (`EBUSY`) to its positive number. */
export const ERRNO: Readonly<Record<string, number>> = constants.errno;

const NAMES = new Map(Object.entries(constants.errno).map(([code, errno]) => [errno, code]));
// Two names share a number; the kernel's own comes first in its headers.
NAMES.set(constants.errno.EAGAIN, 'EAGAIN');
NAMES.set(constants.errno.EOPNOTSUPP, 'EOPNOTSUPP');

/** `16` to `EBUSY`; `E524` for a number without a name. */
export function errnoName(errno: number): string {
  return NAMES.get(errno) ?? `E${errno}`;
}

/**
 * Makes a KernelError.
 * @param syscall the call that failed, for example `VFIO_SET_IOMMU`
 * @param errno positive errno, or its name
 * @param path the file concerned
 */
export function kernelError(syscall: string, errno: number | string, path?: string): KernelError {
  const number = typeof errno === 'string' ? (ERRNO[errno] ?? 0) : errno;
  const code = errnoName(number);
  const error = new Error(`${syscall}: ${code}${path === undefined ? '' : `: ${path}`}`);
  return Object.assign(error, {
    name: 'KernelError' as const,
    code,
    errno: number,
    syscall,
    ...(path === undefined ? {} : { path }),
  });
}

/** Whether `error` came out of the seam, with a given code if one is named. */
export function isKernelError(error: unknown, code?: string): error is KernelError {
  return (
    error instanceof Error &&
    error.name === 'KernelError' &&
    'errno' in error &&
    (code === undefined || ('code' in error && error.code === code))
  );
}
