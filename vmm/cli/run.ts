/** `causeway run`: one VM with its console on the terminal. */
import type { Writable } from 'node:stream';
import { CausewayError, EXIT_CODE } from '../base/errors.ts';
import type { VmConfig } from '../config/model.ts';
import type { Vm, VmExit, VmReport } from '../control/vm.ts';
import { parseRunOptions, type RunOptions, runConfig } from './run-options.ts';
import { type SignalSource, StopRequest } from './stop-request.ts';
import { describeExit, formatSummary } from './summary.ts';
import { connectInput, ESCAPE_HELP, type EscapeCommand, type TerminalInput } from './terminal.ts';

/** Everything that the command touches beside the VM; a test brings its own. */
export interface RunWorld {
  readonly stdin: TerminalInput;
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly process: SignalSource;
  createVm(config: VmConfig, options: { readonly signal: AbortSignal }): Promise<Vm>;
}

/**
 * Runs a VM to its end.
 * @returns the exit code: the guest's end decides it, or what stopped the run
 * @throws CausewayError of the command line, the configuration, the host
 */
export async function runCommand(args: readonly string[], world: RunWorld): Promise<number> {
  const options = parseRunOptions(args);
  using stop = new StopRequest(world.process, options.timeout);
  try {
    // createVm normalises and checks it; the type is what it will then be.
    const config = (await runConfig(options)) as VmConfig;
    const vm = await world.createVm(config, { signal: stop.signal });
    return await new Run(vm, options, stop, world).toTheEnd();
  } catch (error) {
    // What fails because it was told to stop is no failure of its own.
    if (!stop.cause) throw error;
    return report(undefined, undefined, stop, options, world);
  }
}

class Run {
  readonly #vm: Vm;
  readonly #options: RunOptions;
  readonly #stop: StopRequest;
  readonly #world: RunWorld;

  constructor(vm: Vm, options: RunOptions, stop: StopRequest, world: RunWorld) {
    this.#vm = vm;
    this.#options = options;
    this.#stop = stop;
    this.#world = world;
  }

  async toTheEnd(): Promise<number> {
    const vm = this.#vm;
    const disconnect = this.#connect();
    const events = this.#tellEvents();
    let exit: VmExit | undefined;
    let before: VmReport;
    try {
      await vm.start();
      const ended = await Promise.race([vm.exited, this.#stop.requested.then(() => undefined)]);
      // The abort signal may have stopped the VM first: the cause is then still the request.
      if (ended && !(ended.reason === 'stopped' && this.#stop.cause)) exit = ended;
    } finally {
      before = vm.report();
      await vm.close().finally(disconnect);
    }
    await events;
    return report(exit, withReleases(before, vm), this.#stop, this.#options, this.#world);
  }

  /** Terminal to guest and back. Returns what undoes it. */
  #connect(): () => void {
    const { stdin, stdout, stderr } = this.#world;
    const output = this.#options.json ? stderr : stdout;
    const unsubscribe = this.#vm.serial.onData((bytes) => void output.write(bytes));
    const onBroken = (): void => this.#stop.request({ exitCode: EXIT_CODE.interrupted });
    output.on('error', onBroken);
    if (stdin.isTTY) this.#tell(ESCAPE_HELP);
    const disconnectInput = connectInput(stdin, {
      type: (bytes) => this.#vm.serial.write(bytes),
      command: (command) => this.#obey(command),
    });
    return () => {
      disconnectInput();
      unsubscribe();
    };
  }

  #obey(command: EscapeCommand): void {
    if (command === 'help') this.#tell(ESCAPE_HELP);
    else if (command === 'quit') this.#stop.request({ exitCode: EXIT_CODE.interrupted });
    else if (this.#vm.state === 'running') this.#vm.powerButton();
  }

  async #tellEvents(): Promise<void> {
    for await (const event of this.#vm.events()) {
      if (event.type === 'warning') this.#tell(`warning: ${event.message}`);
      else if (event.type === 'device') this.#tell(`${event.label}: ${event.what}`);
      else if (event.type === 'device-attached') this.#tell(`${event.bdfs.join(', ')} attached behind ${event.port}`);
      else if (event.type === 'device-detached') this.#tell(`${event.bdfs.join(', ')} detached (${event.how})`);
    }
  }

  #tell(message: string): void {
    // Node's raw mode leaves the terminal's output processing on, so that a newline still returns the carriage.
    this.#world.stderr.write(`causeway: ${message}\n`);
  }
}

/** BARs and vectors as the guest had them, resets including those at release. */
function withReleases(before: VmReport, vm: Vm): VmReport {
  const after = vm.report();
  const devices = before.devices.map((device) => {
    const released = after.devices.find(({ label }) => label === device.label);
    return { ...device, resets: released?.resets ?? device.resets };
  });
  return { ...after, devices };
}

function report(
  exit: VmExit | undefined,
  summary: VmReport | undefined,
  stop: StopRequest,
  options: RunOptions,
  { stdout, stderr }: RunWorld,
): number {
  const ended: VmExit = exit ?? { reason: 'stopped' };
  const message = exit ? describeExit(exit) : stop.cause?.message;
  const exitCode = exit ? exitCodeOf(exit) : (stop.cause?.exitCode ?? EXIT_CODE.interrupted);
  // A guest that powered off has said so itself.
  if (message !== undefined && ended.reason !== 'shutdown') stderr.write(`causeway: ${message}\n`);
  if (options.summary && summary) stderr.write(`${formatSummary(summary)}\n`);
  if (options.json) stdout.write(`${JSON.stringify({ exit: ended, exitCode, report: summary })}\n`);
  return exitCode;
}

/** Exit code of a run that the guest ended. */
export function exitCodeOf(exit: VmExit): number {
  switch (exit.reason) {
    case 'shutdown':
      return EXIT_CODE.ok;
    case 'reboot-limit':
      return EXIT_CODE.rebootLimit;
    case 'debug-exit':
      return exit.value === 0 ? EXIT_CODE.ok : EXIT_CODE.debugExit;
    case 'crash':
      return EXIT_CODE.guest;
    case 'stopped':
      return EXIT_CODE.interrupted;
  }
}

/** Wraps what is no error of Causeway's own, so that every end has a code. */
export function asCausewayError(error: unknown): CausewayError {
  if (error instanceof CausewayError) return error;
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return new CausewayError('INTERNAL', message, { cause: error, hint: 'please report this with the output above' });
}
