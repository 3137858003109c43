/** What this process is allowed to, from /proc/self/status. */
import type { HostFiles } from '../../native/types.ts';
import { readText } from './sysfs.ts';

/** Numbers of capabilities (include/uapi/linux/capability.h). */
export const CAPABILITY = { IPC_LOCK: 14 } as const;

/** Effective user id; undefined when it cannot be read. */
export function effectiveUser(files: HostFiles): number | undefined {
  const match = /^Uid:\s*\d+\s+(\d+)/m.exec(status(files));
  return match ? Number(match[1]) : undefined;
}

export function hasCapability(files: HostFiles, capability: number): boolean {
  const match = /^CapEff:\s*([0-9a-f]+)$/im.exec(status(files));
  return match !== null && ((BigInt(`0x${match[1]}`) >> BigInt(capability)) & 1n) === 1n;
}

function status(files: HostFiles): string {
  return readText(files, '/proc/self/status') ?? '';
}
