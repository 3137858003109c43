/**
 * Runs inside the lab: a payload twice in one process, first briefly, then for long, and what the process holds after each.
 * Usage: node endurance.js '{"short": {...}, "long": {...}}'
 */
import { type PayloadJob, type PayloadRuns, runJob } from '../bare/job.ts';
import { type Holdings, settled } from './holdings.ts';

export interface EnduranceResult {
  readonly run: PayloadRuns[string];
  /** After the short run, which loads what stays. */
  readonly before: Holdings;
  readonly after: Holdings;
}

async function run({
  short,
  long,
}: {
  readonly short: PayloadJob;
  readonly long: PayloadJob;
}): Promise<EnduranceResult> {
  const rehearsal = await runJob(short);
  if ('error' in rehearsal) throw new Error(rehearsal.error);
  const before = await settled();
  const run = await runJob(long);
  return { run, before, after: await settled() };
}

process.stdout.write(`${JSON.stringify(await run(JSON.parse(process.argv[2]!)))}\n`);
