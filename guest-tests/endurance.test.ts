/** The same thing very often: cards that come and go, resets of a device at work, a guest that does anything. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Lab, LabOptions } from '../lab/index.ts';
import { buildPayloads, type Payloads } from './bare/build.ts';
import type { JobRun, PayloadJob } from './bare/job.ts';
import type { EnduranceResult } from './inside/endurance.ts';
import type { Holdings } from './inside/holdings.ts';
import type { HotplugResult } from './inside/hotplug.ts';
import { CARD_GONE, CARD_WORKS } from './inside/marks.ts';
import { protectedChanges } from './suites/support/protected-changes.ts';
import { aliveLab, openTestLab, runInside, say, tail } from './support/test-lab.ts';

const LAB: LabOptions = { kernel: '6.1', devices: ['edu', 'nvme'] };
const CYCLES = 100;
const RESETS = 100;
const CPUS = 2;
/** Of each processor. */
const OPERATIONS = 50_000;
const LONG_MS = 20 * 60_000;
/** Far less than one guest's memory. */
const GROWTH_MIB = 24;

let lab: Lab;
let payloads: Payloads;

beforeAll(async () => {
  payloads = await buildPayloads();
  lab = await openTestLab(LAB);
});

beforeEach(async () => {
  lab = await aliveLab(lab, LAB);
});

afterAll(async () => {
  await lab?.close();
});

function bdfOf(model: string): string {
  return lab.devices.find((device) => device.model === model)!.bdf;
}

/** Nothing stays behind: no file, thread, locked byte, or memory. */
function expectNothingLeaked(before: Holdings, after: Holdings): void {
  const memory = [before, after].map(({ residentMib }) => Math.round(residentMib));
  say(
    `files ${before.files.length} and ${after.files.length}, threads ${before.threads} and ${after.threads}, resident MiB ${memory}`,
  );
  expect(after.files).toEqual(before.files);
  expect(after.threads).toBe(before.threads);
  expect(after.lockedMib).toBe(0);
  expect(after.residentMib - before.residentMib).toBeLessThan(GROWTH_MIB);
}

/** Runs a payload briefly and for long on one device; everything passes, and the host is as it was. */
async function endure(model: string, short: PayloadJob['args'], long: PayloadJob['args']): Promise<JobRun> {
  const payload = model === 'edu' ? 'pci-stress' : 'nvme-reset';
  const job = {
    name: payload,
    kernel: payloads.get(payload)!,
    device: bdfOf(model),
    vm: { cpus: CPUS },
    timeoutMs: LONG_MS,
  };
  const wish = { short: { ...job, args: { cpus: CPUS, ...short } }, long: { ...job, args: { cpus: CPUS, ...long } } };
  const result = await runInside<EnduranceResult>(lab, 'endurance', wish, { timeoutMs: LONG_MS });
  const { run, before, after } = result;
  if ('error' in run) throw new Error(run.error);
  const measured = Object.entries(run.metrics).map(([name, { value, unit }]) => `${name} ${value} ${unit}`);
  say(`${payload}: ${Math.round(run.runMs / 1000)} s; ${measured.join(', ')}`);
  expect(run.results.filter(({ verdict }) => verdict !== 'pass')).toEqual([]);
  expect(run.exit).toEqual({ reason: 'debug-exit', value: 0 });
  expect(run.warnings).toEqual([]);
  const [configBefore, configAfter] = [run.hostConfig!.before, run.hostConfig!.after].map((hex) =>
    Buffer.from(hex, 'hex'),
  );
  expect(protectedChanges(configBefore!, configAfter!)).toEqual([]);
  expectNothingLeaked(before, after);
  return run;
}

test(
  'a hundred times a card comes, works and goes',
  async () => {
    const config = { kernel: payloads.get('slot')!, cmdline: `cycles=${CYCLES}`, memory: '32M', hotplugPorts: 1 };
    const wish = { config, bdf: bdfOf('nvme'), cycles: CYCLES, unbind: false };
    const result = await runInside<HotplugResult>(lab, 'hotplug', wish, { timeoutMs: LONG_MS });
    const log = tail(result.console);
    const most = (values: readonly number[]): number => Math.max(...values);
    say(`attached within ${most(result.attachMs)} ms each, detached within ${most(result.detachMs)} ms`);
    expect(result.exit, log).toEqual({ reason: 'debug-exit', value: 0 });
    for (const mark of [CARD_WORKS, CARD_GONE]) expect(result.console.split(mark), log).toHaveLength(CYCLES + 1);
    const types = result.events.map(({ type }) => type);
    expect(
      types.filter((type) => type === 'warning'),
      log,
    ).toEqual([]);
    for (const type of ['device-attached', 'device-detached']) {
      expect(types.filter((one) => one === type)).toHaveLength(CYCLES);
    }
    expectNothingLeaked(result.before, result.after);
  },
  LONG_MS,
);

test(
  'a hundred resets of a controller at work, while another processor accesses it',
  async () => {
    const { report, metrics } = await endure('nvme', { resets: 1 }, { resets: RESETS });
    expect(metrics.resets?.value).toBe(RESETS);
    const { resets } = report.devices[0]!;
    expect(resets.filter(({ when }) => when === 'guest')).toHaveLength(RESETS);
    expect(resets.filter(({ ok }) => !ok)).toEqual([]);
  },
  LONG_MS,
);

// Enforces I87.
test(
  'a hundred thousand random operations of all processors',
  async () => {
    const { metrics } = await endure('edu', { operations: 200 }, { operations: OPERATIONS, limit: LONG_MS });
    expect(metrics.operations?.value).toBe(CPUS * OPERATIONS);
  },
  LONG_MS,
);
