/** `npm run bench`: Causeway and QEMU side by side, in turns, on the same machine. */
import { runBenchmark } from './benchmark.ts';
import { HELP, parseOptions } from './options.ts';
import { runProgram } from './program.ts';
import { formatJson, formatMarkdown, formatTable } from './report.ts';

const FORMATS = { table: formatTable, json: formatJson, markdown: formatMarkdown } as const;

await runProgram({
  help: HELP,
  parse: parseOptions,
  measure: async (options, log, signal) => FORMATS[options.output](await runBenchmark(options, log, signal)),
});
