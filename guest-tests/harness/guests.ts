/** Guests as a test sees them. The real ones are those of guest-tests/guest; tests of the harness bring scripted ones. */
import type { DeviceConfig, ExitCounters, Size, Vm, VmReport } from '../../index.ts';
import type { ImageFile } from '../../lab/index.ts';
import type { TestResult } from '../bare/ktap.ts';

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** How a guest got into trouble. `exit`: it ended, which is for the test to judge. */
export interface Trouble {
  readonly kind: 'crash' | 'hang' | 'exit';
  /** `NULL pointer dereference`, `soft lockup`, or how the VM ended. */
  readonly what: string;
  /** `what` and the first functions: equal for equal bugs. */
  readonly fingerprint: string;
  readonly text: string;
}

/** A Linux guest whose agent takes commands. */
export interface LinuxGuest extends AsyncDisposable {
  readonly vm: Vm;
  /** Resolves when the guest is in trouble. */
  readonly trouble: Promise<Trouble>;
  /** Runs a command with `sh`. A code other than 0 is no error. @throws CausewayError TIMEOUT, GUEST_CRASHED */
  run(command: string, options?: { readonly timeoutMs?: number }): Promise<CommandResult>;
  /** As `run`, but a code other than 0 is an error. Gives stdout without the newline at its end. */
  must(command: string, options?: { readonly timeoutMs?: number }): Promise<string>;
  /** Waits for the console to show something new. @throws CausewayError TIMEOUT, GUEST_CRASHED */
  expect(pattern: string | RegExp, options?: { readonly timeoutMs?: number }): Promise<string>;
  /** Everything that it printed. */
  console(): string;
  nmi(): void;
  /** A SysRq key, such as `w`. */
  sysrq(key: string): void;
  /** Writes console, registers and memory to files whose names begin with `path`. */
  dump(path: string): Promise<readonly string[]>;
  /** Powers it off in order, and gives its devices back. */
  shutdown(): Promise<void>;
  /** Ends it at once, and gives its devices back. */
  kill(): Promise<void>;
}

export interface BootOptions {
  /** Default: the test's devices. */
  readonly devices?: readonly (string | DeviceConfig)[];
  /** A Debian series such as `6.1` (default), `host`, or the path of a kernel. */
  readonly kernel?: string;
  readonly cpus?: number;
  readonly memory?: Size;
  /** Empty slots for devices that come later, by `vm.attachDevice`. Default 0. */
  readonly hotplugPorts?: number;
  /** Modules to load; what they need comes along. Default: what each PCI device asks for. */
  readonly modules?: readonly string[];
  /** Modules to carry for a later `modprobe`. */
  readonly spareModules?: readonly string[];
  /** Files for the guest by their path there: text, bytes, or `{ from: path, mode }`. */
  readonly files?: Readonly<Record<string, ImageFile>>;
  /** Words behind the usual kernel command line. */
  readonly cmdline?: string;
  /** How long it may take until commands can run. */
  readonly readyTimeoutMs?: number;
  /** It hangs when a command runs and its agent has said nothing for so long. Default 60 s. */
  readonly silenceMs?: number;
  /** Receives the console as it comes. */
  readonly onConsole?: (bytes: Uint8Array) => void;
}

export interface PayloadOptions {
  /** Name of a payload of guest-tests/bare/payloads, or the path of an ELF file, with a slash in it. */
  readonly payload: string;
  /** `name=value`, separated by spaces, or the same as an object. */
  readonly args?: string | Readonly<Record<string, string | number>>;
  /** Default: the test's devices. */
  readonly devices?: readonly (string | DeviceConfig)[];
  /** Also tell the payload what sysfs says of its first device. */
  readonly describe?: boolean;
  readonly cpus?: number;
  /** Default 32 MiB. */
  readonly memory?: Size;
  /** Empty slots for devices that come later. Default 0. */
  readonly hotplugPorts?: number;
  /** Default 0: a reset ends the run. */
  readonly rebootLimit?: number;
  /** Default 30 s. */
  readonly timeoutMs?: number;
  /** What the host does while the guest runs; the run ends with both, or when this fails. */
  readonly meanwhile?: (vm: Vm) => Promise<void>;
  /** Called when the guest has ended and its devices are still as it left them. */
  readonly onExit?: () => void;
  readonly onConsole?: (text: string) => void;
}

export interface PayloadOutcome {
  readonly results: readonly TestResult[];
  readonly metrics: Readonly<Record<string, { readonly value: number; readonly unit: string }>>;
  /** Many values of one kind: the least, every percentile, the most. */
  readonly distributions?: Readonly<Record<string, { readonly percentiles: readonly number[]; readonly unit: string }>>;
  /** Debug-exit value; undefined when the run ended otherwise. */
  readonly value: number | undefined;
  /** How the VM ended; undefined when its time was up. */
  readonly exit: { readonly reason: string } | undefined;
  /** Exits to user space. */
  readonly exits?: ExitCounters;
  /** What the machine tells of its devices at the end: interrupts, BARs, resets. */
  readonly report?: VmReport;
  /** What it warned of. */
  readonly warnings?: readonly string[];
  readonly console: string;
}

/** Where the harness gets guests from. */
export interface GuestMaker {
  /** @param onCreated is given the guest before it runs: it is the harness's from then on, ready or not */
  bootLinux(options: BootOptions & { readonly onCreated: (guest: LinuxGuest) => void }): Promise<LinuxGuest>;
  runPayload(options: PayloadOptions): Promise<PayloadOutcome>;
}
