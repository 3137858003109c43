/**
 * Runs test files of the harness under vitest: as a setup file, it makes `test()` declare a test of vitest's, which is carried
 * out by the harness, on the device in CAUSEWAY_TEST_DEVICE or, without one, for tests that need none.
 */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { expect, test as vitestTest } from 'vitest';
import { loadNative } from '../../native/index.ts';
import { normaliseBdf } from '../../passthrough/host/bdf.ts';
import { BindingJournal } from '../../passthrough/host/binding-journal.ts';
import type { DeviceUnderTest } from './device/device-under-test.ts';
import { openKernelLog } from './device/kernel-log.ts';
import { Lease } from './device/lease.ts';
import { takeDevices } from './device/take-devices.ts';
import type { GuestMaker } from './guests.ts';
import { GREEN, type TestRecord } from './model.ts';
import { realGuests } from './real-guests.ts';
import { install, type TestSpec } from './registry.ts';
import { LIMITS } from './run/attempt.ts';
import { RunFolder } from './run/run-folder.ts';
import { runSuites } from './run/runner.ts';

export interface VitestOptions {
  /** Takes the device for one test; by default that of CAUSEWAY_TEST_DEVICE. Undefined: there is none. */
  readonly device?: (folder: string) => DeviceUnderTest | undefined;
  readonly guests?: GuestMaker;
}

/** What the harness needs beside the test's own time: taking the device, resets, giving it back. */
const AROUND_MS = 120_000;

/** Sends what `test()` declares to vitest. @returns what ends that */
export function useVitest({ device = deviceOfEnvironment, guests = realGuests() }: VitestOptions = {}): () => void {
  return install({
    add: (spec) => {
      const timeout = (spec.options.timeoutMs ?? LIMITS.testMs) + AROUND_MS;
      vitestTest(spec.name, { timeout }, async (context) => {
        const record = await runOne(spec, device, guests);
        if (record.verdict === 'SKIP') context.skip(record.reason);
        if (!GREEN.includes(record.verdict))
          throw new Error(`${record.verdict}: ${record.reason ?? 'no reason given'}`);
      });
    },
  });
}

async function runOne(
  spec: TestSpec,
  take: NonNullable<VitestOptions['device']>,
  guests: GuestMaker,
): Promise<TestRecord> {
  const folder = new RunFolder(mkdtempSync(join(tmpdir(), 'causeway-test-')));
  const device = spec.options.device === false ? undefined : take(folder.path);
  const suite = basename(expect.getState().testPath ?? 'vitest').replace(/(\.test)?\.[jt]s$/, '');
  const run = await runSuites({
    suites: [{ name: suite, tests: [spec] }],
    devices: device ? [device] : [],
    guests,
    folder,
    limits: LIMITS,
    retries: 0,
    signal: new AbortController().signal,
    listeners: [],
    version: 'vitest',
  });
  return run.tests[0]!;
}

function deviceOfEnvironment(folder: string): DeviceUnderTest | undefined {
  const address = process.env.CAUSEWAY_TEST_DEVICE;
  if (address === undefined) return undefined;
  const bdf = normaliseBdf(address);
  const world = {
    native: loadNative(),
    journal: new BindingJournal(),
    openKernelLog,
    lease: () => new Lease(bdf, folder),
  };
  return takeDevices(world, [{ bdf, label: bdf }])[0];
}
