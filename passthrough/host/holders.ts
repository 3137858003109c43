/** Who has a file open: a scan of /proc, which sees other users' processes only as root. */
import type { HostFiles } from '../../native/types.ts';
import { readText } from './sysfs.ts';

export interface Holder {
  readonly pid: number;
  readonly command: string;
}

/** Processes that have `path` open, as far as this user may see. */
export function findHolders(files: HostFiles, path: string): Holder[] {
  return listDirectory(files, '/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) =>
      listDirectory(files, `/proc/${pid}/fd`).some((fd) => linksTo(files, `/proc/${pid}/fd/${fd}`, path)),
    )
    .map((pid) => ({ pid: Number(pid), command: readText(files, `/proc/${pid}/comm`) || 'unknown' }));
}

/** `qemu-system-x86 (pid 1234)`; undefined when nobody was found. */
export function describeHolders(files: HostFiles, path: string): string | undefined {
  const holders = findHolders(files, path).map(({ command, pid }) => `${command} (pid ${pid})`);
  return holders.length > 0 ? holders.join(', ') : undefined;
}

function listDirectory(files: HostFiles, path: string): string[] {
  try {
    return files.readDir(path);
  } catch {
    // The process ended, or is another user's.
    return [];
  }
}

function linksTo(files: HostFiles, link: string, target: string): boolean {
  try {
    return files.readLink(link) === target;
  } catch {
    return false;
  }
}
