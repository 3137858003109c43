/**
 * One run at a time has a device. A lease is a file that names the process and the folder of its results; that of a dead
 * process is taken over, and tells the next run what it left behind.
 */
import { closeSync, fsyncSync, linkSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { HostBdf } from '../../../native/types.ts';
import { CausewayError } from '../../../vmm/base/errors.ts';

export const LEASE_DIRECTORY = '/run/causeway/leases';

export interface LeaseHolder {
  readonly pid: number;
  /** Start of the process in ticks after boot: a number that was given out again is another process. */
  readonly startTicks: string;
  /** Folder of its results. */
  readonly folder: string;
}

export class Lease {
  /** Who had it, and died with it. */
  readonly previous: LeaseHolder | undefined;
  readonly #path: string;

  /** @throws CausewayError DEVICE_BUSY when a living process has it */
  constructor(bdf: HostBdf, folder: string, directory: string = LEASE_DIRECTORY) {
    this.#path = join(directory, bdf);
    this.previous = this.#take(bdf, { pid: process.pid, startTicks: startTicks(process.pid) ?? '', folder });
  }

  release(): void {
    rmSync(this.#path, { force: true });
  }

  #take(bdf: HostBdf, own: LeaseHolder): LeaseHolder | undefined {
    const draft = `${this.#path}.${process.pid}`;
    try {
      mkdirSync(join(this.#path, '..'), { recursive: true, mode: 0o755 });
      write(draft, `${JSON.stringify(own)}\n`);
      let previous: LeaseHolder | undefined;
      for (;;) {
        try {
          // Fails when it exists, and never leaves half a file.
          linkSync(draft, this.#path);
          return previous;
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
        }
        const holder = this.#read();
        if (holder && isRunning(holder)) {
          throw new CausewayError('DEVICE_BUSY', `${bdf} is under test by process ${holder.pid} (${holder.folder})`, {
            bdf,
            path: this.#path,
            hint: 'wait for that run, or end it with Ctrl-C',
          });
        }
        previous = holder;
        rmSync(this.#path, { force: true });
      }
    } finally {
      rmSync(draft, { force: true });
    }
  }

  #read(): LeaseHolder | undefined {
    try {
      const { pid, startTicks, folder } = JSON.parse(readFileSync(this.#path, 'utf8')) as Partial<LeaseHolder>;
      return Number.isInteger(pid) && typeof startTicks === 'string' && typeof folder === 'string'
        ? { pid: pid!, startTicks, folder }
        : undefined;
    } catch {
      return undefined;
    }
  }
}

function isRunning({ pid, startTicks: wanted }: LeaseHolder): boolean {
  const ticks = startTicks(pid);
  return ticks !== undefined && ticks === wanted;
}

/** Field 22 of /proc/PID/stat; the second one, the name, may contain spaces. */
function startTicks(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie is dead, though its parent has not looked yet.
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

function write(path: string, text: string): void {
  const fd = openSync(path, 'w', 0o644);
  try {
    writeSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
