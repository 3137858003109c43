/** A running Linux guest with verbs: what a test does with it, and what is done when it gets into trouble. */
import { writeFile } from 'node:fs/promises';
import type { Vm, VmExit } from '../../index.ts';
import { CausewayError } from '../../vmm/base/errors.ts';
import { AgentLink, type CommandResult, type Window } from './agent-link.ts';
import { WINDOW } from './agent-script.ts';
import { ConsoleLog } from './console-log.ts';
import { CrashWatch, functionsOf, type Trouble } from './crash-watch.ts';
import { delay } from './delay.ts';
import { formatRegisters } from './register-text.ts';

const COMMAND_MS = 60_000;
const EXPECT_MS = 60_000;
/** A slow host's guest answers pings late, but it answers. */
const SILENCE_MS = 60_000;
const LOOK_MS = 1000;
/** How long the guest has for telling where it is. */
const DIAGNOSIS_MS = 4000;
const SHUTDOWN_MS = 30_000;

export interface LinuxGuestOptions {
  /** The guest hangs when a command runs and its agent has been silent for so long. Default 60 s. */
  readonly silenceMs?: number;
  /** A WARNING of the kernel is a crash. Default false: it is kept in `warnings`. */
  readonly warningsAreCrashes?: boolean;
  /** The kernel was told to leave the window alone. */
  readonly hasWindow?: boolean;
  /** Console output as it comes. */
  readonly onConsole?: (bytes: Uint8Array) => void;
  /** What is to be released with the guest. */
  readonly resources?: readonly AsyncDisposable[];
}

export class LinuxGuest implements AsyncDisposable {
  readonly vm: Vm;
  /** Resolves when the guest is in trouble by itself: at the first report of its kernel, or its end. Stays open else. */
  readonly trouble: Promise<Trouble>;
  /** What the kernel warned of. */
  readonly warnings: Trouble[] = [];
  readonly #options: LinuxGuestOptions;
  readonly #log: ConsoleLog;
  readonly #watch: CrashWatch;
  readonly #link: AgentLink;
  /** Rejects when nothing more can come from this guest. */
  readonly #over: Promise<never>;
  readonly #timer: NodeJS.Timeout;
  #end: (error: CausewayError) => void = () => {};
  #tell: (trouble: Trouble) => void = () => {};
  #isInTrouble = false;
  /** Trouble of a guest that is being asked where it hangs is part of the answer. */
  #diagnosis: Promise<void> | undefined;
  /** Its end is wanted. */
  #isEnding = false;
  #closing: Promise<void> | undefined;

  /** @param vm created with `channel`, not started */
  constructor(vm: Vm, options: LinuxGuestOptions = {}) {
    if (!vm.channel) throw new CausewayError('CONFIG_INVALID', 'a guest with an agent needs channel: true');
    this.vm = vm;
    this.#options = options;
    this.trouble = new Promise((resolve) => {
      this.#tell = resolve;
    });
    this.#over = new Promise((_, reject) => {
      this.#end = reject;
    });
    this.#over.catch(() => {});
    this.#watch = new CrashWatch({
      onTrouble: (trouble) => this.#onTrouble(trouble),
      onWarning: (warning) => {
        this.warnings.push(warning);
        if (options.warningsAreCrashes) this.#onTrouble(warning);
      },
    });
    this.#log = new ConsoleLog((line) => this.#watch.line(line));
    this.#link = new AgentLink(vm.channel, {
      window: options.hasWindow ? windowOf(vm) : undefined,
    });
    vm.serial.onData((bytes) => {
      options.onConsole?.(bytes);
      this.#log.push(bytes);
    });
    vm.exited.then(
      (exit) => this.#onExit(exit),
      (error: unknown) =>
        this.#finish(new CausewayError('INTERNAL', `the VM failed: ${String(error)}`, { cause: error })),
    );
    this.#timer = setInterval(() => this.#lookForSilence(), LOOK_MS).unref();
  }

  /** Starts the VM and waits for the agent. @throws CausewayError TIMEOUT, GUEST_CRASHED; what the start throws */
  async start(timeoutMs: number): Promise<void> {
    await this.vm.start();
    const abort = new AbortController();
    const late = delay(timeoutMs, abort.signal).then(() => {
      throw new CausewayError('TIMEOUT', `the guest's agent was not ready after ${timeoutMs} ms${this.#shown()}`);
    });
    // When it is ready in time the clock is stopped, and nobody looks at this any more.
    late.catch(() => {});
    const troubled = this.trouble.then(({ fingerprint }) => {
      throw new CausewayError('GUEST_CRASHED', `the guest did not come up: ${fingerprint}${this.#shown()}`);
    });
    try {
      await Promise.race([this.#link.ready, late, troubled]);
    } finally {
      abort.abort();
    }
  }

  /**
   * Runs a command with busybox `sh`; commands wait for each other. A code other than 0 is no error.
   * @throws CausewayError TIMEOUT (it was killed, with all that it started), GUEST_CRASHED, STATE
   */
  run(command: string, options: { readonly timeoutMs?: number } = {}): Promise<CommandResult> {
    return this.#link.run(command, options.timeoutMs ?? COMMAND_MS);
  }

  /** As {@link run}, but a code other than 0 is an error. Gives stdout without the newline at its end. */
  async must(command: string, options: { readonly timeoutMs?: number } = {}): Promise<string> {
    const { code, stdout, stderr } = await this.run(command, options);
    if (code === 0) return stdout.replace(/\n$/, '');
    throw new Error(`"${command}" in the guest ended with ${code}:\n${`${stdout}${stderr}`.trimEnd().slice(-2000)}`);
  }

  /**
   * Waits for the console to show something that no `expect` has shown yet. @returns what matched
   * @throws CausewayError TIMEOUT, GUEST_CRASHED, STATE
   */
  expect(pattern: string | RegExp, options: { readonly timeoutMs?: number } = {}): Promise<string> {
    return this.#log.expect(pattern, options.timeoutMs ?? EXPECT_MS, this.#over);
  }

  /** Everything that the guest printed; of a flood the beginning and the end. */
  console(): string {
    return this.#log.text();
  }

  /** Interrupts every vCPU. Guests of {@link bootLinux} panic at that and say where they were. */
  nmi(): void {
    this.vm.nmi();
  }

  /** A SysRq command (kernel: Documentation/admin-guide/sysrq.rst), by a break on the console. */
  sysrq(key: string): void {
    this.vm.serial.sendBreak();
    this.vm.serial.write(key);
  }

  /**
   * Writes console, registers of all vCPUs and RAM (ELF core, sparse) to files whose names begin with `path`.
   * @returns the files; of a VM that has ended only the console is left
   */
  async dump(path: string): Promise<readonly string[]> {
    const files = [`${path}.console.log`];
    await writeFile(files[0]!, this.console());
    if (this.vm.state !== 'running' && this.vm.state !== 'paused') return files;
    const registers = await this.vm.registers();
    files.push(`${path}.registers.txt`, `${path}.core`);
    await writeFile(files[1]!, formatRegisters(registers));
    await this.vm.dump(files[2]!);
    return files;
  }

  /** Lets the guest power off, and ends it when it does not; gives its devices back. */
  async shutdown(): Promise<void> {
    if (this.vm.state === 'running' && !this.#isEnding) {
      this.#isEnding = true;
      this.#link.powerOff();
      const abort = new AbortController();
      await Promise.race([this.vm.exited, delay(SHUTDOWN_MS, abort.signal)]);
      abort.abort();
    }
    await this.kill();
  }

  /** Ends it at once and gives its devices back. A second call is ignored. */
  kill(): Promise<void> {
    this.#isEnding = true;
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }

  async #close(): Promise<void> {
    try {
      await this.vm.close();
    } finally {
      this.#finish(new CausewayError('STATE', 'the guest has ended'));
      for (const resource of this.#options.resources ?? []) await resource[Symbol.asyncDispose]();
    }
  }

  /** A closed VM prints nothing more and its agent answers nothing. */
  #finish(error: CausewayError): void {
    clearInterval(this.#timer);
    this.#watch.finish();
    this.#end(error);
    this.#link.close(error);
  }

  #onTrouble(trouble: Trouble): void {
    if (this.#diagnosis) return;
    this.#report(trouble);
    // After a mere oops the agent may live on.
    if (/Kernel panic/.test(trouble.text)) this.#finish(crashed(trouble, this.#shown()));
  }

  #report(trouble: Trouble): void {
    if (this.#isEnding || this.#isInTrouble) return;
    this.#isInTrouble = true;
    this.#tell(trouble);
  }

  #onExit(exit: VmExit): void {
    // What it said last comes first.
    this.#watch.finish();
    const what = describeExit(exit);
    const kind = exit.reason === 'crash' ? 'crash' : 'exit';
    this.#report({ kind, what, fingerprint: what, text: this.#log.tail() });
    this.#finish(new CausewayError(kind === 'crash' ? 'GUEST_CRASHED' : 'STATE', `${what}${this.#shown()}`));
  }

  #lookForSilence(): void {
    const limit = this.#options.silenceMs ?? SILENCE_MS;
    if (!this.#link.isBusy || this.#link.silentMs < limit || this.#diagnosis || this.#isEnding) return;
    if (this.#isInTrouble) this.#finish(new CausewayError('GUEST_CRASHED', `the guest is silent${this.#shown()}`));
    else this.#diagnosis = this.#diagnose().catch((error: unknown) => this.#hang('agent silent', String(error)));
  }

  /** Asks a silent guest where it is: by SysRq, which needs interrupts, then by NMI, which needs nothing. */
  async #diagnose(): Promise<void> {
    const before = this.#log.text().length;
    const said = (): string => this.#log.text().slice(before);
    this.sysrq('l');
    await delay(DIAGNOSIS_MS);
    const answers = /sysrq: /i.test(said());
    if (!answers && this.vm.state === 'running') {
      this.nmi();
      await delay(DIAGNOSIS_MS);
    }
    if (this.vm.state !== 'running') return;
    const what = answers ? 'agent silent' : said() === '' ? 'no answer to SysRq and NMI' : 'no answer to SysRq';
    this.#hang(what, said());
  }

  #hang(what: string, text: string): void {
    const where = functionsOf(text.split(/\r?\n/));
    const fingerprint = where.length > 0 ? `${what} in ${where.join(' < ')}` : what;
    this.#report({ kind: 'hang', what, fingerprint, text: text || this.#log.tail() });
    this.#finish(new CausewayError('GUEST_CRASHED', `the guest hangs: ${fingerprint}${this.#shown()}`));
  }

  #shown(): string {
    return `; the console ends with:\n${this.#log.tail()}`;
  }
}

function windowOf(vm: Vm): Window {
  return {
    read: (offset, length) => vm.readMemory(WINDOW.gpa + offset, length),
    write: (offset, bytes) => vm.writeMemory(WINDOW.gpa + offset, bytes),
  };
}

function crashed({ fingerprint }: Trouble, shown: string): CausewayError {
  return new CausewayError('GUEST_CRASHED', `the guest crashed: ${fingerprint}${shown}`);
}

function describeExit(exit: VmExit): string {
  switch (exit.reason) {
    case 'shutdown':
      return 'the guest powered off';
    case 'reboot-limit':
      return 'the guest reset itself';
    case 'debug-exit':
      return `the guest ended with debug-exit value ${exit.value}`;
    case 'crash':
      return exit.detail;
    case 'stopped':
      return 'the guest was stopped';
  }
}
