/**
 * Runs inside the lab: one VM after the other with the same device, each with another answer to the device's error.
 * Whoever started it injects one when it says so. Usage: node device-errors.js '{"config": {...}, "bdf": "0000:01:00.0", "answers": ["stop"]}'
 */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  createVm,
  type DeviceConfig,
  type FunctionReport,
  type VmConfig,
  type VmEvent,
  type VmState,
} from '../../index.ts';
import { ERROR_WANTED } from './marks.ts';

type OnError = NonNullable<DeviceConfig['onError']>;

export interface ErrorOutcome {
  readonly events: readonly VmEvent[];
  readonly state: VmState;
  /** Occasions of the device's resets, in order. */
  readonly resets: readonly FunctionReport['resets'][number][];
}

export type ErrorOutcomes = Readonly<Record<OnError, ErrorOutcome>>;

const PATIENCE_MS = 30_000;
/** What an event leads to has happened by then. */
const AFTERMATH_MS = 2000;

async function meetError(config: VmConfig, bdf: string, onError: OnError): Promise<ErrorOutcome> {
  await using vm = await createVm({ ...config, devices: [{ bdf, onError }] });
  const events: VmEvent[] = [];
  const hasFailed = (async () => {
    for await (const event of vm.events()) {
      events.push(event);
      process.stderr.write(`event: ${JSON.stringify(event)}\n`);
      if (event.type === 'device') return;
    }
  })();
  await vm.start();
  await vm.serial.waitFor('R');
  process.stderr.write(`${ERROR_WANTED} for ${onError}\n`);
  await Promise.race([hasFailed, sleep(PATIENCE_MS)]);
  await sleep(AFTERMATH_MS);
  const { state } = vm;
  return { events, state, resets: vm.report().devices[0]?.resets ?? [] };
}

async function run(config: VmConfig, bdf: string, answers: readonly OnError[]): Promise<ErrorOutcomes> {
  const outcomes = {} as Record<OnError, ErrorOutcome>;
  for (const answer of answers) outcomes[answer] = await meetError(config, bdf, answer);
  return outcomes;
}

const { config, bdf, answers } = JSON.parse(process.argv[2]!);
process.stdout.write(`${JSON.stringify(await run(config, bdf, answers))}\n`);
