/** Runs suites on devices, one test after the other: reserve, attempt, judge, journal, tell. */
import { release } from 'node:os';
import type { DeviceUnderTest } from '../device/device-under-test.ts';
import type { GuestMaker } from '../guests.ts';
import {
  type AttemptRecord,
  exitCodeOf,
  type Invariant,
  type RunRecord,
  SCHEMA,
  TEST_EXIT,
  type TestRecord,
  totalsOf,
  type Verdict,
} from '../model.ts';
import type { Need, TestSpec } from '../registry.ts';
import { type Limits, runAttempt } from './attempt.ts';
import { describe } from './failures.ts';
import { type Judgement, judge, overTries, REPEATABLE } from './judge.ts';
import type { RunFolder } from './run-folder.ts';
import { type Past, RunJournal } from './run-journal.ts';

export interface Suite {
  readonly name: string;
  readonly tests: readonly TestSpec[];
}

/** One test on one device, or without. */
export interface PlannedTest {
  readonly id: string;
  readonly suite: string;
  readonly spec: TestSpec;
  readonly device: DeviceUnderTest | undefined;
}

/** The tests of one suite on one device: a nested KTAP document. */
export interface PlannedGroup {
  readonly title: string;
  readonly tests: readonly PlannedTest[];
}

/** What is told while it runs. */
export interface RunListener {
  plan?(groups: readonly PlannedGroup[]): void;
  groupBegins?(group: PlannedGroup): void;
  testBegins?(test: PlannedTest, attempt: number): void;
  log?(test: PlannedTest, line: string): void;
  testEnds?(record: TestRecord): void;
  groupEnds?(group: PlannedGroup, records: readonly TestRecord[]): void;
  ends?(run: RunRecord): void;
}

export interface RunOptions {
  readonly suites: readonly Suite[];
  readonly devices: readonly DeviceUnderTest[];
  readonly guests: GuestMaker;
  readonly folder: RunFolder;
  readonly limits: Limits;
  /** Tries after a failure, for tests that name none. */
  readonly retries: number;
  /** For the whole run, in ms. */
  readonly runTimeoutMs?: number;
  /** Aborting ends the run in order; its reason is told. */
  readonly signal: AbortSignal;
  readonly listeners: readonly RunListener[];
  /** What an earlier process left in the folder. */
  readonly past?: Past;
  /** Version of Causeway, for the record. */
  readonly version: string;
}

const NO_DEVICE = 'no device was given (--device, --match, --lab)';

/** Keys of devices: `8086:10d3`, `8086:10d3#2`. */
export function deviceKeys(devices: readonly DeviceUnderTest[]): Map<DeviceUnderTest, string> {
  const counts = new Map<string, number>();
  const hex = (id: number): string => id.toString(16).padStart(4, '0');
  return new Map(
    devices.map((device) => {
      const ids = `${hex(device.facts.vendor)}:${hex(device.facts.device)}`;
      const count = (counts.get(ids) ?? 0) + 1;
      counts.set(ids, count);
      return [device, count === 1 ? ids : `${ids}#${count}`];
    }),
  );
}

/** Device by device, so that one that fails does not hold up the others' results; tests without a device first. */
export function planRun(suites: readonly Suite[], devices: readonly DeviceUnderTest[]): PlannedGroup[] {
  const keys = deviceKeys(devices);
  const group = (suite: Suite, device: DeviceUnderTest | undefined): PlannedGroup[] => {
    // Without any device, tests that need one are told as skipped.
    const wanted = suite.tests.filter(({ options }) =>
      device ? options.device !== false : options.device === false || devices.length === 0,
    );
    if (wanted.length === 0) return [];
    const key = device ? ` @ ${keys.get(device)}` : '';
    return [
      {
        title: device ? `${suite.name} on ${device.label}` : suite.name,
        tests: wanted.map((spec) => ({ id: `${suite.name}/${spec.name}${key}`, suite: suite.name, spec, device })),
      },
    ];
  };
  return [
    ...suites.flatMap((suite) => group(suite, undefined)),
    ...devices.flatMap((device) => suites.flatMap((suite) => group(suite, device))),
  ];
}

/** Runs everything and gives the devices back. Rejects only for a defect of the harness. */
export async function runSuites(options: RunOptions): Promise<RunRecord> {
  const run = new Run(options);
  try {
    return await run.toTheEnd();
  } finally {
    for (const device of options.devices) device.release();
  }
}

class Run {
  readonly #options: RunOptions;
  readonly #records: TestRecord[] = [];
  readonly #stop = new AbortController();
  readonly #began = performance.now();
  readonly #startedAt: string;
  /** Devices whose quarantine a test has been given INFRA for. */
  readonly #told = new Set<DeviceUnderTest>();

  constructor(options: RunOptions) {
    this.#options = options;
    this.#startedAt = options.past?.startedAt ?? new Date().toISOString();
  }

  async toTheEnd(): Promise<RunRecord> {
    const { suites, devices, folder, runTimeoutMs, signal } = this.#options;
    using journal = new RunJournal(folder.journal);
    journal.write({ type: 'run', startedAt: this.#startedAt, pid: process.pid });
    const onAbort = (): void => this.#stop.abort(signal.reason);
    signal.addEventListener('abort', onAbort);
    if (signal.aborted) onAbort();
    const late = (): void => this.#stop.abort(`the run's time is up (${runTimeoutMs! / 1000} s)`);
    const clock = runTimeoutMs === undefined ? undefined : setTimeout(late, runTimeoutMs);
    try {
      const groups = planRun(suites, devices);
      this.#tell('plan', groups);
      for (const group of groups) {
        if (this.#stop.signal.aborted) break;
        this.#tell('groupBegins', group);
        const records: TestRecord[] = [];
        for (const test of group.tests) {
          if (this.#stop.signal.aborted) break;
          const record = await this.#test(test, journal);
          if (record.verdict === 'TIMEOUT' && this.#options.signal.aborted) {
            journal.write({ type: 'interrupted', id: test.id });
            break;
          }
          records.push(record);
          this.#records.push(record);
          journal.write({ type: 'result', record });
          this.#tell('testEnds', record);
        }
        this.#tell('groupEnds', group, records);
      }
    } finally {
      clearTimeout(clock);
      signal.removeEventListener('abort', onAbort);
    }
    for (const device of devices) device.release();
    const result = this.record();
    journal.write({ type: 'end', exitCode: result.exitCode });
    this.#tell('ends', result);
    return result;
  }

  record(): RunRecord {
    const { devices, version } = this.#options;
    const keys = deviceKeys(devices);
    const told = devices.map((device) => device.record(keys.get(device)!));
    const reason: unknown = this.#stop.signal.aborted ? this.#stop.signal.reason : undefined;
    const areBack = told.every(({ givenBack }) => givenBack !== false);
    const byTests = exitCodeOf(this.#records, areBack);
    const isInterrupted = this.#options.signal.aborted;
    return {
      schema: SCHEMA,
      startedAt: this.#startedAt,
      durationMs: performance.now() - this.#began,
      host: { kernel: release(), node: process.versions.node, causeway: version },
      devices: told,
      tests: this.#records,
      totals: totalsOf(this.#records),
      ...(reason === undefined ? {} : { aborted: String(reason) }),
      exitCode: isInterrupted
        ? TEST_EXIT.interrupted
        : reason !== undefined && byTests < TEST_EXIT.timeout && byTests !== TEST_EXIT.infra
          ? TEST_EXIT.timeout
          : byTests,
    };
  }

  /** A record of the past is taken over, as is the fact that a test ended its process. */
  async #test(test: PlannedTest, journal: RunJournal): Promise<TestRecord> {
    const { past } = this.#options;
    const known = past?.results.find(({ id }) => id === test.id);
    if (known) return known;
    const tries = past?.unfinished.get(test.id);
    if (tries !== undefined) {
      const reason = `the harness itself died during this test (try ${tries}); the run was taken up after it`;
      return this.#unrun(test, 'INFRA', reason);
    }
    const unmet = unmetNeed(test);
    if (unmet !== undefined) return this.#unrun(test, 'SKIP', unmet);
    return this.#tries(test, journal);
  }

  async #tries(test: PlannedTest, journal: RunJournal): Promise<TestRecord> {
    const mostTries = 1 + (test.spec.options.retries ?? this.#options.retries);
    const attempts: AttemptRecord[] = [];
    const judgements: Judgement[] = [];
    for (let number = 1; number <= mostTries; number++) {
      journal.write({ type: 'attempted', id: test.id, attempt: number });
      this.#tell('testBegins', test, number);
      const attempt = await this.#attempt(test, number);
      attempts.push(attempt);
      judgements.push(attempt);
      if (!REPEATABLE.includes(attempt.verdict) || this.#stop.signal.aborted) break;
    }
    const { verdict, reason } = overTries(judgements);
    return this.#recordOf(test, verdict, reason, attempts);
  }

  async #attempt(test: PlannedTest, number: number): Promise<AttemptRecord> {
    const { guests, folder, limits } = this.#options;
    const { device, spec } = test;
    const began = performance.now();
    const unfit = device ? this.#prepare(device) : undefined;
    if (unfit) return { ...unfit, durationMs: performance.now() - began };
    const attempt = await runAttempt({
      spec,
      guests,
      limits,
      ...(device ? { device } : {}),
      folder: folder.attempt(test.id, number),
      signal: this.#stop.signal,
      onLog: (line) => this.#tell('log', test, line),
    });
    const { ending, ...rest } = attempt;
    const invariants = device ? this.#check(device, spec) : [];
    if (device?.quarantine !== undefined) this.#told.add(device);
    const { verdict, reason } = judge(ending, invariants, expectedFailure(test));
    return {
      verdict,
      ...(reason === undefined ? {} : { reason }),
      ...rest,
      invariants,
      ...(ending.crash ? { crash: ending.crash } : {}),
    };
  }

  /** @returns what to say in place of the test when the device cannot be used */
  #prepare(device: DeviceUnderTest): Omit<AttemptRecord, 'durationMs'> | undefined {
    const nothing = { subtests: [], metrics: [], log: [], artifacts: [] };
    let invariants: readonly Invariant[];
    try {
      invariants = device.beforeTest();
    } catch (error) {
      invariants = [{ name: 'device made ready', ok: false, detail: describe(error), isFatal: true }];
    }
    if (invariants.length === 0) {
      this.#told.delete(device);
      return undefined;
    }
    const what = invariants.map(({ name, detail }) => `${name}: ${detail}`).join('; ');
    if (this.#told.has(device)) {
      const reason = `not run: ${device.label} is in quarantine since an earlier test (${what})`;
      return { ...nothing, verdict: 'SKIP', reason, invariants };
    }
    this.#told.add(device);
    return { ...nothing, verdict: 'INFRA', reason: `not run: ${what}`, invariants };
  }

  #check(device: DeviceUnderTest, { options }: TestSpec): readonly Invariant[] {
    try {
      return device.afterTest(options.tolerates ?? []);
    } catch (error) {
      return [{ name: 'device checked', ok: false, detail: describe(error), isFatal: true }];
    }
  }

  #unrun(test: PlannedTest, verdict: Verdict, reason: string): TestRecord {
    return this.#recordOf(test, verdict, reason, []);
  }

  #recordOf(
    test: PlannedTest,
    verdict: Verdict,
    reason: string | undefined,
    attempts: readonly AttemptRecord[],
  ): TestRecord {
    return {
      id: test.id,
      suite: test.suite,
      name: test.spec.name,
      ...(test.device ? { device: test.device.label } : {}),
      verdict,
      ...(reason === undefined ? {} : { reason }),
      durationMs: attempts.reduce((sum, { durationMs }) => sum + durationMs, 0),
      attempts,
    };
  }

  /** A listener that fails must not end a run. */
  #tell<K extends keyof RunListener>(what: K, ...args: Parameters<NonNullable<RunListener[K]>>): void {
    for (const listener of this.#options.listeners) {
      try {
        (listener[what] as ((...all: typeof args) => void) | undefined)?.apply(listener, args);
      } catch (error) {
        process.stderr.write(`causeway test: cannot report: ${describe(error)}\n`);
      }
    }
  }
}

/** Reason for a SKIP before anything is started. */
function unmetNeed({ spec, device }: PlannedTest): string | undefined {
  if (spec.options.device === false) return undefined;
  if (!device) return NO_DEVICE;
  const { needs = [] } = spec.options;
  const all: readonly Need[] = typeof needs === 'function' ? [needs] : needs;
  for (const need of all) {
    const reason = need(device.facts);
    if (reason !== undefined) return reason;
  }
  return undefined;
}

function expectedFailure({ spec, device }: PlannedTest): string | undefined {
  const { expectFailure } = spec.options;
  return typeof expectFailure === 'function' ? expectFailure(device?.facts) : expectFailure;
}
