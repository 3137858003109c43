/** What the methods of proto/causeway/v1/control.proto do with a VM. */
import type { MessageTypes, VmService } from '../../proto/index.ts';
import { CausewayError } from '../base/errors.ts';
import type { NormalVmConfig } from '../config/model.ts';
import { ByteLog, type LogPiece } from './byte-log.ts';
import { deviceFromMessage, permitFromMessage, vmConfigToMessage } from './config-message.ts';
import { EventJournal, type JournalEntry } from './event-journal.ts';
import {
  EVENT_KIND,
  eventToMessage,
  exitToMessage,
  type JournalEvent,
  reportToMessage,
  stateToMessage,
} from './messages.ts';
import type { Handlers } from './rpc/service.ts';
import type { Vm, VmEvent, VmExit } from './vm.ts';

/** Grants for one device, from a root-owned file or as lines. */
export interface ConfigPermitRequest {
  readonly bdf: string;
  /** Path of a root-owned file, or lines, which only a VMM of root takes; left out: every grant is withdrawn. */
  readonly configPermit?: string | readonly string[];
  readonly configPermitForce: boolean;
}

/** Bits of one dword of config space that the guest may use on the hardware. */
export interface PermittedBits {
  readonly offset: number;
  readonly readBits: number;
  readonly writeBits: number;
  readonly writeOnly?: boolean;
}

export interface ControlOptions {
  /** Told to clients that ask. */
  readonly config?: NormalVmConfig;
  /** Where the events come from; the VM's own stream when left out, which then is its first reader. */
  readonly events?: AsyncIterable<VmEvent>;
  /** Replaces a device's grants. @returns what is open now @throws CausewayError */
  permitConfig?(request: ConfigPermitRequest): readonly PermittedBits[];
  /** How many events are kept for those who come late. Default 1024. */
  readonly keepEvents?: number;
  /** How much output of the guest is kept, in bytes. Default 1 MiB. */
  readonly keepConsoleBytes?: number;
}

/** A longer timer would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

type Method<Name extends keyof typeof VmService> = Handlers<typeof VmService>[Name];

export class ControlService implements Handlers<typeof VmService> {
  readonly #vm: Vm;
  readonly #options: ControlOptions;
  readonly #journal: EventJournal<JournalEvent>;
  readonly #log: ByteLog;
  #stopListening: () => void = () => {};
  readonly #closed = new AbortController();
  #exit: VmExit | undefined;

  constructor(vm: Vm, options: ControlOptions) {
    this.#vm = vm;
    this.#options = options;
    this.#journal = new EventJournal(options.keepEvents);
    this.#log = new ByteLog(options.keepConsoleBytes);
  }

  /** Begins to listen to the VM. */
  start(): void {
    const vm = this.#vm;
    this.#log.append(new TextEncoder().encode(vm.serial.text()));
    this.#stopListening = vm.serial.onData((bytes) => this.#log.append(bytes));
    void this.#followEvents(this.#options.events ?? vm.events());
    vm.exited.then(
      (exit) => {
        this.#exit = exit;
        this.#log.finish();
        // The end comes after what was told before it, which is still on its way through the iterator.
        setImmediate(() => this.#journal.add({ type: 'exit', exit }));
      },
      () => this.#log.finish(),
    );
  }

  /** Ends every stream, after what is kept was sent. */
  close(): void {
    this.#closed.abort();
    this.#stopListening();
    this.#journal.end();
    this.#log.finish();
  }

  /** What the events say comes later than what the VM says: nobody waits for a reader. */
  async #followEvents(events: AsyncIterable<VmEvent>): Promise<void> {
    for await (const event of events) this.#journal.add(event);
    this.#journal.end();
  }

  readonly getVm: Method<'getVm'> = async () => {
    const { config } = this.#options;
    return {
      vm: {
        state: stateToMessage(this.#vm.state),
        pid: process.pid,
        report: reportToMessage(this.#vm.report()),
        exit: this.#exit && exitToMessage(this.#exit),
        config: config && vmConfigToMessage(config),
      },
    };
  };

  readonly pauseVm: Method<'pauseVm'> = async () => {
    await this.#vm.pause();
    return {};
  };

  readonly resumeVm: Method<'resumeVm'> = async () => {
    this.#vm.resume();
    return {};
  };

  readonly pressPowerButton: Method<'pressPowerButton'> = async () => {
    this.#vm.powerButton();
    return {};
  };

  readonly stopVm: Method<'stopVm'> = async () => {
    if (this.#vm.state === 'created') throw new CausewayError('STATE', 'the VM has not been started yet');
    await this.#vm.stop();
    return { exit: exitToMessage(await this.#vm.exited) };
  };

  readonly injectNmi: Method<'injectNmi'> = async () => {
    this.#vm.nmi();
    return {};
  };

  readonly waitVm: Method<'waitVm'> = async ({ timeoutMs }, { signal }) => {
    const exit = await withLimit(this.#vm.exited, timeoutMs, [signal, this.#closed.signal]);
    return { exit: exitToMessage(exit) };
  };

  async *subscribeEvents(
    { sinceEventId, kinds }: MessageTypes['SubscribeEventsRequest'],
    { signal }: { readonly signal: AbortSignal },
  ): AsyncGenerator<MessageTypes['VmEvent']> {
    const since = sinceEventId === undefined ? this.#journal.lastId : Number(sinceEventId);
    for await (const entry of this.#journal.read(since, signal)) {
      if (isWanted(entry, kinds)) yield eventToMessage(entry);
    }
  }

  async *attachConsole(
    requests: AsyncIterable<MessageTypes['AttachConsoleRequest']>,
    { signal }: { readonly signal: AbortSignal },
  ): AsyncGenerator<MessageTypes['ConsoleOutput']> {
    const input = requests[Symbol.asyncIterator]();
    const { value: first } = await input.next();
    const start = (first as MessageTypes['AttachConsoleRequest'] | undefined)?.start;
    if (!start) throw new CausewayError('USAGE', 'the first message to AttachConsole must be "start"');
    const broken = new AbortController();
    let fault: unknown;
    this.#type(input).catch((error: unknown) => {
      fault = error;
      broken.abort();
    });
    const from = start.offset === undefined ? this.#log.end : Number(start.offset);
    const pieces = this.#log.read(from, true, AbortSignal.any([signal, broken.signal]));
    for await (const piece of pieces) yield outputMessage(piece);
    if (fault !== undefined && !signal.aborted) throw fault;
  }

  /** What a client types goes to the guest, for as long as it types. */
  async #type(input: AsyncIterator<MessageTypes['AttachConsoleRequest']>): Promise<void> {
    for (let next = await input.next(); !next.done; next = await input.next()) {
      if (next.value.start) throw new CausewayError('USAGE', '"start" may come first only');
      // After the run nobody reads it; saying so to a client that types on would help nobody.
      if (next.value.data && !this.#exit) this.#vm.serial.write(next.value.data);
    }
  }

  async *readConsoleLog(
    { offset, follow }: MessageTypes['ReadConsoleLogRequest'],
    { signal }: { readonly signal: AbortSignal },
  ): AsyncGenerator<MessageTypes['ConsoleOutput']> {
    for await (const piece of this.#log.read(Number(offset), follow, signal)) yield outputMessage(piece);
  }

  readonly attachDevice: Method<'attachDevice'> = async ({ devices }) => {
    return this.#vm.attachDevice(devices.map(deviceFromMessage));
  };

  readonly detachDevice: Method<'detachDevice'> = async ({ bdf, timeoutMs, force }) => {
    return this.#vm.detachDevice(bdf, { force, ...(timeoutMs === undefined ? {} : { timeoutMs }) });
  };

  readonly configPermit: Method<'configPermit'> = async ({ bdf, force, ...permit }) => {
    const { permitConfig } = this.#options;
    if (!permitConfig) throw new CausewayError('DEVICE_NOT_FOUND', 'this VM has no assigned device');
    const source = permitFromMessage(permit);
    const request = { bdf, configPermitForce: force, ...(source === undefined ? {} : { configPermit: source }) };
    return { grants: permitConfig(request).map((grant) => ({ ...grant, writeOnly: grant.writeOnly ?? false })) };
  };
}

function isWanted(
  { content }: JournalEntry<JournalEvent>,
  kinds: MessageTypes['SubscribeEventsRequest']['kinds'],
): boolean {
  return kinds.length === 0 || 'dropped' in content || kinds.includes(EVENT_KIND.to(content.event.type));
}

function outputMessage({ offset, data, droppedBytes }: LogPiece): MessageTypes['ConsoleOutput'] {
  return { offset: BigInt(offset), data, droppedBytes: BigInt(droppedBytes) };
}

/** @throws CausewayError TIMEOUT, CONTROL_UNAVAILABLE when one of the signals is aborted */
function withLimit<T>(promise: Promise<T>, timeoutMs: number | undefined, signals: readonly AbortSignal[]): Promise<T> {
  const signal = AbortSignal.any([...signals]);
  let timer: NodeJS.Timeout | undefined;
  let aborted: (() => void) | undefined;
  const ended = new Promise<never>((_, reject) => {
    aborted = () => reject(new CausewayError('CONTROL_UNAVAILABLE', 'the control socket closes'));
    signal.addEventListener('abort', aborted, { once: true });
    if (timeoutMs === undefined) return;
    const late = (): void => reject(new CausewayError('TIMEOUT', `the VM has not ended within ${timeoutMs} ms`));
    timer = setTimeout(late, Math.min(timeoutMs, MAX_TIMER_MS));
  });
  return Promise.race([promise, ended]).finally(() => {
    clearTimeout(timer);
    if (aborted) signal.removeEventListener('abort', aborted);
  });
}
