/** The public face of a virtual machine. */
import type { GeneralRegisters, SystemRegisters } from '../../native/types.ts';
import type { DeviceConfig } from '../config/model.ts';
import type { FunctionReport } from '../pci/function.ts';

/** How a run ended. */
export type VmExit =
  | { readonly reason: 'shutdown' }
  | { readonly reason: 'reboot-limit'; readonly reboots: number }
  /** The guest wrote `value` to the debug-exit port 0xf4. */
  | { readonly reason: 'debug-exit'; readonly value: number }
  /** The guest did something that KVM cannot carry on from, or panicked with no reboot. */
  | { readonly reason: 'crash'; readonly detail: string }
  /** {@link Vm.stop} was called. */
  | { readonly reason: 'stopped' };

/** Exits to user space since the VM was created, by kind. */
export interface ExitCounters {
  /** Port I/O, without the serial and PCI config ports. */
  readonly port: number;
  /** Writes and reads of serial ports: the console's and, where there is one, the channel's. */
  readonly console: number;
  /** Memory-mapped I/O: traps on BARs, MSI-X tables and unclaimed addresses, without ECAM. */
  readonly mmio: number;
  /** PCI config space, by port or ECAM. */
  readonly config: number;
  /** Returns of KVM_RUN because this VMM asked for it (pause, stop). */
  readonly kick: number;
  readonly other: number;
  readonly total: number;
}

export type VmEvent =
  | { readonly type: 'state'; readonly state: VmState }
  | { readonly type: 'reboot'; readonly count: number }
  | { readonly type: 'warning'; readonly message: string }
  | { readonly type: 'device'; readonly bdf: string; readonly label: string; readonly what: string }
  /** The functions of one device were plugged in behind a root port. */
  | { readonly type: 'device-attached'; readonly bdfs: readonly string[]; readonly port: string }
  /** The guest was asked to let go of a device: by the user, or because its host driver is being unbound. */
  | { readonly type: 'device-detach-requested'; readonly bdfs: readonly string[]; readonly by: 'user' | 'host' }
  /** A device was given back. */
  | { readonly type: 'device-detached'; readonly bdfs: readonly string[]; readonly how: DetachedHow };

/** `released`: the guest let go of the device, or was off. `forced`: it was taken away under the guest. */
export type DetachedHow = 'released' | 'forced';

export interface AttachedDevice {
  /** Host addresses, in full form. */
  readonly bdfs: readonly string[];
  /** Name of the root port. */
  readonly port: string;
}

export interface DetachOptions {
  /** How long the guest may take. Linux waits 5 s for second thoughts before it begins. Default 15 s. */
  readonly timeoutMs?: number;
  /** Takes the device away when the guest does not let go of it in time, or cannot be asked to. Default false. */
  readonly force?: boolean;
}

export interface DetachedDevice {
  readonly bdfs: readonly string[];
  readonly how: DetachedHow;
}

export type VmState = 'created' | 'running' | 'paused' | 'stopping' | 'stopped' | 'closed';

/** A serial port of the guest, from outside. */
export interface SerialConsole {
  /** Bytes as the guest writes them, from now on; ends with the VM. Several readers may listen. */
  output(): AsyncIterable<Uint8Array>;
  /** Lines without their ends, from the beginning of the log that is kept (the last MiB). */
  lines(): AsyncIterable<string>;
  /** Calls `listener` for every piece of output, on arrival. Returns what unsubscribes. */
  onData(listener: (bytes: Uint8Array) => void): () => void;
  /** What the guest has written so far; the last MiB. */
  text(): string;
  /** Resolves with the first match in the log, present or coming. @throws CausewayError TIMEOUT, ABORTED */
  waitFor(
    pattern: string | RegExp,
    options?: { readonly timeoutMs?: number; readonly signal?: AbortSignal },
  ): Promise<RegExpMatchArray>;
  /** Types into the guest. */
  write(input: string | Uint8Array): void;
  /**
   * Sends a break, after what was written before. On Linux's console the character after it is a SysRq command:
   * `vm.serial.sendBreak(); vm.serial.write('t')`.
   */
  sendBreak(): void;
}

/** What one vCPU holds. */
export interface VcpuRegisters {
  readonly index: number;
  /** struct kvm_regs. */
  readonly general: Readonly<GeneralRegisters>;
  /** struct kvm_sregs: segments, tables, control registers. */
  readonly system: Readonly<SystemRegisters>;
}

/** What devices are opened through, and guest RAM is mapped for them. */
export interface IommuReport {
  readonly backend: 'container' | 'iommufd';
  /** Why this one, as a clause. */
  readonly why: string;
}

export interface VmReport {
  readonly name: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly devices: readonly FunctionReport[];
  /** What the devices are opened through; absent without devices. */
  readonly iommu?: IommuReport;
  readonly exits: ExitCounters;
  readonly reboots: number;
}

/**
 * A virtual machine. Created by `createVm`; holds its devices and memory until closed.
 * @example
 * await using vm = await createVm({ kernel: 'vmlinuz', devices: ['0000:01:00.0'] });
 * await vm.start();
 * await vm.serial.waitFor('login:');
 */
export interface Vm extends AsyncDisposable {
  readonly state: VmState;
  /** The first serial port, COM1: the console. */
  readonly serial: SerialConsole;
  /** The second serial port, COM2; undefined unless `channel` was asked for in the configuration. */
  readonly channel: SerialConsole | undefined;
  /** Resolves when the run ends, however it ends. Rejects only for a defect of Causeway. */
  readonly exited: Promise<VmExit>;
  start(): Promise<void>;
  /** Resolves when no vCPU runs any more. */
  pause(): Promise<void>;
  resume(): void;
  /** Presses the power button: the guest may shut down in order. */
  powerButton(): void;
  /** Interrupts every vCPU with an NMI: Linux panics or tells where it is, as it was told to. */
  nmi(): void;
  /**
   * Copies guest RAM. The guest may change it meanwhile. @param gpa guest-physical address of the first byte
   * @throws CausewayError USAGE where not all of it is RAM, STATE when closed
   */
  readMemory(gpa: number, length: number): Uint8Array;
  /** Writes guest RAM, behind the guest's back. @throws CausewayError as {@link readMemory} */
  writeMemory(gpa: number, bytes: Uint8Array): void;
  /** Of every vCPU; a running VM is paused for it. @throws CausewayError STATE when nothing runs */
  registers(): Promise<readonly VcpuRegisters[]>;
  /**
   * Writes RAM and registers as an ELF core file, for crash(8), drgn or gdb; a running VM is paused for it. The file is
   * sparse: what the guest never used takes no space. Its mode is 0600, for it holds all the guest knows.
   * @throws CausewayError STATE when nothing runs; Error of the file system
   */
  dump(path: string): Promise<void>;
  /** Ends the run at once. Devices are reset. Ignored when stopped already. */
  stop(): Promise<void>;
  /** Stops, gives every device back, frees memory. A second call is ignored. */
  close(): Promise<void>;
  /**
   * Plugs a device into a root port: the one it names, else the first spare one (`hotplugPorts`). Resolves when it is
   * plugged in; a running guest then finds it by itself.
   * @param device one, or several functions of one host device
   * @throws CausewayError CONFIG_INVALID, PORT_UNAVAILABLE, STATE, and what assigning a device throws; nothing has changed then
   * @example
   * await vm.attachDevice('0000:01:00.0');
   */
  attachDevice(device: string | DeviceConfig | readonly (string | DeviceConfig)[]): Promise<AttachedDevice>;
  /**
   * Asks the guest to let go of a device, as the attention button of its slot does, then resets it and gives it back. The
   * other functions of its slot leave with it.
   * @param bdf host address
   * @throws CausewayError DEVICE_NOT_FOUND, TIMEOUT (the device stays), PORT_UNAVAILABLE for one on the root bus, which only
   *   `force` takes away
   */
  detachDevice(bdf: string, options?: DetachOptions): Promise<DetachedDevice>;
  events(): AsyncIterable<VmEvent>;
  exits(): ExitCounters;
  report(): VmReport;
}
