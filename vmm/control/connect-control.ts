/** The client of a control socket, in the objects of the public interface. */
import { type MessageTypes, VmService } from '../../proto/index.ts';
import { CausewayError } from '../base/errors.ts';
import type { DeviceConfig, VmConfig } from '../config/model.ts';
import { normaliseDevices } from '../config/normalise.ts';
import { deviceToMessage, permitToMessage, vmConfigFromMessage } from './config-message.ts';
import type { ConfigPermitRequest, PermittedBits } from './control-service.ts';
import {
  type ControlEvent,
  detachedFromMessage,
  EVENT_KIND,
  eventFromMessage,
  exitFromMessage,
  reportFromMessage,
  stateFromMessage,
} from './messages.ts';
import { RpcClient } from './rpc/client.ts';
import type { CallOptions, Stub } from './rpc/service.ts';
import { connectTo, controlPath } from './socket.ts';
import type { AttachedDevice, DetachedDevice, DetachOptions, VmExit, VmReport, VmState } from './vm.ts';
import { toNumber } from './wire-values.ts';

export interface VmInfo {
  readonly state: VmState;
  /** Process of the virtual machine monitor. */
  readonly pid: number;
  readonly report: VmReport;
  /** Once the run has ended. */
  readonly exit?: VmExit;
  readonly config?: VmConfig;
}

/** A piece of the guest's output. */
export interface ConsolePiece {
  /** Bytes that the guest wrote before `data`. To resume, ask for `offset` plus the length of `data`. */
  readonly offset: number;
  readonly data: Uint8Array;
  /** Bytes right before `data` that are lost. */
  readonly droppedBytes: number;
}

export interface EventOptions extends CallOptions {
  /** Events after this one, as far as they are kept; 0 for all that are. Left out: only those to come. */
  readonly sinceEventId?: number;
  /** Only these. Default: all. `dropped` always comes. */
  readonly kinds?: readonly Exclude<ControlEvent['type'], 'dropped'>[];
}

/** A connection to one VM. Every call throws CausewayError: what the VM threw, or CONTROL_UNAVAILABLE when it has gone. */
export class ControlClient implements Disposable {
  readonly #rpc: RpcClient;
  readonly #stub: Stub<typeof VmService>;

  constructor(rpc: RpcClient) {
    this.#rpc = rpc;
    this.#stub = rpc.stub(VmService);
  }

  async info(options?: CallOptions): Promise<VmInfo> {
    const { vm } = await this.#stub.getVm({}, options);
    if (!vm?.report) throw new CausewayError('INTERNAL', 'the VM answered with nothing');
    return {
      state: stateFromMessage(vm.state),
      pid: vm.pid,
      report: reportFromMessage(vm.report),
      ...(vm.exit ? { exit: exitFromMessage(vm.exit) } : {}),
      ...(vm.config ? { config: vmConfigFromMessage(vm.config) } : {}),
    };
  }

  /** Resolves when no vCPU runs any more. */
  async pause(options?: CallOptions): Promise<void> {
    await this.#stub.pauseVm({}, options);
  }

  async resume(options?: CallOptions): Promise<void> {
    await this.#stub.resumeVm({}, options);
  }

  async powerButton(options?: CallOptions): Promise<void> {
    await this.#stub.pressPowerButton({}, options);
  }

  /** Ends the run at once. */
  async stop(options?: CallOptions): Promise<VmExit> {
    return exitFromMessage((await this.#stub.stopVm({}, options)).exit);
  }

  async nmi(options?: CallOptions): Promise<void> {
    await this.#stub.injectNmi({}, options);
  }

  /** Resolves when the run has ended, however it ends. */
  async wait(options?: CallOptions): Promise<VmExit> {
    return exitFromMessage((await this.#stub.waitVm({ timeoutMs: undefined }, options)).exit);
  }

  /** Events kept and to come; ends when the VM's process has given everything back. */
  async *events({ sinceEventId, kinds = [], ...options }: EventOptions = {}): AsyncGenerator<ControlEvent> {
    const request = {
      sinceEventId: sinceEventId === undefined ? undefined : BigInt(sinceEventId),
      kinds: kinds.map((kind) => EVENT_KIND.to(kind)),
    };
    for await (const message of this.#stub.subscribeEvents(request, options)) {
      const event = eventFromMessage(message);
      if (event) yield event;
    }
  }

  /**
   * The guest's console, both ways: what `input` gives is typed, what the guest writes comes out. Ends with the run.
   * @param options.offset output from there on, as far as it is kept; left out: only what is to come
   */
  async *console(
    input: AsyncIterable<Uint8Array>,
    { offset, ...options }: CallOptions & { readonly offset?: number } = {},
  ): AsyncGenerator<ConsolePiece> {
    const start = { offset: offset === undefined ? undefined : BigInt(offset) };
    for await (const message of this.#stub.attachConsole(typed(start, input), options)) yield pieceOf(message);
  }

  /** What the guest has written, as far as it is kept; with `follow`, also what is to come. */
  async *consoleLog({
    offset = 0,
    follow = false,
    ...options
  }: CallOptions & { readonly offset?: number; readonly follow?: boolean } = {}): AsyncGenerator<ConsolePiece> {
    for await (const message of this.#stub.readConsoleLog({ offset: BigInt(offset), follow }, options)) {
      yield pieceOf(message);
    }
  }

  /** Replaces a device's grants on config space. @returns what is open now */
  async permitConfig(
    { bdf, configPermit, configPermitForce }: ConfigPermitRequest,
    options?: CallOptions,
  ): Promise<readonly PermittedBits[]> {
    const request = { bdf, force: configPermitForce, ...permitToMessage(configPermit) };
    return (await this.#stub.configPermit(request, options)).grants;
  }

  /** As {@link Vm.attachDevice}. */
  async attachDevice(
    device: string | DeviceConfig | readonly (string | DeviceConfig)[],
    options?: CallOptions,
  ): Promise<AttachedDevice> {
    const devices = normaliseDevices(Array.isArray(device) ? device : [device]).map(deviceToMessage);
    return this.#stub.attachDevice({ devices }, options);
  }

  /** As {@link Vm.detachDevice}; the limit of the call itself should be longer than the guest's. */
  async detachDevice(
    bdf: string,
    { timeoutMs, force = false }: DetachOptions = {},
    options?: CallOptions,
  ): Promise<DetachedDevice> {
    return detachedFromMessage(await this.#stub.detachDevice({ bdf, timeoutMs, force }, options));
  }

  /** Ends all calls. The VM goes on. */
  close(): void {
    this.#rpc.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Connects to a VM's control socket.
 * @param nameOrPath as for `serveControl`
 * @throws CausewayError CONTROL_UNAVAILABLE when nobody answers there
 * @example
 * using vm = await connectControl('web');
 * for await (const event of vm.events({ sinceEventId: 0 })) console.log(event);
 */
export async function connectControl(nameOrPath: string): Promise<ControlClient> {
  return new ControlClient(new RpcClient(await connectTo(controlPath(nameOrPath))));
}

async function* typed(
  start: MessageTypes['AttachConsoleStart'],
  input: AsyncIterable<Uint8Array>,
): AsyncGenerator<MessageTypes['AttachConsoleRequest']> {
  yield { start };
  for await (const data of input) yield { data };
}

function pieceOf({ offset, data, droppedBytes }: MessageTypes['ConsoleOutput']): ConsolePiece {
  return { offset: toNumber(offset), data, droppedBytes: toNumber(droppedBytes) };
}
