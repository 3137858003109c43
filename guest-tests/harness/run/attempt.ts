/**
 * One try of one test: the function beside its clocks. Whatever ends first ends it; a guest in trouble is asked where it is,
 * written down, and ended, and nothing that was started stays.
 */
import { relative } from 'node:path';
import { CrashWatch } from '../../guest/crash-watch.ts';
import type { CrashRecord, MetricRecord, SubtestRecord } from '../model.ts';
import type { TestSpec } from '../registry.ts';
import { type Ending, endingOf } from './failures.ts';
import type { AttemptFolder } from './run-folder.ts';
import { type OwnedGuest, Scope, type ScopeOptions } from './scope.ts';

/** Times that hold for every test, in ms. */
export interface Limits {
  /** For a test that names none. */
  readonly testMs: number;
  /** For a test that names none; undefined: no limit. */
  readonly silenceMs: number | undefined;
  /** How long a guest may take to answer a key or an NMI, once it is late. */
  readonly escalationMs: number;
  /** How long guests may take to end, and a test function to notice that it is over. */
  readonly endMs: number;
}

export const LIMITS: Limits = { testMs: 120_000, silenceMs: undefined, escalationMs: 10_000, endMs: 30_000 };

export interface AttemptOptions extends Pick<ScopeOptions, 'devices' | 'guests' | 'onLog'> {
  readonly spec: TestSpec;
  readonly limits: Limits;
  readonly folder: AttemptFolder;
  /** The whole run is to end. */
  readonly signal: AbortSignal;
}

export interface Attempt {
  readonly ending: Ending;
  readonly durationMs: number;
  readonly subtests: readonly SubtestRecord[];
  readonly metrics: readonly MetricRecord[];
  readonly log: readonly string[];
  readonly artifacts: readonly string[];
}

/** A message that arrives just before its cause is known: a command fails because the guest has died. */
const CAUSE_MS = 250;

/** Says less than a report of the guest's kernel. */
const OUTDONE_BY_CRASH: readonly Ending['kind'][] = ['pass', 'fail', 'timeout'];

/** Never rejects. */
export async function runAttempt(options: AttemptOptions): Promise<Attempt> {
  const began = performance.now();
  const attempt = new RunningAttempt(options);
  const ending = await attempt.run();
  const { subtests, metrics, log } = attempt.scope;
  return {
    ending,
    durationMs: performance.now() - began,
    subtests,
    metrics,
    log,
    artifacts: options.folder.files().map((file) => relative(options.folder.root, file)),
  };
}

class RunningAttempt {
  readonly scope: Scope;
  readonly #options: AttemptOptions;
  readonly #early: Promise<Ending>;
  #endEarly: (ending: Ending) => void = () => {};
  #crash: Ending | undefined;
  #silence: NodeJS.Timeout | undefined;

  constructor(options: AttemptOptions) {
    this.#options = options;
    this.#early = new Promise((resolve) => {
      this.#endEarly = resolve;
    });
    this.scope = new Scope({
      ...options,
      onConsole: (guest, bytes) => options.folder.console(guest, bytes),
      onActivity: () => this.#silence?.refresh(),
    });
    this.scope.onTrouble = (_, { kind, what, fingerprint, text }) => {
      if (kind === 'exit' || options.spec.options.tolerates?.includes('guest-crash')) return;
      const crash: CrashRecord = { kind: what, fingerprint, text };
      this.#crash ??= { kind, reason: crash.fingerprint, crash };
      this.#endEarly(this.#crash);
    };
  }

  async run(): Promise<Ending> {
    const { spec, limits, signal } = this.#options;
    const { timeoutMs = limits.testMs, silenceMs = limits.silenceMs } = spec.options;
    const late = (reason: string) => () => this.#endEarly({ kind: 'timeout', reason });
    const clock = setTimeout(late(`the test took longer than ${seconds(timeoutMs)}`), timeoutMs);
    if (silenceMs !== undefined) {
      this.#silence = setTimeout(late(`nothing was heard for ${seconds(silenceMs)}`), silenceMs);
    }
    const onAbort = (): void => this.#endEarly({ kind: 'aborted', reason: String(signal.reason) });
    signal.addEventListener('abort', onAbort);
    if (signal.aborted) onAbort();
    try {
      const done = this.#call();
      const ending = await Promise.race([done, this.#early]);
      clearTimeout(clock);
      clearTimeout(this.#silence);
      return await this.#wrapUp(ending, done);
    } finally {
      clearTimeout(clock);
      clearTimeout(this.#silence);
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** The test function itself. */
  async #call(): Promise<Ending> {
    const { spec } = this.#options;
    try {
      await spec.run(this.scope.fixtures);
    } catch (error) {
      await sleep(CAUSE_MS);
      return this.#crash ?? endingOf(error);
    }
    const failed = this.scope.subtests.filter(({ verdict }) => verdict === 'FAIL');
    if (failed.length > 0) {
      const [first] = failed;
      const more = failed.length > 1 ? ` (and ${failed.length - 1} more)` : '';
      return { kind: 'fail', reason: `${first!.name}: ${first!.reason}${more}` };
    }
    const [first] = this.scope.subtests;
    // Nothing was tested at all.
    if (first && this.scope.subtests.every(({ verdict }) => verdict === 'SKIP')) {
      return { kind: 'skip', reason: first.reason ?? first.name };
    }
    return { kind: 'pass' };
  }

  /** A guest tells of a crash when its report is complete, which takes a while: here the test is over already. */
  #readConsoles(): void {
    for (const owned of this.scope.guests) {
      if (owned.trouble) continue;
      const watch = new CrashWatch({
        onTrouble: (trouble) => this.scope.onTrouble(owned, trouble),
        onWarning: () => {},
      });
      for (const line of owned.guest.console().split(/\r?\n/)) watch.line(line);
      watch.finish();
    }
  }

  /** Asks, dumps, ends. What comes out can be worse than `ending`, never better. */
  async #wrapUp(ending: Ending, done: Promise<Ending>): Promise<Ending> {
    const { limits, spec } = this.#options;
    this.#readConsoles();
    // A test that went well on a kernel that had an oops did not go well, and one that failed did so because of it.
    let result = this.#crash && OUTDONE_BY_CRASH.includes(ending.kind) ? this.#crash : ending;
    if (result.kind === 'timeout') result = await this.#whereIsIt(result);
    if (['timeout', 'hang', 'crash'].includes(result.kind)) await this.#dump();
    this.scope.end();
    const ended = await within(limits.endMs, this.#endGuests());
    if (!ended)
      return { kind: 'infra', reason: `a VM did not end within ${seconds(limits.endMs)}; before that: ${result.kind}` };
    if (typeof ended === 'string')
      return { kind: 'infra', reason: `${ended}; before that: ${result.reason ?? result.kind}` };
    if (!(await within(limits.endMs, done))) {
      this.#options.onLog(`the test function goes on though its test is over (${spec.name})`);
    }
    return result;
  }

  /**
   * A guest that is late: one that still takes a key of the keyboard, or of its serial console, lives. Else an NMI, which a
   * processor takes with interrupts off, may at least show where it is.
   */
  async #whereIsIt(late: Ending): Promise<Ending> {
    const { escalationMs } = this.#options.limits;
    const silent: OwnedGuest[] = [];
    for (const owned of this.scope.guests) {
      // One that never got ready has been ended by who waited for it.
      if (owned.guest.vm.state !== 'running') continue;
      const before = owned.consoleBytes;
      // A kernel takes keys only when it is up: silence of one that boots says nothing.
      if (owned.isReady) {
        await attemptTo(() => owned.guest.sysrq('w'));
        await sleep(escalationMs);
        if (owned.consoleBytes > before) continue;
        silent.push(owned);
      }
      await attemptTo(() => owned.guest.nmi());
      await sleep(escalationMs);
    }
    const booting = this.scope.guests
      .filter(({ isReady }) => !isReady)
      .map(({ number }) => `guest ${number} was booting`);
    if (silent.length === 0)
      return booting.length === 0 ? late : { ...late, reason: `${late.reason}: ${booting.join(', ')}` };
    const which = silent.map(({ number }) => number).join(', ');
    return { kind: 'hang', reason: `${late.reason}, and guest ${which} does not answer` };
  }

  async #dump(): Promise<void> {
    const { limits, folder } = this.#options;
    for (const { number, guest } of this.scope.guests) {
      await within(
        limits.endMs,
        attemptTo(() => guest.dump(folder.path(`crash-${number}`))),
      );
    }
    if (this.#crash?.crash)
      folder.write('crash.txt', `${this.#crash.crash.fingerprint}\n\n${this.#crash.crash.text}\n`);
  }

  /** @returns what went wrong; else true. Guests that are still starting are waited for. */
  async #endGuests(): Promise<true | string> {
    const faults: string[] = [];
    const killAll = async (): Promise<void> => {
      for (const { number, guest } of this.scope.guests.splice(0)) {
        await guest.kill().catch((error: unknown) => faults.push(`guest ${number} did not end: ${String(error)}`));
      }
    };
    await killAll();
    await this.scope.settled();
    await killAll();
    return faults.length > 0 ? faults.join('; ') : true;
  }
}

async function attemptTo(body: () => unknown): Promise<true> {
  try {
    await body();
  } catch {
    // The guest is beyond help; what can still be told of it is.
  }
  return true;
}

/** Undefined when it takes longer. */
async function within<T>(limitMs: number, promise: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), limitMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function seconds(ms: number): string {
  return `${ms / 1000} s`;
}
