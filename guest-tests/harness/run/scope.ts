/** Everything that one attempt of a test starts, says and measures. Its fixtures stop working when the attempt is over. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { CausewayError } from '../../../vmm/base/errors.ts';
import type { DeviceFixture, Fixtures, HostFixture } from '../fixtures.ts';
import { isMultiboot, multibootToPvh } from '../foreign/multiboot.ts';
import { type ForeignReport, parseForeign } from '../foreign/parse.ts';
import { readTestKernel } from '../foreign/test-kernel.ts';
import type { GuestMaker, LinuxGuest, PayloadOptions, PayloadOutcome, Trouble } from '../guests.ts';
import type { MetricRecord, SubtestRecord } from '../model.ts';
import type { TestSpec } from '../registry.ts';
import { describe, Skipped } from './failures.ts';
import { summarise } from './metrics.ts';

export interface ScopeOptions {
  readonly spec: Pick<TestSpec, 'options'>;
  readonly devices: readonly (DeviceFixture & { kernelLog(): readonly string[] })[];
  readonly guests: GuestMaker;
  /** Receives guests' consoles; `guest` counts from 1. */
  onConsole(guest: number, bytes: Uint8Array): void;
  /** Receives lines of the test's log as they come. */
  onLog(line: string): void;
  /** Something happened: the test is not silent. */
  onActivity(): void;
}

const HOST_COMMAND_MS = 60_000;
/** What a payload's VM has (guest-tests/bare/run.ts). */
const PAYLOAD_MEMORY_BYTES = 32 * 2 ** 20;

/** A guest of this attempt. */
export interface OwnedGuest {
  readonly number: number;
  readonly guest: LinuxGuest;
  /** How much it printed, to see whether it still does. */
  consoleBytes: number;
  trouble: Trouble | undefined;
  /** Commands can be run. */
  isReady: boolean;
}

/** A multiboot kernel as a PVH kernel in a file of its own; others as they are. */
function bootable({ payload, args = '' }: PayloadOptions): Disposable & { readonly path: string } {
  const file = readFileSync(payload);
  if (!isMultiboot(file)) return { path: resolve(payload), [Symbol.dispose]: () => {} };
  const folder = mkdtempSync(join(tmpdir(), 'causeway-kernel-'));
  const words =
    typeof args === 'string'
      ? args
      : Object.entries(args)
          .map((pair) => pair.join('='))
          .join(' ');
  const path = join(folder, basename(payload));
  writeFileSync(path, multibootToPvh(file, payload, `${basename(payload)} ${words}`.trim(), PAYLOAD_MEMORY_BYTES));
  return { path, [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }) };
}

export class Scope {
  readonly subtests: SubtestRecord[] = [];
  readonly metrics: MetricRecord[] = [];
  readonly log: string[] = [];
  readonly guests: OwnedGuest[] = [];
  /** Starts that have not ended: a guest that comes late is still ours. */
  readonly #pending = new Set<Promise<unknown>>();
  readonly #abort = new AbortController();
  readonly #options: ScopeOptions;
  #guestCount = 0;
  /** Called for every guest that crashes or hangs. */
  onTrouble: (owned: OwnedGuest, trouble: Trouble) => void = () => {};

  constructor(options: ScopeOptions) {
    this.#options = options;
  }

  /** The fixtures refuse from now on, and what waits for `signal` ends. */
  end(): void {
    this.#abort.abort(new CausewayError('ABORTED', 'the test is over'));
  }

  /** Resolves when no start is under way. */
  async settled(): Promise<void> {
    while (this.#pending.size > 0) await Promise.allSettled([...this.#pending]);
  }

  get fixtures(): Fixtures {
    const { devices } = this.#options;
    const { device: wanted = true } = this.#options.spec.options;
    return {
      get device(): DeviceFixture {
        if (devices[0] && wanted !== 'all') return devices[0];
        const how = JSON.stringify(wanted).replaceAll('"', "'");
        throw new CausewayError('STATE', `this test was declared with { device: ${how} }: it has \`devices\``);
      },
      devices,
      boot: (options) => this.#boot(options ?? {}),
      payload: (name, options) => this.#payload({ ...options, payload: name }),
      testKernel: (file, options) => this.#testKernel({ ...options, payload: file }),
      log: (line) => this.#say(line),
      measure: (name, value, options) => {
        this.#metric(summarise(name, typeof value === 'number' ? [value] : value, options));
      },
      step: (name, body) => this.#step(name, body),
      foreign: async (guest, command, { format, timeoutMs, skipCode } = {}) => {
        const { code, stdout, stderr } = await guest.run(command, timeoutMs === undefined ? {} : { timeoutMs });
        const skip = skipCode === undefined ? {} : { skipCode };
        return this.#adopt(parseForeign({ text: stdout || stderr, code, name: command, ...skip }, format));
      },
      host: this.#host(),
      skip: (reason) => {
        throw new Skipped(reason);
      },
      signal: this.#abort.signal,
    };
  }

  #host(): HostFixture {
    return {
      exec: ([file = '', ...args], { timeoutMs = HOST_COMMAND_MS } = {}) =>
        new Promise((resolve, reject) => {
          const options = { timeout: timeoutMs, signal: this.#abort.signal, maxBuffer: 64 * 2 ** 20 };
          execFile(file, args, options, (error, stdout, stderr) => {
            this.#options.onActivity();
            if (error && typeof error.code !== 'number') reject(error);
            else resolve({ code: Number(error?.code ?? 0), stdout, stderr });
          });
        }),
      kernelLog: () => this.#options.devices[0]?.kernelLog() ?? [],
    };
  }

  #boot(options: Parameters<Fixtures['boot']>[0] & {}): Promise<LinuxGuest> {
    this.#check();
    const number = ++this.#guestCount;
    let printed = 0;
    let owned: OwnedGuest | undefined;
    const onConsole = (bytes: Uint8Array): void => {
      printed += bytes.length;
      if (owned) owned.consoleBytes = printed;
      this.#options.onActivity();
      this.#options.onConsole(number, bytes);
      options.onConsole?.(bytes);
    };
    // Owned before it runs: one that never gets ready must be asked and ended as well.
    const onCreated = (guest: LinuxGuest): void => {
      owned = { number, guest, consoleBytes: printed, trouble: undefined, isReady: false };
      this.guests.push(owned);
      void guest.trouble.then((trouble) => {
        if (owned!.trouble || trouble.kind === 'exit') return;
        owned!.trouble = trouble;
        this.onTrouble(owned!, trouble);
      });
      // Created too late.
      if (this.#abort.signal.aborted) void guest.kill().catch(() => {});
    };
    const booting = this.#options.guests
      .bootLinux({ devices: this.#bdfs, ...options, onConsole, onCreated })
      .then((guest) => {
        if (owned) owned.isReady = true;
        return guest;
      });
    return this.#track(booting);
  }

  async #payload(options: PayloadOptions): Promise<PayloadOutcome> {
    const outcome = await this.#runPayload(options);
    this.#adopt({
      format: 'tap',
      results: outcome.results.map(({ name, verdict, reason, tookUs }) => ({
        name,
        verdict: verdict === 'pass' ? 'PASS' : verdict === 'skip' ? 'SKIP' : 'FAIL',
        ...(reason === undefined ? {} : { reason }),
        ...(tookUs === undefined ? {} : { durationMs: tookUs / 1000 }),
      })),
    });
    for (const [name, { value, unit }] of Object.entries(outcome.metrics))
      this.#metric(summarise(name, [value], { unit }));
    // What payloads measure so are latencies; the percentiles stand for the values, in equal parts.
    for (const [name, { percentiles, unit }] of Object.entries(outcome.distributions ?? {})) {
      this.#metric(summarise(name, percentiles, { unit, better: 'lower' }));
    }
    return outcome;
  }

  async #testKernel(options: PayloadOptions): Promise<ForeignReport> {
    const name = basename(options.payload);
    using kernel = bootable(options);
    const { console, value, exit } = await this.#runPayload({ ...options, payload: kernel.path });
    const ending = exit ? `the VM ended with ${exit.reason}` : 'no end in time';
    const report = this.#adopt(readTestKernel({ name, console, status: value, ending }));
    const whole = report.results.at(-1)!;
    if (whole.verdict === 'SKIP') throw new Skipped(whole.reason ?? 'it says so');
    return report;
  }

  #runPayload(options: PayloadOptions): Promise<PayloadOutcome> {
    this.#check();
    const number = ++this.#guestCount;
    const encoder = new TextEncoder();
    const onConsole = (text: string): void => {
      this.#options.onActivity();
      this.#options.onConsole(number, encoder.encode(text));
      options.onConsole?.(text);
    };
    return this.#track(this.#options.guests.runPayload({ devices: this.#bdfs, ...options, onConsole }));
  }

  get #bdfs(): readonly string[] {
    return this.#options.devices.map(({ bdf }) => bdf);
  }

  async #step<T>(name: string, body: () => T | Promise<T>): Promise<T | undefined> {
    this.#check();
    const began = performance.now();
    const tell = (verdict: SubtestRecord['verdict'], reason?: string): void => {
      const durationMs = performance.now() - began;
      this.subtests.push({ name, verdict, ...(reason === undefined ? {} : { reason }), durationMs });
      this.#options.onActivity();
    };
    try {
      const value = await body();
      tell('PASS');
      return value;
    } catch (error) {
      // What ends the whole test is no matter of this step.
      if (this.#abort.signal.aborted) throw error;
      if (error instanceof Skipped) tell('SKIP', error.message);
      else tell('FAIL', describe(error));
      return undefined;
    }
  }

  #adopt(report: ForeignReport): ForeignReport {
    this.subtests.push(...report.results);
    this.#options.onActivity();
    return report;
  }

  #metric(metric: MetricRecord): void {
    this.metrics.push(metric);
    this.#say(
      metric.count === 1
        ? `${metric.name}: ${metric.p50} ${metric.unit}`
        : `${metric.name}: p50 ${metric.p50}, p99 ${metric.p99}, max ${metric.max} ${metric.unit} (${metric.count} values)`,
    );
  }

  #say(line: string): void {
    this.log.push(line);
    this.#options.onLog(line);
    this.#options.onActivity();
  }

  #check(): void {
    this.#abort.signal.throwIfAborted();
  }

  #track<T>(promise: Promise<T>): Promise<T> {
    this.#pending.add(promise);
    const forget = (): void => void this.#pending.delete(promise);
    promise.then(forget, forget);
    return promise;
  }
}
