/**
 * Runs inside the lab: pauses and resumes a guest at random moments, from its first instruction on, while it boots and
 * uses its card; then presses its power button. Usage: node pauses.js '{"config": {...}, "pauses": 25, "seed": 1}'
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { createVm, type VmConfig } from '../../index.ts';
import { GUEST_READY } from './marks.ts';
import { randomSource } from './random.ts';

const LONGEST_GAP_MS = 1500;
const PAUSE_MS = 120;

export interface PausesResult {
  readonly exit: string;
  /** How long each pause took to take hold, ms. */
  readonly latenciesMs: readonly number[];
  /** Exits counted and bytes printed while paused; all must be 0. */
  readonly exitsWhilePaused: readonly number[];
  readonly bytesWhilePaused: readonly number[];
  /** What a second resume was answered with. */
  readonly wrongState: string;
  readonly console: string;
}

async function run(config: VmConfig, pauses: number, seed: number): Promise<PausesResult> {
  const random = randomSource(seed);
  await using vm = await createVm(config);
  let printed = 0;
  vm.serial.onData((bytes) => {
    printed += bytes.length;
    process.stderr.write(bytes);
  });
  await vm.start();
  const latenciesMs: number[] = [];
  const exitsWhilePaused: number[] = [];
  const bytesWhilePaused: number[] = [];
  for (let count = 0; count < pauses; count++) {
    // The first one comes at once: the vCPU threads may not even have started.
    if (count > 0) await sleep(random() * LONGEST_GAP_MS);
    const asked = performance.now();
    await vm.pause();
    latenciesMs.push(Math.round(performance.now() - asked));
    // What was printed before the pause may still be on its way to us.
    await sleep(10);
    const [exits, bytes] = [vm.exits().total, printed];
    await sleep(PAUSE_MS);
    exitsWhilePaused.push(vm.exits().total - exits);
    bytesWhilePaused.push(printed - bytes);
    vm.resume();
  }
  const wrongState = attempt(() => vm.resume());
  await vm.serial.waitFor(GUEST_READY, { timeoutMs: 120_000 });
  vm.powerButton();
  const { reason } = await vm.exited;
  return { exit: reason, latenciesMs, exitsWhilePaused, bytesWhilePaused, wrongState, console: vm.serial.text() };
}

function attempt(call: () => void): string {
  try {
    call();
    return 'nothing';
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

const { config, pauses, seed } = JSON.parse(process.argv[2]!);
process.stdout.write(`${JSON.stringify(await run(config, pauses, seed))}\n`);
