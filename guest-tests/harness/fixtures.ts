/** What a test function is given. */
import type { InspectReport } from '../../passthrough/inspect.ts';
import type { ForeignFormat, ForeignReport } from './foreign/parse.ts';
import type { BootOptions, CommandResult, LinuxGuest, PayloadOptions, PayloadOutcome } from './guests.ts';
import type { ResetRecord } from './model.ts';

/** What is known of a device without touching it: everything that `causeway inspect` says, and its name in this run. */
export interface DeviceFacts extends InspectReport {
  readonly label: string;
}

/** How a test wants a reset. */
export interface ResetOptions {
  /**
   * `ladder` (default): what a VM does between owners, the function alone, else slot or bus. Else a name out of the
   * device's `resetMethods`, such as `flr`, `pm` or `bus`: the kernel's own, which works while a guest has the device.
   */
  readonly method?: string;
}

/** The device under test, from the host's side. The guest cannot change what is read here. */
export interface DeviceFixture {
  /** Host address: what goes into `boot({ devices })`, where it is the default. */
  readonly bdf: string;
  readonly facts: DeviceFacts;
  /** Config space as the hardware shows it now; all ones when the device is gone. @throws CausewayError DEVICE_LOST */
  config(): Uint8Array;
  /** One register of config space, 1, 2 or 4 bytes wide. */
  readConfig(offset: number, width: 1 | 2 | 4): number;
  /** Whether it answers. */
  isAlive(): boolean;
  /** Driver that has it on the host: `vfio-pci`, unless detached. */
  driver(): string | undefined;
  /** @throws CausewayError DEVICE_RESET_FAILED, with what was tried */
  reset(options?: ResetOptions): ResetRecord;
  /** Gives it to the host driver that it had before, for a test of that. No guest may have it. */
  detach(): void;
  /** Takes it back. Done after the test in any case. */
  reattach(): void;
}

export interface MeasureOptions {
  readonly unit: string;
  /** Which direction is good. Without it `compare` has no opinion. */
  readonly better?: 'lower' | 'higher';
}

export interface HostFixture {
  /** Runs a program on the host, without a shell. A code other than 0 is no error. */
  exec(command: readonly string[], options?: { readonly timeoutMs?: number }): Promise<CommandResult>;
  /** Lines of the host's kernel log since the test began. */
  kernelLog(): readonly string[];
}

/** Runs part of a test as a step with a result of its own. A step that fails does not end the test, but fails it. */
export type Step = <T>(name: string, body: () => T | Promise<T>) => Promise<T | undefined>;

/** A command in a guest, or anything else that gives text and a code. */
export interface ForeignCommand {
  run(command: string, options?: { readonly timeoutMs?: number }): Promise<CommandResult>;
}

export interface ForeignOptions {
  /** Default `auto`: looks at the output, and takes the exit code when it is none of the others. */
  readonly format?: ForeignFormat;
  readonly timeoutMs?: number;
  /** Exit code that means: skipped. Default 4, as kselftest has it. */
  readonly skipCode?: number;
}

/** Values that one test works with. What it starts is ended after it. */
export interface Fixtures {
  /** Throws where the test has none, or takes all of them. */
  readonly device: DeviceFixture;
  /** All devices of the test, in the order of the command line: of one with `device: 'all'` those of the run. */
  readonly devices: readonly DeviceFixture[];
  /** Boots Linux, with the test's devices unless told otherwise. @throws CausewayError TIMEOUT when it does not get ready */
  boot(options?: BootOptions): Promise<LinuxGuest>;
  /**
   * Runs a bare-metal payload with the test's devices. Its results become steps of this test, its metrics are measured.
   * @param name of a payload in guest-tests/bare/payloads, or the path of an ELF file
   */
  payload(name: string, options?: Omit<PayloadOptions, 'payload'>): Promise<PayloadOutcome>;
  /**
   * Runs a test kernel (multiboot or PVH) that reports its status at port 0xf4, as kvm-unit-tests does: it ends the VM with
   * `(status << 1) | 1` in QEMU's terms, prints PASS, FAIL and SKIP lines, and its status is 0 for passed, 77 for skipped.
   */
  testKernel(file: string, options?: Omit<PayloadOptions, 'payload'>): Promise<ForeignReport>;
  /** A line for the log of this test. */
  log(line: string): void;
  /** Hands a number out, or many: the report then has median, 99th percentile, maximum and a histogram. */
  measure(name: string, value: number | readonly number[], options: MeasureOptions): void;
  readonly step: Step;
  /** Runs somebody else's tests with a command in a guest; each of their results becomes a step. */
  foreign(guest: ForeignCommand, command: string, options?: ForeignOptions): Promise<ForeignReport>;
  readonly host: HostFixture;
  /** Ends the test as skipped. */
  skip(reason: string): never;
  /** Aborted when the test is to end. */
  readonly signal: AbortSignal;
}
