/** Why a run is to end before the guest ends it: a signal, the time limit, the escape key. */
import { constants } from 'node:os';
import { EXIT_CODE } from '../base/errors.ts';

export interface StopCause {
  readonly exitCode: number;
  /** For people; undefined when the user knows, having pressed the key. */
  readonly message?: string;
}

/** The part of `process` that is used. */
export interface SignalSource {
  on(signal: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown;
  off(signal: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown;
  /** Ends the process at once. The kernel closes what it held, and so gives the devices back. */
  exit(code: number): void;
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** npm and a terminal may both deliver one Ctrl-C: what follows so closely is the same wish. */
const SAME_WISH_MS = 300;

export class StopRequest implements Disposable {
  /** Resolves with the first cause. */
  readonly requested: Promise<StopCause>;
  cause: StopCause | undefined;
  readonly #abort = new AbortController();
  readonly #source: SignalSource;
  #resolve: (cause: StopCause) => void = () => {};
  #firstSignalAt: number | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(source: SignalSource, timeoutSeconds?: number) {
    this.#source = source;
    this.requested = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    for (const signal of SIGNALS) source.on(signal, this.#onSignal);
    if (timeoutSeconds !== undefined) {
      const message = `the time allowed ran out (${timeoutSeconds} s)`;
      this.#timer = setTimeout(() => this.request({ exitCode: EXIT_CODE.timeout, message }), timeoutSeconds * 1000);
    }
  }

  /** Aborted with the first cause. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Only the first request counts. */
  request(cause: StopCause): void {
    if (this.cause) return;
    this.cause = cause;
    this.#resolve(cause);
    this.#abort.abort();
  }

  readonly #onSignal = (signal: NodeJS.Signals): void => {
    const exitCode = 128 + constants.signals[signal];
    const now = performance.now();
    if (this.#firstSignalAt !== undefined && now - this.#firstSignalAt > SAME_WISH_MS) this.#source.exit(exitCode);
    this.#firstSignalAt ??= now;
    this.request({ exitCode, message: `${signal}: giving the devices back (once more to force)` });
  };

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    for (const signal of SIGNALS) this.#source.off(signal, this.#onSignal);
  }
}
