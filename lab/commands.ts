import { constants } from 'node:os';
import type { Duplex } from 'node:stream';
import {
  type ExitReport,
  encodeFrame,
  FrameReader,
  frameKinds,
  type ReadyReport,
  type SpawnRequest,
} from './agent/protocol.ts';
import { LabError } from './errors.ts';

/** How to run one command in the lab. */
export interface ExecOptions {
  /** Default: the caller's own working directory, which the lab has too. */
  readonly cwd?: string;
  /** Added to the lab's environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** After this long the command is killed and LAB_EXEC_TIMEOUT thrown. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Whether the result carries the output; default true. Switch it off when the output is long and consumed live. */
  readonly keepOutput?: boolean;
  readonly onStdout?: (chunk: Buffer) => void;
  readonly onStderr?: (chunk: Buffer) => void;
  /** Text, bytes or a stream; default: nothing. */
  readonly stdin?: string | Uint8Array | AsyncIterable<Uint8Array | string>;
}

/** How a command ended. A command that a signal ended has code 128 + its number, as in a shell. */
export interface ExecResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly signal?: string;
}

interface Command {
  readonly stdout: Buffer[];
  readonly stderr: Buffer[];
  readonly options: ExecOptions;
  resolve(result: ExecResult): void;
  reject(error: LabError): void;
}

/** How long a killed command may take to be reported before the lab counts as hung. */
const killGraceMs = 15_000;

/** The owner's side of the agent's channel: many commands at once over one stream. */
export class Commands {
  /** Settles when the lab is ready for commands. */
  readonly ready: Promise<ReadyReport>;
  readonly #stream: Duplex;
  readonly #running = new Map<number, Command>();
  #next = 1;
  #failure: LabError | undefined;
  #failReady: (error: LabError) => void = () => {};

  constructor(stream: Duplex) {
    this.#stream = stream;
    const reader = new FrameReader();
    this.ready = new Promise((resolve, reject) => {
      this.#failReady = reject;
      stream.on('data', (chunk: Buffer) => {
        for (const { kind, id, payload } of reader.push(chunk)) {
          if (kind === frameKinds.ready) resolve(JSON.parse(payload.toString()) as ReadyReport);
          else this.#receive(kind, id, payload);
        }
      });
    });
    this.ready.catch(() => {});
    stream.on('error', () => {});
  }

  /** Start a command and wait for its end. */
  run(request: SpawnRequest, options: ExecOptions): Promise<ExecResult> {
    if (this.#failure) return Promise.reject(this.#failure);
    if (options.signal?.aborted) return Promise.reject(aborted());
    const id = this.#next++;
    const kill = (signal: string) => this.#send(frameKinds.kill, id, signal);
    let verdict: LabError | undefined;
    let timer: NodeJS.Timeout | undefined;
    let grace: NodeJS.Timeout | undefined;
    const stop = (error: LabError) => {
      verdict ??= error;
      kill('SIGKILL');
      grace ??= setTimeout(() => {
        const hung = new LabError('LAB_HUNG', `the lab does not answer; it was asked to end ${request.argv.join(' ')}`);
        this.#running.get(id)?.reject(hung);
      }, killGraceMs);
    };
    const onAbort = () => stop(aborted());
    const result = new Promise<ExecResult>((resolve, reject) => {
      this.#running.set(id, { stdout: [], stderr: [], options, resolve, reject });
      this.#send(frameKinds.spawn, id, JSON.stringify(request));
      this.#feed(id, options.stdin).catch(() => this.#send(frameKinds.stdinEnd, id));
      options.signal?.addEventListener('abort', onAbort, { once: true });
      const { timeoutMs } = options;
      if (timeoutMs === undefined) return;
      const late = `${request.argv.join(' ')} took longer than ${timeoutMs} ms`;
      timer = setTimeout(() => stop(new LabError('LAB_EXEC_TIMEOUT', late)), timeoutMs);
    });
    return result
      .then((value) => {
        if (verdict) throw verdict;
        return value;
      })
      .finally(() => {
        clearTimeout(timer);
        clearTimeout(grace);
        options.signal?.removeEventListener('abort', onAbort);
        this.#running.delete(id);
      });
  }

  /** Send a signal to every running command: what a terminal does on Ctrl-C. */
  signalAll(signal: string): void {
    for (const id of this.#running.keys()) this.#send(frameKinds.kill, id, signal);
  }

  /** Ask the lab to switch itself off. */
  powerOff(): void {
    this.#send(frameKinds.powerOff, 0);
  }

  /** Everything running or to come fails with this. */
  fail(error: LabError): void {
    this.#failure ??= error;
    this.#failReady(error);
    for (const command of this.#running.values()) command.reject(error);
  }

  #send(kind: number, id: number, payload?: Uint8Array | string): boolean {
    return !this.#stream.writable || this.#stream.write(encodeFrame(kind, id, payload));
  }

  async #feed(id: number, stdin: ExecOptions['stdin']): Promise<void> {
    const source = typeof stdin === 'string' || stdin instanceof Uint8Array ? [stdin] : (stdin ?? []);
    for await (const chunk of source) {
      if (!this.#running.has(id)) return;
      const bytes = Buffer.from(chunk as string);
      for (let at = 0; at < bytes.length; at += 1 << 16) {
        const flowing = this.#send(frameKinds.stdin, id, bytes.subarray(at, at + (1 << 16)));
        if (!flowing) await new Promise((resolve) => this.#stream.once('drain', resolve));
      }
    }
    this.#send(frameKinds.stdinEnd, id);
  }

  #receive(kind: number, id: number, payload: Buffer): void {
    const command = this.#running.get(id);
    if (command === undefined) return;
    if (kind === frameKinds.stdout) {
      if (command.options.keepOutput !== false) command.stdout.push(Buffer.from(payload));
      command.options.onStdout?.(Buffer.from(payload));
    } else if (kind === frameKinds.stderr) {
      if (command.options.keepOutput !== false) command.stderr.push(Buffer.from(payload));
      command.options.onStderr?.(Buffer.from(payload));
    } else if (kind === frameKinds.failed) {
      command.reject(new LabError('LAB_EXEC_FAILED', payload.toString()));
    } else if (kind === frameKinds.exit) {
      command.resolve(resultOf(command, JSON.parse(payload.toString()) as ExitReport));
    }
  }
}

function resultOf(command: Command, { code, signal }: ExitReport): ExecResult {
  const stdout = Buffer.concat(command.stdout).toString();
  const stderr = Buffer.concat(command.stderr).toString();
  if (signal === null) return { code: code ?? 0, stdout, stderr };
  return { code: 128 + (constants.signals[signal as NodeJS.Signals] ?? 0), stdout, stderr, signal };
}

function aborted(): LabError {
  return new LabError('LAB_ABORTED', 'the command was aborted');
}
