/**
 * Runs inside the lab: boots one small guest after the other and tells how each ended. One process for all, because
 * starting Node costs more than all of them. Usage: node payloads.js '{"name": {"config": {...}, "typed": "x"}}'
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { createVm, type VmConfig, type VmExit, type VmReport } from '../../index.ts';

export interface Payload {
  readonly config: VmConfig;
  /** Typed into the guest at once. */
  readonly typed?: string;
  /** The guest will not end by itself: it is stopped after this long. */
  readonly stopAfterMs?: number;
}

export interface Outcome {
  readonly exit: VmExit;
  readonly report: VmReport;
  readonly console: string;
  /** How long stopping it took. */
  readonly stopMs: number;
}

async function run({ config, typed, stopAfterMs }: Payload): Promise<Outcome> {
  await using vm = await createVm(config);
  await vm.start();
  if (typed !== undefined) vm.serial.write(typed);
  let stopMs = 0;
  if (stopAfterMs !== undefined) {
    await sleep(stopAfterMs);
    const asked = performance.now();
    await vm.stop();
    stopMs = Math.round(performance.now() - asked);
  }
  const exit = await vm.exited;
  return { exit, report: vm.report(), console: vm.serial.text(), stopMs };
}

const outcomes: Record<string, Outcome> = {};
for (const [name, payload] of Object.entries(JSON.parse(process.argv[2]!) as Record<string, Payload>)) {
  process.stderr.write(`${name}\n`);
  outcomes[name] = await run(payload);
  process.stderr.write(`${JSON.stringify(outcomes[name])}\n`);
}
process.stdout.write(`${JSON.stringify(outcomes)}\n`);
