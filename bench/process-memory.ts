/** How much memory a process takes, as the kernel counts it. All in KiB. */
import { readFileSync } from 'node:fs';

export interface MemorySample {
  /** Highest resident size so far. */
  readonly peakKib: number;
  readonly anonKib: number;
  /** Pages of files: the program itself and its libraries; other processes may share them. */
  readonly fileKib: number;
  readonly shmemKib: number;
  /** Resident size where a page that n processes map counts 1/n. */
  readonly proportionalKib: number;
}

/**
 * @param before an earlier sample: the proportional size is taken from it, since it costs a walk over all pages
 * @returns undefined when the process is gone, or has let go of its memory
 */
export function readMemory(pid: number, before?: MemorySample): MemorySample | undefined {
  try {
    const status = parseKib(readFileSync(`/proc/${pid}/status`, 'latin1'));
    const { VmHWM: peakKib, RssAnon: anonKib, RssFile: fileKib, RssShmem: shmemKib } = status;
    if (peakKib === undefined || anonKib === undefined || fileKib === undefined || shmemKib === undefined) return;
    if (before) return { ...before, peakKib };
    const proportionalKib = parseKib(readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1')).Pss ?? 0;
    return { peakKib, anonKib, fileKib, shmemKib, proportionalKib };
  } catch {
    return undefined;
  }
}

/** The values of lines such as `VmHWM:   1234 kB`, by name. */
export function parseKib(text: string): Readonly<Record<string, number>> {
  return Object.fromEntries(
    [...text.matchAll(/^(\w+):\s*(\d+) kB$/gm)].map(([, name, value]) => [name, Number(value)]),
  );
}
