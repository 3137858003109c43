/**
 * The assigned devices of one VM over its whole life: attached and detached while the guest runs or not, given back when
 * the host wants them or when they fail. What it does to a guest goes through the machine's PCI hierarchy.
 */
import type { AssignedFunction, DeviceEvent, DeviceRequest, PassthroughSession } from '../../passthrough/index.ts';
import { CausewayError } from '../base/errors.ts';
import type { DeviceConfig, NormalDeviceConfig, OnError } from '../config/model.ts';
import { normaliseBdf, normaliseDevices } from '../config/normalise.ts';
import type { Machine } from '../machine.ts';
import type { FunctionReport } from '../pci/function.ts';
import type { SlotPlan } from '../pci/topology.ts';
import type { ConfigPermitRequest, PermittedBits } from './control-service.ts';
import { type GuestSlot, GuestSlots, placed } from './guest-slots.ts';
import type { AttachedDevice, DetachedDevice, DetachedHow, DetachOptions, VmEvent } from './vm.ts';

const DETACH_TIMEOUT_MS = 15_000;
/** How long a guest may take to let go of a device that the host waits for: given back within five seconds in all. */
const HOST_REQUEST_TIMEOUT_MS = 4000;
/** How long a guest may look busy before the button is pressed again. */
const BUTTON_REPEAT_MS = 2000;
/** A longer timer would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export interface DevicesOptions {
  readonly devices: readonly NormalDeviceConfig[];
  readonly hotplugPorts: number;
  /** Undefined while the VM has no device; {@link openSession} makes one for the first that comes. */
  readonly session: PassthroughSession | undefined;
  openSession(): Promise<PassthroughSession>;
  emit(event: VmEvent): void;
}

/** What the devices need of the VM that they are in. */
export interface DevicesHost {
  /** The power cycle that is on. */
  readonly machine: Machine | undefined;
  /** True until the VM is told to stop. */
  readonly isOpen: boolean;
  pause(): Promise<void>;
  stop(): Promise<void>;
}

/** A slot whose device the guest was asked to let go of. */
interface Leaving {
  readonly slot: GuestSlot;
  /** Settles the wait, after the device left the slot. */
  done(how: DetachedHow): void;
  readonly finished: Promise<DetachedDevice>;
}

export class Devices {
  readonly #options: DevicesOptions;
  readonly #slots: GuestSlots;
  readonly #onError = new Map<string, OnError>();
  readonly #leaving = new Set<Leaving>();
  #session: PassthroughSession | undefined;
  #host: DevicesHost | undefined;

  /** @throws CausewayError CONFIG_INVALID when different devices want one port */
  constructor(options: DevicesOptions) {
    const { devices, session, hotplugPorts } = options;
    this.#options = options;
    this.#session = session;
    this.#slots = new GuestSlots(devices, session?.functions ?? [], hotplugPorts);
    for (const { bdf, onError } of devices) if (onError) this.#onError.set(bdf, onError);
  }

  /** Before anything else is called. */
  serve(host: DevicesHost): void {
    this.#host = host;
  }

  get plan(): readonly SlotPlan[] {
    return this.#slots.plan;
  }

  /** What DMA goes through; undefined without devices. */
  get iommu(): PassthroughSession['iommu'] {
    return this.#session?.iommu;
  }

  reports(): FunctionReport[] {
    return this.#slots.functions.map((fn) => fn.report());
  }

  async attach(given: string | DeviceConfig | readonly (string | DeviceConfig)[]): Promise<AttachedDevice> {
    const devices = normaliseDevices(Array.isArray(given) ? given : [given]);
    if (devices.length === 0) throw new CausewayError('CONFIG_INVALID', 'there is no device to attach');
    const ports = new Set(devices.map(({ port }) => port));
    if (ports.size > 1) throw new CausewayError('CONFIG_INVALID', 'functions of one device go behind one port');
    this.#checkOpen();
    this.#slots.spare(devices[0]!.port);
    this.#session ??= await this.#options.openSession();
    // It may have changed meanwhile; from here on nothing is waited for.
    this.#checkOpen();
    const slot = this.#slots.spare(devices[0]!.port);
    const functions = this.#session.attach(devices.map(laterRequest));
    try {
      const plan = placed(functions);
      this.#machine?.pci.plug(slot.port, plan);
    } catch (error) {
      this.#session.detach(functions);
      throw error;
    }
    slot.functions = functions;
    for (const { bdf, onError } of devices) if (onError) this.#onError.set(bdf, onError);
    const bdfs = bdfsOf(functions);
    this.#options.emit({ type: 'device-attached', bdfs, port: slot.port });
    return { bdfs, port: slot.port };
  }

  async detach(bdf: string, options: DetachOptions = {}): Promise<DetachedDevice> {
    const slot = this.#slots.find(normaliseBdf(bdf) ?? bdf);
    if (!slot) throw new CausewayError('DEVICE_NOT_FOUND', `${bdf} is not assigned to this VM`);
    return this.#detach(slot, 'user', options);
  }

  permitConfig(request: ConfigPermitRequest): readonly PermittedBits[] {
    if (!this.#session) throw new CausewayError('DEVICE_NOT_FOUND', 'this VM has no assigned device');
    return this.#session.permitConfig(request as DeviceRequest);
  }

  /** The guest turned off the power of a slot: if it was asked to, it is done. On the vCPU's call. */
  turnedOff(port: string): void {
    for (const leaving of this.#leaving) if (leaving.slot.port === port) this.#take(leaving, 'released');
  }

  /** A power cycle has ended: who was asked to let go has. Resolves when all of it is given back. */
  async machineEnded(): Promise<void> {
    const all = [...this.#leaving];
    for (const leaving of all) this.#take(leaving, 'released');
    await Promise.allSettled(all.map(({ finished }) => finished));
  }

  /** Something happened to a device on the host. */
  hostEvent(event: DeviceEvent): void {
    this.#options.emit(event);
    const slot = this.#slots.find(event.bdf);
    if (!slot) return;
    if (event.what === 'release-request') this.#hostWants(slot);
    else void this.#failed(slot, event.bdf).catch((error: unknown) => this.#warn(`${event.label}: ${String(error)}`));
  }

  /** Gives everything back. A second call is ignored. */
  close(): void {
    this.#session?.close();
  }

  /** The host repeats its wish every ten seconds. */
  #hostWants(slot: GuestSlot): void {
    const leaving = [...this.#leaving].find((other) => other.slot === slot);
    if (leaving) {
      // Whoever was asked politely and still takes its time is told that the device is gone.
      if (slot.port !== undefined) this.#machine?.pci.announceRemoval(slot.port);
      return;
    }
    const bdfs = bdfsOf(slot.functions).join(', ');
    this.#detach(slot, 'host', { timeoutMs: HOST_REQUEST_TIMEOUT_MS, force: true }).catch((error: unknown) =>
      this.#warn(`giving ${bdfs} back to the host: ${String(error)}`),
    );
  }

  async #failed(slot: GuestSlot, bdf: string): Promise<void> {
    const { pause, stop } = this.#host!;
    switch (this.#onError.get(bdf) ?? 'report') {
      case 'pause':
        return pause();
      case 'stop':
        return stop();
      case 'reset':
        slot.functions.find((fn) => fn.bdf === bdf)?.resetForError();
        return;
      case 'report':
        return;
    }
  }

  async #detach(
    slot: GuestSlot,
    by: 'user' | 'host',
    { timeoutMs = DETACH_TIMEOUT_MS, force = false }: DetachOptions,
  ): Promise<DetachedDevice> {
    const bdfs = bdfsOf(slot.functions);
    const machine = this.#machine;
    if ([...this.#leaving].some((other) => other.slot === slot)) {
      throw new CausewayError('STATE', `${bdfs.join(', ')} is being detached already`);
    }
    if (slot.port === undefined && machine && !force) {
      throw new CausewayError(
        'PORT_UNAVAILABLE',
        `${bdfs.join(', ')} is on the root bus, where no guest can let go of it`,
        {
          hint: 'force takes it away; a device behind a port (port: NAME) can be detached in order',
        },
      );
    }
    this.#options.emit({ type: 'device-detach-requested', bdfs, by });
    let timer: NodeJS.Timeout | undefined;
    let repeat: NodeJS.Timeout | undefined;
    let done: (how: DetachedHow) => void = () => {};
    let fail: (error: unknown) => void = () => {};
    const left = new Promise<DetachedHow>((resolve, reject) => {
      done = resolve;
      fail = reject;
    });
    const { functions } = slot;
    const finished = left
      .then((how) => this.#giveBack(functions, how))
      .finally(() => {
        clearTimeout(timer);
        clearInterval(repeat);
      });
    // Whoever asked gets it, too; the end of a power cycle only waits for it.
    finished.catch(() => {});
    const leaving: Leaving = { slot, done, finished };
    this.#leaving.add(leaving);
    const late = (): void => {
      try {
        this.#late(leaving, force, timeoutMs);
      } catch (error) {
        this.#leaving.delete(leaving);
        fail(error);
      }
    };
    try {
      if (!machine) this.#take(leaving, 'released');
      else if (slot.port === undefined) this.#take(leaving, 'forced');
      else if (!machine.pci.isInUse(slot.port)) this.#take(leaving, 'released');
      else {
        timer = setTimeout(late, Math.min(timeoutMs, MAX_TIMER_MS));
        if (by === 'host') machine.pci.announceRemoval(slot.port);
        else {
          const { port } = slot;
          machine.pci.pressButton(port);
          repeat = setInterval(() => this.#machine?.pci.repeatButton(port), BUTTON_REPEAT_MS);
        }
      }
    } catch (error) {
      this.#leaving.delete(leaving);
      fail(error);
    }
    return finished;
  }

  /** The time is over. @throws CausewayError TIMEOUT */
  #late(leaving: Leaving, force: boolean, timeoutMs: number): void {
    const { port, functions } = leaving.slot;
    const isReached = port !== undefined && this.#machine?.pci.isConnected(port);
    // A guest that turned off the power and forgot the indicator has let go, too.
    if (!isReached) this.#take(leaving, 'released');
    else if (force) this.#take(leaving, 'forced');
    else {
      const bdfs = bdfsOf(functions).join(', ');
      throw new CausewayError(
        'TIMEOUT',
        `the guest has not let go of ${bdfs} within ${timeoutMs} ms; it stays attached`,
        {
          hint: 'does the guest have a driver for PCIe hot-plug (pciehp)? force takes the device away',
        },
      );
    }
  }

  /** Takes a device out of its slot, whatever the guest is doing with it. It is still held. */
  #take(leaving: Leaving, how: DetachedHow): void {
    if (!this.#leaving.delete(leaving)) return;
    const { slot } = leaving;
    const pci = this.#machine?.pci;
    try {
      if (slot.port !== undefined) pci?.unplug(slot.port);
      else pci?.revoke(slot.functions);
    } catch (error) {
      this.#warn(`taking ${bdfsOf(slot.functions).join(', ')} out: ${String(error)}`);
    }
    slot.functions = [];
    leaving.done(how);
  }

  async #giveBack(functions: readonly AssignedFunction[], how: DetachedHow): Promise<DetachedDevice> {
    // A vCPU thread may be on its way to the device's file, whose number could be another's in a moment.
    await this.#host!.machine?.quiesce();
    const bdfs = bdfsOf(functions);
    for (const bdf of bdfs) this.#onError.delete(bdf);
    try {
      this.#session!.detach(functions);
    } finally {
      // Whatever went wrong on the way, it is no longer held.
      this.#options.emit({ type: 'device-detached', bdfs, how });
    }
    return { bdfs, how };
  }

  /** The machine as long as a guest runs in it. */
  get #machine(): Machine | undefined {
    const machine = this.#host!.machine;
    return machine?.isOver ? undefined : machine;
  }

  #checkOpen(): void {
    if (!this.#host?.isOpen) throw new CausewayError('STATE', 'the VM takes no device any more');
  }

  #warn(message: string): void {
    this.#options.emit({ type: 'warning', message });
  }
}

/** @throws CausewayError CONFIG_INVALID for files that were handed in, which belong to the start */
function laterRequest({ deviceFd, groupFd, ...device }: NormalDeviceConfig): DeviceRequest {
  if (deviceFd === undefined && groupFd === undefined) return { ...device, place: 'port' };
  throw new CausewayError('CONFIG_INVALID', 'files are handed in when the VM is made, not later');
}

function bdfsOf(functions: readonly AssignedFunction[]): string[] {
  return functions.map(({ bdf }) => bdf);
}
