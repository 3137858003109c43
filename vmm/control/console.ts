/** The guest's serial port as the user of a VM sees it: a log, live output, lines, waiting, typing. */

import { MIB } from '../base/bits.ts';
import { CausewayError } from '../base/errors.ts';
import type { SerialConsole } from './vm.ts';

/** The log keeps this much; older output is dropped. */
const LOG_LIMIT = MIB;

/** The side of a serial port that the user types at. */
export interface SerialInput {
  input(bytes: Uint8Array): void;
  sendBreak(): void;
}

export class Console implements SerialConsole {
  readonly #port: SerialInput;
  readonly #listeners = new Set<(bytes: Uint8Array) => void>();
  readonly #closers = new Set<() => void>();
  readonly #decoder = new TextDecoder();
  #text = '';
  #closed = false;

  /** @param port receives what the user types */
  constructor(port: SerialInput) {
    this.#port = port;
  }

  /** Output of the guest has arrived. */
  push(bytes: Uint8Array): void {
    this.#text += this.#decoder.decode(bytes, { stream: true });
    if (this.#text.length > 2 * LOG_LIMIT) this.#text = this.#text.slice(-LOG_LIMIT);
    for (const listener of [...this.#listeners]) listener(bytes);
  }

  /** No output comes any more. */
  end(): void {
    this.#closed = true;
    for (const close of [...this.#closers]) close();
  }

  onData(listener: (bytes: Uint8Array) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  text(): string {
    return this.#text;
  }

  write(input: string | Uint8Array): void {
    this.#port.input(typeof input === 'string' ? new TextEncoder().encode(input) : input);
  }

  sendBreak(): void {
    this.#port.sendBreak();
  }

  async *output(): AsyncGenerator<Uint8Array> {
    const queue: Uint8Array[] = [];
    let wake: () => void = () => {};
    const unsubscribe = this.onData((bytes) => {
      queue.push(bytes.slice());
      wake();
    });
    const close = () => wake();
    this.#closers.add(close);
    try {
      for (;;) {
        for (let bytes = queue.shift(); bytes; bytes = queue.shift()) yield bytes;
        if (this.#closed) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    } finally {
      unsubscribe();
      this.#closers.delete(close);
    }
  }

  async *lines(): AsyncGenerator<string> {
    const decoder = new TextDecoder();
    const live = this.output();
    let rest = '';
    for (let chunk: string | undefined = this.#text; chunk !== undefined; ) {
      const parts = (rest + chunk).split('\n');
      rest = parts.pop()!;
      for (const line of parts) yield line.replace(/\r$/, '');
      const next = await live.next();
      chunk = next.done ? undefined : decoder.decode(next.value, { stream: true });
    }
    if (rest) yield rest;
  }

  waitFor(
    pattern: string | RegExp,
    { timeoutMs, signal }: { readonly timeoutMs?: number; readonly signal?: AbortSignal } = {},
  ): Promise<RegExpMatchArray> {
    const regex = typeof pattern === 'string' ? new RegExp(pattern.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')) : pattern;
    return new Promise((resolve, reject) => {
      const finish = (settle: () => void) => {
        unsubscribe();
        this.#closers.delete(closed);
        clearTimeout(timer);
        signal?.removeEventListener('abort', aborted);
        settle();
      };
      const fail = (code: 'TIMEOUT' | 'ABORTED' | 'STATE', message: string) =>
        finish(() => reject(new CausewayError(code, `${message}; the console ends with:\n${tail(this.#text)}`)));
      const look = () => {
        const match = regex.exec(this.#text);
        if (match) finish(() => resolve(match));
        return match !== null;
      };
      const closed = () => look() || fail('STATE', `the VM ended before its console showed ${regex}`);
      const aborted = () => fail('ABORTED', `waiting for ${regex} was aborted`);
      const unsubscribe = this.onData(look);
      const timer =
        timeoutMs === undefined
          ? undefined
          : setTimeout(() => fail('TIMEOUT', `the console did not show ${regex} within ${timeoutMs} ms`), timeoutMs);
      this.#closers.add(closed);
      signal?.addEventListener('abort', aborted);
      if (signal?.aborted) aborted();
      else if (!look() && this.#closed) closed();
    });
  }
}

function tail(text: string): string {
  return text.slice(-2000);
}
