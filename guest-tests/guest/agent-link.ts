/**
 * The host's end of the line to the agent in a Linux guest. Requests and answers are lines; what the kernel or anybody
 * else writes in between is told apart, and an answer that did not arrive whole is asked for again.
 *
 * To the guest: `R seq length base64` run, `W seq length digest` run what the window holds, `A seq` answer again, `K seq` kill, `P seq` ping, `Q` power off.
 * From the guest, each on a line of its own that begins with `@`: `H release` the agent has started (`window`: it has one), `P seq` it is alive,
 * `P seq sent` it has answered already, `N seq` not understood, `O seq` and `E seq` before the base64 of what the command wrote to stdout and stderr (with `window` behind them it is
 * in the window instead), and last
 * `R seq code length length cut check digest - digest -`: exit code, lengths of both outputs, whether they were cut, a
 * checksum of the numbers, and the MD5 of each as md5sum(1) prints it; `-` alone for an empty one.
 */
import { createHash } from 'node:crypto';
import { CausewayError } from '../../vmm/base/errors.ts';
import { WINDOW } from './agent-script.ts';
import { delay } from './delay.ts';

/** Longer commands belong into a file: the guest's terminal holds so much while its agent looks away. */
export const MAX_COMMAND_BYTES = 32 * 1024;
/** How often an answer is asked for before the line counts as broken. */
const TRIES = 4;
/** Pings on a quiet line while an answer is waited for. */
const PING_MS = 5000;
/** A killed command must have answered by then. */
const KILL_GRACE_MS = 30_000;
/** The guest's script counts so. */
const CHECK_MODULUS = 65521;
const CHECK_WEIGHTS = [1, 3, 5, 7, 11] as const;

/** What a command left behind. */
export interface CommandResult {
  /** As the shell has it: 128 and more for a signal. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** The same, as they were written. */
  readonly stdoutBytes: Uint8Array;
  readonly stderrBytes: Uint8Array;
  /** More than 3 MiB were written; the rest is missing. */
  readonly isCut: boolean;
}

/** The serial port that the agent is behind. */
export interface Line {
  write(text: string): void;
  onData(listener: (bytes: Uint8Array) => void): () => void;
}

/** Memory that host and guest see alike; offsets in bytes. */
export interface Window {
  read(offset: number, length: number): Uint8Array;
  write(offset: number, bytes: Uint8Array): void;
}

/** Where an output is: lines of base64, or in the window. */
type Output = string[] | 'window';

interface Pending {
  readonly sequence: number;
  readonly command: Uint8Array;
  output: Output;
  errors: Output;
  target: string[] | undefined;
  triesLeft: number;
  settle(result: CommandResult): void;
  fail(error: Error): void;
}

export class AgentLink implements Disposable {
  /** Resolves with the guest's kernel release once the agent has started. */
  readonly ready: Promise<string>;
  readonly #line: Line;
  readonly #pingMs: number;
  readonly #window: Window | undefined;
  /** The guest's end can use the window, too. */
  #hasWindow = false;
  readonly #unsubscribe: () => void;
  #rest = '';
  #sequence = 0;
  #pending: Pending | undefined;
  #queue: Promise<unknown> = Promise.resolve();
  #lastHeardMs = performance.now();
  #closed: Error | undefined;
  #setReady: (release: string) => void = () => {};
  #failReady: (error: Error) => void = () => {};

  /** `pingMs`: how long the line is quiet before the agent is asked whether it lives. */
  constructor(line: Line, options: { readonly window?: Window | undefined; readonly pingMs?: number } = {}) {
    this.#line = line;
    this.#pingMs = options.pingMs ?? PING_MS;
    this.#window = options.window;
    this.ready = new Promise((resolve, reject) => {
      this.#setReady = resolve;
      this.#failReady = reject;
    });
    this.ready.catch(() => {});
    const decoder = new TextDecoder('latin1');
    this.#unsubscribe = line.onData((bytes) => this.#receive(decoder.decode(bytes)));
  }

  /** How long the agent has been silent, in ms. A busy one answers pings all the time. */
  get silentMs(): number {
    return performance.now() - this.#lastHeardMs;
  }

  /** Whether an answer is being waited for. */
  get isBusy(): boolean {
    return this.#pending !== undefined;
  }

  /**
   * Runs a command with busybox `sh`. Commands wait for each other. It is killed, with all it started, when its time is up.
   * @throws CausewayError TIMEOUT with what it wrote; USAGE for one that is too long; what {@link close} was given
   */
  run(command: string, timeoutMs: number): Promise<CommandResult> {
    if (Buffer.byteLength(command) > MAX_COMMAND_BYTES) {
      throw new CausewayError('USAGE', `the command has ${Buffer.byteLength(command)} bytes`, {
        hint: `put it into a file of the guest (files); ${MAX_COMMAND_BYTES} bytes are allowed`,
      });
    }
    const result = this.#queue.then(() => this.#run(command, timeoutMs));
    this.#queue = result.catch(() => {});
    return result;
  }

  /** Asks for power-off; nothing is answered. */
  powerOff(): void {
    this.#send('Q');
  }

  /** Ends what waits, with `error`. */
  close(error: Error): void {
    this.#closed ??= error;
    this.#unsubscribe();
    this.#pending?.fail(error);
    this.#failReady(error);
  }

  [Symbol.dispose](): void {
    this.close(new CausewayError('STATE', 'the guest has ended'));
  }

  async #run(command: string, timeoutMs: number): Promise<CommandResult> {
    if (this.#closed) throw this.#closed;
    this.#sequence++;
    const sequence = this.#sequence;
    const ended = new AbortController();
    try {
      const answer = new Promise<CommandResult>((settle, fail) => {
        const shared = { sequence, command: Buffer.from(command), triesLeft: TRIES, settle, fail };
        this.#pending = { ...shared, output: [], errors: [], target: undefined };
      });
      this.#lastHeardMs = performance.now();
      this.#ask(this.#pending!);
      void this.#keepAsking(sequence, ended.signal);
      const late = delay(timeoutMs, ended.signal).then(() => 'late' as const);
      const first = await Promise.race([answer, late]);
      if (first !== 'late') return first;
      this.#send(`K ${sequence}`);
      const grace = delay(KILL_GRACE_MS, ended.signal).then(() => undefined);
      throw timedOut(command, timeoutMs, await Promise.race([answer, grace]));
    } finally {
      this.#pending = undefined;
      ended.abort();
    }
  }

  /** Pings while the line is quiet: who waits can tell a slow command from a dead guest. */
  async #keepAsking(sequence: number, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await delay(this.#pingMs, signal);
      if (!signal.aborted && this.silentMs >= this.#pingMs) this.#send(`P ${sequence}`);
    }
  }

  #ask({ sequence, command }: Pending): void {
    if (this.#window && this.#hasWindow) {
      this.#window.write(WINDOW.command, command);
      this.#send(`W ${sequence} ${command.length} ${createHash('md5').update(command).digest('hex')}`);
      return;
    }
    const encoded = Buffer.from(command).toString('base64');
    this.#send(`R ${sequence} ${encoded.length} ${encoded}`);
  }

  #send(request: string): void {
    this.#line.write(`${request}\n`);
  }

  #receive(text: string): void {
    this.#lastHeardMs = performance.now();
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop()!;
    for (const line of lines) this.#take(line.replace(/\r$/, ''));
  }

  #take(line: string): void {
    if (!line.startsWith('@')) {
      this.#pending?.target?.push(line);
      return;
    }
    const [kind, ...words] = line.slice(1).split(' ');
    const pending = this.#pending;
    if (kind === 'H') this.#hello(words[0] ?? '', words[1] === 'window');
    else if (!pending || Number(words[0]) !== pending.sequence) return;
    else if (kind === 'O' || kind === 'E')
      this.#begin(pending, kind === 'O' ? 'output' : 'errors', words[1] === 'window');
    else if (kind === 'P' && words[1] === 'sent') this.#again(pending, 'answer');
    else if (kind === 'N') this.#again(pending, 'command');
    else if (kind === 'R') this.#finish(pending, words);
  }

  #begin(pending: Pending, which: 'output' | 'errors', isInWindow: boolean): void {
    pending.target = isInWindow ? undefined : [];
    pending[which] = pending.target ?? 'window';
  }

  #hello(release: string, hasWindow: boolean): void {
    this.#hasWindow = hasWindow;
    this.#setReady(release);
    // It was started anew, and what it was asked is forgotten.
    if (this.#pending) this.#again(this.#pending, 'command');
  }

  #finish(pending: Pending, words: readonly string[]): void {
    pending.target = undefined;
    const numbers = words.slice(0, CHECK_WEIGHTS.length).map(Number);
    const [, code = 0, outLength, errLength, cut] = numbers;
    const stdoutBytes = this.#bytesOf(pending.output, WINDOW.output, outLength);
    const stderrBytes = this.#bytesOf(pending.errors, WINDOW.errors, errLength);
    const isWhole =
      words[CHECK_WEIGHTS.length] === checkOf(numbers) &&
      stdoutBytes.length === outLength &&
      stderrBytes.length === errLength &&
      words.slice(CHECK_WEIGHTS.length + 1).join(' ') === `${digestOf(stdoutBytes)} ${digestOf(stderrBytes)}`;
    if (!isWhole) {
      this.#again(pending, 'answer');
      return;
    }
    const [stdout, stderr] = [stdoutBytes, stderrBytes].map((bytes) => Buffer.from(bytes).toString()) as [
      string,
      string,
    ];
    pending.settle({ code, stdout, stderr, stdoutBytes, stderrBytes, isCut: cut === 1 });
  }

  /** Of lines that are no base64 (somebody else wrote to the port) the digest comes out wrong. */
  #bytesOf(output: Output, place: number, length = 0): Uint8Array {
    if (output !== 'window') return Buffer.from(output.join(''), 'base64');
    const room = WINDOW.sizeBytes / 2;
    return this.#window && length > 0 && length < room ? this.#window.read(place, length) : new Uint8Array();
  }

  #again(pending: Pending, what: 'command' | 'answer'): void {
    pending.output = [];
    pending.errors = [];
    pending.target = undefined;
    pending.triesLeft--;
    if (pending.triesLeft > 0 && what === 'command') this.#ask(pending);
    else if (pending.triesLeft > 0) this.#send(`A ${pending.sequence}`);
    else pending.fail(new CausewayError('INTERNAL', `the guest's agent could not be understood ${TRIES} times`));
  }
}

function timedOut(command: string, timeoutMs: number, killed: CommandResult | undefined): CausewayError {
  const wrote = killed ? `${killed.stdout}${killed.stderr}`.trimEnd().slice(-2000) : '';
  const ending = killed ? (wrote === '' ? 'it wrote nothing' : `it wrote:\n${wrote}`) : 'it could not be killed either';
  return new CausewayError('TIMEOUT', `"${command.slice(0, 80)}" had not ended after ${timeoutMs} ms; ${ending}`);
}

function checkOf(numbers: readonly number[]): string {
  return `${CHECK_WEIGHTS.reduce((sum, weight, i) => sum + weight * (numbers[i] ?? Number.NaN), 0) % CHECK_MODULUS}`;
}

/** As md5sum(1) prints it for its standard input. It guards against accidents only. */
function digestOf(bytes: Uint8Array): string {
  return bytes.length === 0 ? '-' : `${createHash('md5').update(bytes).digest('hex')} -`;
}
