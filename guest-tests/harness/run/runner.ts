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
import { type Limits, runAttempt } from './attempt.ts';
import { describe } from './failures.ts';
import { type Judgement, judge, overTries, REPEATABLE } from './judge.ts';
import {
  deviceKeys,
  expectedFailure,
  type PlannedGroup,
  type PlannedTest,
  planRun,
  type Suite,
  unmetNeed,
} from './plan.ts';
import type { RunFolder } from './run-folder.ts';
import { type Past, RunJournal } from './run-journal.ts';

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
    const { devices, spec } = test;
    const began = performance.now();
    const unfit = this.#prepare(test);
    if (unfit) return { ...unfit, durationMs: performance.now() - began };
    const attempt = await runAttempt({
      spec,
      guests,
      limits,
      devices,
      folder: folder.attempt(test.id, number),
      signal: this.#stop.signal,
      onLog: (line) => this.#tell('log', test, line),
    });
    const { ending, ...rest } = attempt;
    const invariants = this.#check(test);
    for (const device of devices) if (device.quarantine !== undefined) this.#told.add(device);
    const { verdict, reason } = judge(ending, invariants, expectedFailure(test));
    return {
      verdict,
      ...(reason === undefined ? {} : { reason }),
      ...rest,
      invariants,
      ...(ending.crash ? { crash: ending.crash } : {}),
    };
  }

  /** @returns what to say in place of the test when a device cannot be used */
  #prepare(test: PlannedTest): Omit<AttemptRecord, 'durationMs'> | undefined {
    const nothing = { subtests: [], metrics: [], log: [], artifacts: [] };
    const unfit = test.devices.flatMap((device) => {
      const invariants = invariantsOf(test, device, 'made ready', () => device.beforeTest());
      if (invariants.length > 0) return [{ device, invariants }];
      this.#told.delete(device);
      return [];
    });
    if (unfit.length === 0) return undefined;
    const invariants = unfit.flatMap((each) => each.invariants);
    const what = invariants.map(({ name, detail }) => `${name}: ${detail}`).join('; ');
    if (unfit.every(({ device }) => this.#told.has(device))) {
      const labels = unfit.map(({ device }) => device.label).join(', ');
      const reason = `not run: ${labels} is in quarantine since an earlier test (${what})`;
      return { ...nothing, verdict: 'SKIP', reason, invariants };
    }
    for (const { device } of unfit) this.#told.add(device);
    return { ...nothing, verdict: 'INFRA', reason: `not run: ${what}`, invariants };
  }

  /** One that a test left with its host driver keeps its IOMMU group from being opened: all are taken back before any is reset. */
  #check(test: PlannedTest): readonly Invariant[] {
    const { devices, spec } = test;
    const { tolerates = [] } = spec.options;
    const taken = devices.flatMap((device) => invariantsOf(test, device, 'taken back', () => device.takeBack()));
    const found = devices.flatMap((device) => invariantsOf(test, device, 'checked', () => device.afterTest(tolerates)));
    return [...found, ...taken];
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
      ...(test.device === undefined ? {} : { device: test.device }),
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

/** What `look` finds, under the device's name where there are others; what it throws is fatal. */
function invariantsOf(
  { spec }: PlannedTest,
  { label }: DeviceUnderTest,
  what: string,
  look: () => readonly Invariant[],
): readonly Invariant[] {
  let found: readonly Invariant[];
  try {
    found = look();
  } catch (error) {
    found = [{ name: `device ${what}`, ok: false, detail: describe(error), isFatal: true }];
  }
  return spec.options.device === 'all' ? found.map((each) => ({ ...each, name: `${label}: ${each.name}` })) : found;
}
