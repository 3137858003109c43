/**
 * Runs inside the lab: bare-metal payloads, one VM after the other, in one process.
 * Usage: node inside.js '[{"name": "pci edu", "kernel": "...", "device": "0000:01:00.0"}]'
 */
import { type PayloadJob, type PayloadRuns, runJob } from './job.ts';

const runs: Record<string, PayloadRuns[string]> = {};
for (const job of JSON.parse(process.argv[2]!) as PayloadJob[]) runs[job.name] = await runJob(job);
process.stdout.write(`${JSON.stringify(runs)}\n`);
