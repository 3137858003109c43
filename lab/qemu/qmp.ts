import type { Duplex } from 'node:stream';
import { LabError } from '../errors.ts';

/** A JSON value as QEMU sends it. */
export type QmpValue = null | boolean | number | string | QmpValue[] | { [key: string]: QmpValue };

/** Something that happened in QEMU, such as SHUTDOWN or DEVICE_DELETED. */
export interface QmpEvent {
  readonly event: string;
  readonly data: QmpValue;
}

interface Waiter {
  resolve(value: QmpValue): void;
  reject(error: LabError): void;
}

/** QEMU's control protocol over a stream. Commands are answered in order. */
export class Qmp {
  readonly #stream: Duplex;
  readonly #onEvent: (event: QmpEvent) => void;
  readonly #waiting: Waiter[] = [];
  #ended: LabError | undefined;

  constructor(stream: Duplex, onEvent: (event: QmpEvent) => void = () => {}) {
    this.#stream = stream;
    this.#onEvent = onEvent;
    let partial = '';
    stream.setEncoding('utf8');
    stream.on('data', (chunk: string) => {
      const lines = (partial + chunk).split('\n');
      partial = lines.pop() ?? '';
      for (const line of lines) if (line.trim() !== '') this.#receive(JSON.parse(line) as Record<string, QmpValue>);
    });
    const end = () => this.#end(new LabError('LAB_DIED', "QEMU's control channel closed"));
    stream.on('error', end);
    stream.on('close', end);
    stream.on('end', end);
  }

  /** Agree on the protocol; must come before the first other command. */
  async open(): Promise<void> {
    await this.execute('qmp_capabilities');
  }

  /** Run one command; an error answer is thrown as LAB_MONITOR_FAILED. */
  execute(command: string, args?: { [key: string]: QmpValue }): Promise<QmpValue> {
    if (this.#ended) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#stream.write(
        `${JSON.stringify(args === undefined ? { execute: command } : { execute: command, arguments: args })}\n`,
      );
    });
  }

  #receive(message: Record<string, QmpValue>): void {
    if ('event' in message) {
      this.#onEvent({ event: String(message.event), data: message.data ?? null });
    } else if ('return' in message) {
      this.#waiting.shift()?.resolve(message.return ?? null);
    } else if ('error' in message) {
      const text = (message.error as { desc?: string } | null)?.desc ?? 'unknown error';
      this.#waiting.shift()?.reject(new LabError('LAB_MONITOR_FAILED', text));
    }
  }

  #end(error: LabError): void {
    this.#ended ??= error;
    for (const waiter of this.#waiting.splice(0)) waiter.reject(error);
  }
}
