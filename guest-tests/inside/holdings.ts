/** What this process holds: measured before and after something that must leave nothing behind. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** What a process holds. */
export interface Holdings {
  /** Where each open file leads, sorted; numbers of sockets and pipes left out. */
  readonly files: readonly string[];
  readonly threads: number;
  readonly residentMib: number;
  /** Reachable objects. */
  readonly heapMib: number;
  /** Locked or pinned for devices. */
  readonly lockedMib: number;
  /** Of the whole lab. */
  readonly availableMib: number;
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Threads leave and garbage is freed a moment after the VM is closed. */
export async function settled(): Promise<Holdings> {
  await sleep(50);
  collectGarbage();
  await sleep(50);
  const status = readFileSync('/proc/self/status', 'utf8');
  return {
    files: openFiles(),
    threads: readdirSync('/proc/self/task').length,
    residentMib: kib(status, 'VmRSS') / 1024,
    heapMib: process.memoryUsage().heapUsed / 2 ** 20,
    lockedMib: (kib(status, 'VmLck') + kib(status, 'VmPin')) / 1024,
    availableMib: kib(readFileSync('/proc/meminfo', 'utf8'), 'MemAvailable') / 1024,
  };
}

function openFiles(): string[] {
  return readdirSync('/proc/self/fd')
    .flatMap((fd) => {
      try {
        return [readlinkSync(`/proc/self/fd/${fd}`).replace(/\d+/g, 'N')];
      } catch {
        // The directory's own.
        return [];
      }
    })
    .sort();
}

function kib(text: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s*(\\d+) kB`, 'm').exec(text)?.[1] ?? 0);
}
