/** `npm run bench:devices`: what a device costs under Causeway and under QEMU, side by side. */
import { runProgram } from '../program.ts';
import { LATENCY_HELP, parseLatencyOptions } from './options.ts';
import { latencyJson, latencyMarkdown, latencyTable } from './report.ts';
import { measureLatency } from './run.ts';

const FORMATS = { table: latencyTable, json: latencyJson, markdown: latencyMarkdown } as const;

await runProgram({
  help: LATENCY_HELP,
  parse: parseLatencyOptions,
  measure: async (options, log, signal) => FORMATS[options.output](await measureLatency(options, log, signal)),
});
