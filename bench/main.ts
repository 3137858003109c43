/** `npm run bench`: Causeway and QEMU side by side, in turns, on the same machine. */
import { LabError } from '../lab/index.ts';
import { runBenchmark } from './benchmark.ts';
import { HELP, parseOptions, UsageError } from './options.ts';
import { formatJson, formatMarkdown, formatTable } from './report.ts';

const FORMATS = { table: formatTable, json: formatJson, markdown: formatMarkdown } as const;
const EXIT = { failed: 1, usage: 2, interrupted: 130 } as const;

async function main(words: readonly string[]): Promise<number> {
  const options = parseOptions(words);
  if (options.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const abort = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => abort.abort(new LabError('LAB_ABORTED', 'interrupted')));
  }
  const log = options.quiet ? () => {} : (line: string) => void process.stderr.write(`bench: ${line}\n`);
  try {
    const result = await runBenchmark(options, log, abort.signal);
    process.stdout.write(`${FORMATS[options.output](result)}\n`);
    return 0;
  } catch (error) {
    if (abort.signal.aborted) return EXIT.interrupted;
    throw error;
  }
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.exitCode = error instanceof UsageError ? EXIT.usage : EXIT.failed;
  process.stderr.write(`bench: ${(error as Error).message}\n`);
  if (error instanceof LabError && error.hint !== undefined) process.stderr.write(`  hint: ${error.hint}\n`);
}
