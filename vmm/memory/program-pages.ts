/**
 * Lets go of the pages of the program itself. To start, Node reads some 40 MB of its own binary, of which the running
 * machine needs half; guest RAM, which is pinned, comes on top of what is resident by then.
 */
import type { HostFiles, Hva, Memory } from '../../native/types.ts';
import type { Range } from '../base/ranges.ts';

/** Small mappings are not worth the call. */
const WORTH_BYTES = 1 << 20;

/** Drops what can be read again from the file at no loss. Never fails: it is a saving, nothing more. */
export function dropProgramPages(native: Pick<HostFiles, 'readFile' | 'readLink'> & Pick<Memory, 'dropPages'>): void {
  try {
    const program = native.readLink('/proc/self/exe');
    const smaps = new TextDecoder('latin1').decode(native.readFile('/proc/self/smaps'));
    for (const { start, size } of untouchedMappings(smaps, program)) native.dropPages(start as Hva, size);
  } catch {
    // No /proc, or a sandbox that forbids it.
  }
}

/**
 * The private mappings of `file` that may not be written to and hold nothing but the file. A page that was changed
 * (a relocation, a breakpoint, text that was moved to huge pages) is anonymous, and rules its whole mapping out.
 * @param smaps the text of /proc/self/smaps
 */
export function untouchedMappings(smaps: string, file: string): Range[] {
  const mappings = smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  return mappings.flatMap((mapping) => {
    const head = /^([0-9a-f]+)-([0-9a-f]+) r-[x-]p \S+ \S+ \S+ +(.*)$/m.exec(mapping);
    const isClean = /^Anonymous: +0 kB$/m.test(mapping);
    if (head?.[3] !== file || !isClean) return [];
    const start = Number.parseInt(head[1]!, 16);
    const size = Number.parseInt(head[2]!, 16) - start;
    return size >= WORTH_BYTES ? [{ start, size }] : [];
  });
}
