/** The command line of the benchmark. */
import { type ParseArgsConfig, parseArgs } from 'node:util';

export interface BenchOptions {
  readonly help: boolean;
  /** Counted pairs of runs; one more goes before them and is not counted. */
  readonly pairs: number;
  /** Exits per timed batch. */
  readonly exits: number;
  readonly memoryMib: number;
  /** Guest kernel: a Debian series or a path. */
  readonly kernel: string;
  /** QEMU series to compare with. */
  readonly qemu: string;
  readonly output: Output;
  readonly quiet: boolean;
}

export type Output = 'table' | 'json' | 'markdown';

/** Wrong words on the command line; the message is for the user. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

export const HELP = `Usage: npm run bench -- [OPTIONS]

Boots the lab with an e1000e bound to vfio-pci, and in it runs Causeway and QEMU in turns: same kernel, initrd,
command line, memory, one CPU, same device. Says how long each takes to the guest's first line from user space, how
much memory it takes above the guest's RAM, and what one exit to user space costs. Ratios are taken pair by pair;
below 1, Causeway is better. Nothing is written anywhere.

  --pairs N        counted pairs of runs (3); one more warms caches and is not counted
  --exits N        exits per timed batch (10000)
  --memory MIB     guest RAM for start and memory (512)
  --kernel NAME    guest kernel: a Debian series, or the path of a bzImage (6.1)
  --qemu 7.2|10    QEMU series to compare with (7.2)
  --json           the result as one JSON object, with every single measurement
  --markdown       the result as a table for a README
  --quiet          no progress on standard error
  --help           this text
`;

/** @throws UsageError */
export function parseOptions(words: readonly string[]): BenchOptions {
  const values = readWords(words, {
    ...COMMON_WORDS,
    exits: { type: 'string', default: '10000' },
    memory: { type: 'string', default: '512' },
    kernel: { type: 'string', default: '6.1' },
  });
  return {
    help: values.help,
    pairs: whole('--pairs', values.pairs, 1, 100),
    exits: whole('--exits', values.exits, 100, 10_000_000),
    memoryMib: whole('--memory', values.memory, 128, 65_536),
    kernel: values.kernel,
    qemu: values.qemu,
    output: outputOf(values),
    quiet: values.quiet,
  };
}

/** What every benchmark takes. */
export const COMMON_WORDS = {
  pairs: { type: 'string', default: '3' },
  qemu: { type: 'string', default: '7.2' },
  json: { type: 'boolean', default: false },
  markdown: { type: 'boolean', default: false },
  quiet: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

type WordOptions = NonNullable<ParseArgsConfig['options']>;

/** @throws UsageError */
export function readWords<const T extends WordOptions>(
  words: readonly string[],
  options: T,
): ReturnType<typeof parseArgs<{ args: string[]; options: T }>>['values'] {
  try {
    return parseArgs<{ args: string[]; options: T }>({ args: [...words], options }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** @throws UsageError when both are asked for */
export function outputOf({ json, markdown }: { readonly json: boolean; readonly markdown: boolean }): Output {
  if (json && markdown) throw new UsageError('give --json or --markdown, not both');
  return json ? 'json' : markdown ? 'markdown' : 'table';
}

/** @throws UsageError */
export function whole(option: string, text: string, min: number, max: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max)) {
    throw new UsageError(`${option} must be a whole number from ${min} to ${max}, not "${text}"`);
  }
  return value;
}
