/** The command line of the measurements of devices. */
import { COMMON_WORDS, type Output, outputOf, readWords, whole } from '../options.ts';

export interface LatencyOptions {
  readonly help: boolean;
  /** Counted pairs of runs; one more goes before them and is not counted. */
  readonly pairs: number;
  /** Values of each measure in one run. */
  readonly loops: number;
  /** Processors of the lab. */
  readonly cpus: number;
  /** QEMU series to compare with. */
  readonly qemu: string;
  readonly output: Output;
  readonly quiet: boolean;
}

export const LATENCY_HELP = `Usage: npm run bench:devices -- [OPTIONS]

Boots the lab with an edu, an NVMe drive and a display bound to vfio-pci, and in it runs Causeway and QEMU in turns: the
same bare-metal payload with the same device. Says how long an interrupt takes from the device to the guest's handler,
how long an access takes that traps and one that does not, and how fast a BAR is uncached and write-combining. Ratios
are of times, taken pair by pair; below 1, Causeway is better. Nothing is written anywhere.

  --pairs N        counted pairs of runs (3); one more warms caches and is not counted
  --loops N        values of each measure in one run (500)
  --cpus N         processors of the lab (2)
  --qemu 7.2|10    QEMU series to compare with (7.2)
  --json           the result as one JSON object
  --markdown       the result as a table for a document
  --quiet          no progress on standard error
  --help           this text
`;

/** @throws UsageError */
export function parseLatencyOptions(words: readonly string[]): LatencyOptions {
  const values = readWords(words, {
    ...COMMON_WORDS,
    loops: { type: 'string', default: '500' },
    cpus: { type: 'string', default: '2' },
  });
  return {
    help: values.help,
    pairs: whole('--pairs', values.pairs, 1, 100),
    loops: whole('--loops', values.loops, 100, 4096),
    cpus: whole('--cpus', values.cpus, 1, 16),
    qemu: values.qemu,
    output: outputOf(values),
    quiet: values.quiet,
  };
}
