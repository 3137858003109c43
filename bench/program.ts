/** What both benchmarks are as programs: options, interruption, exit code. */
import { LabError } from '../lab/index.ts';
import { UsageError } from './options.ts';

const EXIT = { failed: 1, usage: 2, interrupted: 130 } as const;

export interface Benchmark<T extends { readonly help: boolean; readonly quiet: boolean }> {
  readonly help: string;
  /** @throws UsageError */
  parse(words: readonly string[]): T;
  /** @returns what is printed. @throws Error, also when it was aborted */
  measure(options: T, log: (line: string) => void, signal: AbortSignal): Promise<string>;
}

/** Runs it with this process's arguments, and sets its exit code. Never rejects. */
export async function runProgram<T extends { readonly help: boolean; readonly quiet: boolean }>(
  benchmark: Benchmark<T>,
): Promise<void> {
  const abort = new AbortController();
  try {
    const options = benchmark.parse(process.argv.slice(2));
    if (options.help) {
      process.stdout.write(benchmark.help);
      return;
    }
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.once(signal, () => abort.abort(new LabError('LAB_ABORTED', 'interrupted')));
    }
    const log = options.quiet ? () => {} : (line: string) => void process.stderr.write(`bench: ${line}\n`);
    process.stdout.write(`${await benchmark.measure(options, log, abort.signal)}\n`);
  } catch (error) {
    process.exitCode = abort.signal.aborted ? EXIT.interrupted : error instanceof UsageError ? EXIT.usage : EXIT.failed;
    if (abort.signal.aborted) return;
    process.stderr.write(`bench: ${(error as Error).message}\n`);
    if (error instanceof LabError && error.hint !== undefined) process.stderr.write(`  hint: ${error.hint}\n`);
  }
}
