/** What a run says: verdicts, and the records that `--json` prints. The schema is described in docs/testing.md. */

/** In the order in which they are told. */
export const VERDICTS = [
  'PASS',
  'FAIL',
  'SKIP',
  'XFAIL',
  'XPASS',
  'TIMEOUT',
  'CRASH',
  'HANG',
  'FLAKY',
  'INFRA',
] as const;

/**
 * PASS; FAIL: the test says so; SKIP: does not apply, with the reason; XFAIL: failed as announced; XPASS: announced to fail
 * and passed; TIMEOUT: a time ran out and the guest still lives; CRASH: panic, oops, triple fault in the guest; HANG: a
 * guest that makes no progress; FLAKY: failed, and passed when repeated; INFRA: device, host or VMM at fault.
 */
export type Verdict = (typeof VERDICTS)[number];

/** Verdicts that leave a run green. */
export const GREEN: readonly Verdict[] = ['PASS', 'SKIP', 'XFAIL', 'FLAKY'];

export const SCHEMA = 'causeway-test/1';

/** Exit codes of `causeway test`. */
export const TEST_EXIT = {
  green: 0,
  failed: 1,
  usage: 2,
  infra: 3,
  timeout: 124,
  interrupted: 130,
  crash: 255,
} as const;

/** One condition that the host checked after a test, without the guest's help. */
export interface Invariant {
  readonly name: string;
  readonly ok: boolean;
  /** What was seen; always there when it does not hold. */
  readonly detail?: string;
  /** It cannot be put right by a reset, or says that the device is gone: whatever the test said counts no more. */
  readonly isFatal?: boolean;
}

/** A step of a test, or one result of a foreign suite. */
export interface SubtestRecord {
  readonly name: string;
  readonly verdict: 'PASS' | 'FAIL' | 'SKIP' | 'XFAIL';
  readonly reason?: string;
  readonly durationMs?: number;
}

/** Bin of a histogram: `from` inclusive, `to` exclusive. */
export interface Bin {
  readonly from: number;
  readonly to: number;
  readonly count: number;
}

export interface MetricRecord {
  readonly name: string;
  readonly unit: string;
  /** Which direction is good; `compare` says slower only of those that have one. */
  readonly better?: 'lower' | 'higher';
  readonly count: number;
  readonly min: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  /** Absent for a single value. */
  readonly histogram?: readonly Bin[];
}

/** How a guest died. */
export interface CrashRecord {
  readonly kind: string;
  /** Kind and first functions of the trace: equal for equal bugs. */
  readonly fingerprint: string;
  /** The lines that say so. */
  readonly text: string;
}

/** One try of one test. */
export interface AttemptRecord {
  readonly verdict: Verdict;
  readonly reason?: string;
  readonly durationMs: number;
  readonly subtests: readonly SubtestRecord[];
  readonly metrics: readonly MetricRecord[];
  readonly invariants: readonly Invariant[];
  readonly log: readonly string[];
  /** Files in the run folder, relative to it. */
  readonly artifacts: readonly string[];
  readonly crash?: CrashRecord;
}

export interface TestRecord {
  /** `suite/name` and the device's key: what `compare` matches. */
  readonly id: string;
  readonly suite: string;
  readonly name: string;
  /** Label of the device; absent for a test without one. */
  readonly device?: string;
  readonly verdict: Verdict;
  readonly reason?: string;
  readonly durationMs: number;
  /** First try and repetitions, all of them. */
  readonly attempts: readonly AttemptRecord[];
}

/** One reset that the harness carried out. */
export interface ResetRecord {
  /** Why: `before test`, `after test`, or the test's own call. */
  readonly when: string;
  readonly method: string;
  readonly ok: boolean;
  readonly durationMs: number;
  /** Bytes of config space that differ from the state before the run; empty after a good reset. */
  readonly changed: readonly string[];
}

export interface DeviceRecord {
  /** Unique in the run: the model's name in the lab, else the address. */
  readonly label: string;
  /** `8086:10d3`, with `#2` for the second of a kind: the same on another host. */
  readonly key: string;
  readonly bdf: string;
  readonly name?: string;
  readonly classCode: number;
  readonly driver?: string;
  readonly resetMethods: readonly string[];
  /** Config space, hexadecimal, as the run found and left it. */
  readonly configBefore?: string;
  readonly configAfter?: string;
  readonly resets: readonly ResetRecord[];
  /** What keeps it from being used further. */
  readonly quarantine?: string;
  /** Whether it is back where it was. Absent while the run goes on. */
  readonly givenBack?: boolean;
}

export interface RunRecord {
  readonly schema: typeof SCHEMA;
  readonly startedAt: string;
  readonly durationMs: number;
  readonly host: { readonly kernel: string; readonly node: string; readonly causeway: string };
  readonly devices: readonly DeviceRecord[];
  readonly tests: readonly TestRecord[];
  readonly totals: Readonly<Partial<Record<Verdict, number>>>;
  /** Why the run ended before its end: `time is up`, a signal. */
  readonly aborted?: string;
  readonly exitCode: number;
}

/** Counts of verdicts. */
export function totalsOf(tests: readonly Pick<TestRecord, 'verdict'>[]): Partial<Record<Verdict, number>> {
  const totals: Partial<Record<Verdict, number>> = {};
  for (const { verdict } of tests) totals[verdict] = (totals[verdict] ?? 0) + 1;
  return totals;
}

/**
 * The worst decides: results of a run with INFRA are not to be trusted, a panic says more than a timeout, that more than a
 * failure.
 */
export function exitCodeOf(tests: readonly Pick<TestRecord, 'verdict'>[], devicesAreBack = true): number {
  const has = (...verdicts: Verdict[]): boolean => tests.some(({ verdict }) => verdicts.includes(verdict));
  if (has('INFRA') || !devicesAreBack) return TEST_EXIT.infra;
  if (has('CRASH')) return TEST_EXIT.crash;
  if (has('TIMEOUT', 'HANG')) return TEST_EXIT.timeout;
  return has('FAIL', 'XPASS') ? TEST_EXIT.failed : TEST_EXIT.green;
}
