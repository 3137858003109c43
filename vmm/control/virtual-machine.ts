/** The Vm of the public interface: runs power cycles one after the other and keeps what outlives them. */
import type { Native } from '../../native/types.ts';
import type { Disposer } from '../base/disposer.ts';
import { CausewayError } from '../base/errors.ts';
import type { KernelImage } from '../boot/index.ts';
import type { DeviceConfig, NormalVmConfig } from '../config/model.ts';
import { COUNTER, Mailbox } from '../cpu/mailbox.ts';
import { COM2_GSI, COM2_PORT, Serial, type SerialOptions } from '../devices/serial.ts';
import type { KvmHost } from '../kvm.ts';
import { Machine, type MachineEnd } from '../machine.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';
import type { MemoryLayout } from '../memory/layout.ts';
import type { ConfigStore } from '../pci/config-window.ts';
import type { FunctionReport } from '../pci/function.ts';
import { Console } from './console.ts';
import { writeCore } from './core-dump.ts';
import type { Devices } from './devices.ts';
import type { EventHub } from './event-hub.ts';
import type {
  AttachedDevice,
  DetachedDevice,
  DetachOptions,
  ExitCounters,
  SerialConsole,
  VcpuRegisters,
  Vm,
  VmEvent,
  VmExit,
  VmReport,
  VmState,
} from './vm.ts';

/** What createVm has opened. */
export interface VmParts {
  readonly native: Native;
  readonly config: NormalVmConfig;
  readonly kvm: KvmHost;
  readonly layout: MemoryLayout;
  readonly memory: GuestMemory;
  readonly image: KernelImage;
  readonly store: ConfigStore;
  readonly devices: Devices;
  readonly events: EventHub<VmEvent>;
  /** Releases all of the above, devices first. Run once, at close. */
  readonly resources: Disposer;
}

/** A serial port with its user's end. */
interface SerialEnd {
  readonly port: Serial;
  readonly console: Console;
}

function serialEnd(place: Pick<SerialOptions, 'port' | 'gsi'>): SerialEnd {
  const console: Console = new Console({ input: (bytes) => port.input(bytes), sendBreak: () => port.sendBreak() });
  const port = new Serial({ ...place, onOutput: (bytes) => console.push(bytes) });
  return { port, console };
}

export class VirtualMachine implements Vm {
  readonly exited: Promise<VmExit>;
  readonly serial: SerialConsole;
  readonly channel: SerialConsole | undefined;
  readonly #parts: VmParts;
  readonly #console: SerialEnd;
  readonly #channel: SerialEnd | undefined;
  readonly #mailboxes: readonly Mailbox[];
  #machine: Machine | undefined;
  #state: VmState = 'created';
  #reboots = 0;
  /** The devices as the last power cycle had them, for reports after its end. */
  #lastReports: readonly FunctionReport[] | undefined;
  #run: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  #settle: { resolve(exit: VmExit): void; reject(error: unknown): void } | undefined;

  constructor(parts: VmParts) {
    this.#parts = parts;
    this.exited = new Promise<VmExit>((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    // Whoever does not look at it must not be killed by it; `close` and `start` report too.
    this.exited.catch(() => {});
    this.#console = serialEnd({});
    this.serial = this.#console.console;
    this.#channel = parts.config.channel ? serialEnd({ port: COM2_PORT, gsi: COM2_GSI }) : undefined;
    this.channel = this.#channel?.console;
    const vm = this;
    parts.devices.serve({
      get machine() {
        return vm.#machine;
      },
      get isOpen() {
        return vm.#state === 'created' || vm.#state === 'running' || vm.#state === 'paused';
      },
      pause: () => this.pause(),
      stop: () => this.stop(),
    });
    this.#mailboxes = Array.from({ length: parts.config.cpus }, () => new Mailbox());
  }

  get state(): VmState {
    return this.#state;
  }

  async start(): Promise<void> {
    if (this.#state !== 'created') throw this.#wrongState('start');
    this.#setState('running');
    try {
      this.#machine = await this.#powerOn();
    } catch (error) {
      this.#setState('stopped');
      this.#endOutput();
      this.#settle?.reject(error);
      throw error;
    }
    this.#run = this.#cycles(this.#machine);
  }

  /** Runs power cycles until one ends the run. Never rejects. */
  async #cycles(first: Machine): Promise<void> {
    try {
      let machine = first;
      for (;;) {
        machine.start();
        const end = await machine.ended;
        this.#lastReports = this.#functionReports();
        await machine.powerOff();
        this.#machine = undefined;
        await this.#parts.devices.machineEnded();
        const exit = this.#judge(end);
        if (exit) {
          this.#setState('stopped');
          this.#endOutput();
          this.#settle?.resolve(exit);
          return;
        }
        this.#reboots++;
        this.#parts.events.emit({ type: 'reboot', count: this.#reboots });
        machine = await this.#powerOn();
        this.#machine = machine;
        if (this.#state === 'stopping') machine.stop();
      }
    } catch (error) {
      this.#setState('stopped');
      this.#endOutput();
      this.#settle?.reject(error);
    }
  }

  #powerOn(): Promise<Machine> {
    const { config, events, devices } = this.#parts;
    return Machine.powerOn({
      ...this.#parts,
      slots: devices.plan,
      onTurnedOff: (port) => devices.turnedOff(port),
      cmdline: config.cmdline,
      initrd: config.initrd,
      cpus: config.cpus,
      isFresh: this.#reboots === 0,
      serial: this.#console.port,
      channel: this.#channel?.port,
      mailboxes: this.#mailboxes,
      warn: (message) => events.emit({ type: 'warning', message }),
    });
  }

  /** What a power cycle's end means for the run; undefined to reboot. */
  #judge(end: MachineEnd): VmExit | undefined {
    if (this.#state === 'stopping' || end.kind === 'stop') return { reason: 'stopped' };
    switch (end.kind) {
      case 'power-off':
        return { reason: 'shutdown' };
      case 'debug-exit':
        return { reason: 'debug-exit', value: end.value };
      case 'crash':
        return { reason: 'crash', detail: end.detail };
      case 'reset':
        return this.#reboots >= this.#parts.config.rebootLimit
          ? { reason: 'reboot-limit', reboots: this.#reboots }
          : undefined;
    }
  }

  async pause(): Promise<void> {
    if (this.#state !== 'running' || !this.#machine) throw this.#wrongState('pause');
    await this.#machine.pause();
    if (this.#state === 'running') this.#setState('paused');
  }

  resume(): void {
    if (this.#state !== 'paused') throw this.#wrongState('resume');
    this.#setState('running');
    this.#machine?.resume();
  }

  powerButton(): void {
    if (this.#state !== 'running' && this.#state !== 'paused') throw this.#wrongState('powerButton');
    this.#machine?.powerButton();
  }

  async attachDevice(device: string | DeviceConfig | readonly (string | DeviceConfig)[]): Promise<AttachedDevice> {
    return this.#parts.devices.attach(device);
  }

  async detachDevice(bdf: string, options?: DetachOptions): Promise<DetachedDevice> {
    return this.#parts.devices.detach(bdf, options);
  }

  nmi(): void {
    if (this.#state !== 'running') throw this.#wrongState('nmi');
    this.#machine?.nmi();
  }

  readMemory(gpa: number, length: number): Uint8Array {
    return this.#withMemory('readMemory', () => this.#parts.memory.bytes(gpa, length).slice());
  }

  writeMemory(gpa: number, bytes: Uint8Array): void {
    this.#withMemory('writeMemory', () => this.#parts.memory.bytes(gpa, bytes.length).set(bytes));
  }

  #withMemory<T>(call: string, access: () => T): T {
    // Its mappings go first of all when it closes.
    if (this.#closing) throw this.#wrongState(call);
    try {
      return access();
    } catch (cause) {
      if (!(cause instanceof RangeError)) throw cause;
      throw new CausewayError('USAGE', `${call}: ${cause.message}`, { cause });
    }
  }

  registers(): Promise<readonly VcpuRegisters[]> {
    return this.#whilePaused('registers', async (machine) => machine.registers());
  }

  dump(path: string): Promise<void> {
    return this.#whilePaused('dump', (machine) => writeCore(path, this.#parts.memory, machine.registers()));
  }

  /** Looks at a machine that stands still, and lets it go on when it did before. */
  async #whilePaused<T>(call: string, look: (machine: Machine) => Promise<T>): Promise<T> {
    const machine = this.#machine;
    if ((this.#state !== 'running' && this.#state !== 'paused') || !machine) throw this.#wrongState(call);
    const goesOn = this.#state === 'running';
    if (goesOn) await this.pause();
    try {
      // Its power cycle may have ended in the meantime.
      if (this.#machine !== machine) throw this.#wrongState(call);
      return await look(machine);
    } finally {
      if (goesOn && this.#state === 'paused') this.resume();
    }
  }

  async stop(): Promise<void> {
    if (this.#state === 'running' || this.#state === 'paused') {
      this.#setState('stopping');
      this.#machine?.stop();
    }
    await this.#run;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.stop();
    this.#endOutput();
    try {
      await this.#parts.resources.dispose();
    } finally {
      this.#setState('closed');
      this.#parts.events.end();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  events(): AsyncIterable<VmEvent> {
    return this.#parts.events.stream();
  }

  exits(): ExitCounters {
    const sum = (index: number) => this.#mailboxes.reduce((total, mailbox) => total + mailbox.counters[index]!, 0);
    const port = sum(COUNTER.port);
    const console = sum(COUNTER.console);
    const mmio = sum(COUNTER.mmio);
    const config = sum(COUNTER.config);
    const kick = sum(COUNTER.kick);
    const other = sum(COUNTER.other);
    return {
      port,
      console,
      mmio,
      config,
      kick,
      other,
      total: port + console + mmio + config + kick + other,
    };
  }

  report(): VmReport {
    const { config } = this.#parts;
    return {
      name: config.name,
      cpus: config.cpus,
      memoryBytes: config.memoryBytes,
      kernel: config.kernel,
      ...(this.#parts.devices.iommu ? { iommu: this.#parts.devices.iommu } : {}),
      devices: this.#machine ? this.#functionReports() : this.#pastReports(),
      exits: this.exits(),
      reboots: this.#reboots,
    };
  }

  #functionReports(): FunctionReport[] {
    return this.#parts.devices.reports();
  }

  /** BARs and vectors as the guest had them last, with the resets that came after. */
  #pastReports(): FunctionReport[] {
    return this.#functionReports().map((now) => {
      const last = this.#lastReports?.find(({ label }) => label === now.label);
      return { ...(last ?? now), resets: now.resets };
    });
  }

  /** The guest writes no more. */
  #endOutput(): void {
    this.#console.console.end();
    this.#channel?.console.end();
  }

  #setState(state: VmState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#parts.events.emit({ type: 'state', state });
  }

  #wrongState(call: string): CausewayError {
    return new CausewayError('STATE', `${call}() does not fit: the VM is ${this.#state}`);
  }
}
