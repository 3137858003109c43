/** A harness that is killed for good: its journal, its lease and its record of the device's driver outlive it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { BDF, spec, TestBench } from '../fakes/test-bench.ts';
import { readJournal } from './run-journal.ts';

/** This project's Node runs no TypeScript by itself. */
const LOADER = ['--import', import.meta.resolve('jiti/register')];
const PROGRAM = fileURLToPath(new URL('../fakes/killed-run.ts', import.meta.url));

/** The child compiles everything it loads. */
const LIMIT_MS = 120_000;

test('SIGKILL: the next run takes the device over, tells what killed the last, and goes on after it', {
  timeout: LIMIT_MS,
}, async () => {
  const state = mkdtempSync(join(tmpdir(), 'causeway-killed-'));
  const child = spawn(process.execPath, [...LOADER, PROGRAM, state], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await once(child, 'exit');

  const journal = join(state, 'run/journal.jsonl');
  const past = readJournal(journal);
  expect(past.results.map(({ name, verdict }) => `${verdict} ${name}`)).toEqual(['PASS done']);
  expect([...past.unfinished]).toEqual([['suite/killer @ 8086:10d3', 1]]);
  expect(past.hasEnded).toBe(false);
  expect(existsSync(join(state, 'leases', BDF)), 'its lease is still there').toBe(true);
  expect(existsSync(join(state, 'bindings', BDF)), 'and the record of the driver').toBe(true);

  // The same host, on which the device is still on vfio-pci.
  using bench = new TestBench(state);
  bench.kernel.files.writeFile(`/sys/bus/pci/devices/${BDF}/driver_override`, 'vfio-pci\n');
  bench.kernel.files.writeFile('/sys/bus/pci/drivers/e1000e/unbind', BDF);
  bench.kernel.files.writeFile('/sys/bus/pci/drivers_probe', BDF);
  expect(bench.driver).toBe('vfio-pci');
  const device = bench.device();
  expect(device.leftBy).toBe(state);
  expect(device.facts.driver, 'the host driver, not the one that the dead run bound').toBe('e1000e');
  const run = await bench.run(
    ['done', 'killer', 'next'].map((name) => spec(name, () => {})),
    { devices: [device], past },
  );
  expect(run.tests.map(({ name, verdict }) => `${verdict} ${name}`)).toEqual([
    'PASS done',
    'INFRA killer',
    'PASS next',
  ]);
  expect(bench.driver, 'given back to the driver of before the run that was killed').toBe('e1000e');
  expect(existsSync(join(state, 'leases', BDF))).toBe(false);
});
