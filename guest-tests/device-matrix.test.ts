/**
 * Every kind of device, assigned to a stock Linux guest whose driver does real work on it: one emulated host, one run of
 * the harness and one guest a batch. With CAUSEWAY_MATRIX=FILE in the environment QEMU does the same beside, and both are
 * written to that file.
 */
import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { guestKernel, qemu } from '../lab/index.ts';
import { BATCH_VARIABLE, BATCHES, type Batch } from './device-matrix/cases.ts';
import { matrixDocument } from './device-matrix/document.ts';
import { SPARE_MODULES } from './device-matrix/guest-script.ts';
import { mapWc } from './device-matrix/map-wc.ts';
import { CAUSEWAY, outcomeOf, QEMU_VARIABLE } from './device-matrix/results.ts';
import { guestImage } from './guest/index.ts';
import { GREEN, type RunRecord } from './harness/model.ts';
import { causewayTest, describeTest } from './support/harness-run.ts';
import { compiled } from './support/programs.ts';
import { say } from './support/test-lab.ts';

const SERIES = '6.1';
/** Two guests at most, and a second try of one. */
const LIMIT_MS = 30 * 60_000;
const documentFile = process.env.CAUSEWAY_MATRIX;
const runs = new Map<string, RunRecord>();

/** What the lab's slow processor would take long for, and could not keep. */
beforeAll(async () => {
  await mapWc();
  await guestImage({ kernel: await guestKernel(SERIES), modules: SPARE_MODULES });
});

async function runBatch({ name, cases }: Batch): Promise<RunRecord> {
  const models = cases.flatMap(({ device }) => (device === undefined ? [] : ['--lab', device]));
  // One emulated processor; see ONE_PROCESSOR of test-lab.ts.
  const words = [compiled('device-matrix/matrix'), ...models, '--lab-cpus', '1', '--retries', '1'];
  const env = { [BATCH_VARIABLE]: name, ...(documentFile ? { [QEMU_VARIABLE]: '1' } : {}) };
  const { run } = await causewayTest(words, { env });
  for (const { attempts } of run.tests) for (const line of attempts.at(-1)?.log ?? []) say(line);
  return run;
}

describe.each(BATCHES.filter(({ isForDocument }) => !isForDocument || documentFile))('$name', (batch) => {
  let run: RunRecord;

  beforeAll(async () => {
    run = await runBatch(batch);
    runs.set(batch.name, run);
  }, LIMIT_MS);

  test('one guest has all of them, and all of them are given back as they were', () => {
    const causeway = run.tests.find(({ name }) => name === CAUSEWAY)!;
    expect(GREEN, describeTest(causeway)).toContain(causeway.verdict);
    expect(run.devices).toHaveLength(batch.cases.length);
    for (const { givenBack, quarantine } of run.devices) expect([givenBack, quarantine]).toEqual([true, undefined]);
  });

  // With data compared at both ends, and interrupts of the kind that the case names: a step passes only then.
  test.each(batch.cases.map(({ name, about }) => [name, about] as const))('%s: %s', (name) => {
    expect(outcomeOf(run, CAUSEWAY, name)).toMatchObject({ works: true });
  });

  const combining = batch.cases.filter(({ work }) => work === 'memory' || work === 'screen').map(({ name }) => name);
  // Enforces H77.
  test.each(combining)('%s: the guest has its BAR write-combining, and its stores cost no exit', (name) => {
    // The guest works only if it finds the BAR in its kernel's list of memory types as it asked for it.
    expect(outcomeOf(run, CAUSEWAY, name)).toMatchObject({ works: true, exitsPerOperation: 0 });
  });
});

afterAll(async () => {
  const host = runs.values().next().value?.host.kernel;
  if (!documentFile || host === undefined) return;
  const facts = {
    host: `Linux ${host}`,
    guest: `Linux ${(await guestKernel(SERIES)).version}`,
    qemu: (await qemu()).version,
  };
  writeFileSync(documentFile, matrixDocument(runs, facts));
});
