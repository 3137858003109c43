import { stripVTControlCharacters } from 'node:util';
import { cacheRoot } from './cache.ts';
import { Commands, type ExecOptions, type ExecResult } from './commands.ts';
import { LabError } from './errors.ts';
import type { Lab, LabDevice, LabOptions } from './lab.ts';
import { toolsDir } from './machine-init.ts';
import type { Accel } from './qemu/accel.ts';
import type { LabDeviceSpec } from './qemu/devices.ts';
import type { QemuProcess } from './qemu/process.ts';
import { Qmp, type QmpValue } from './qemu/qmp.ts';

/** What `openLab` prepared for a lab. */
export interface Parts {
  readonly accel: Accel;
  readonly shareDir: string;
  readonly devices: readonly LabDeviceSpec[];
  readonly cleanUp: () => Promise<void>;
}

/** A lab whose QEMU has been started. */
export class RunningLab implements Lab {
  devices: readonly LabDevice[] = [];
  kernelVersion = '';
  bootMs = 0;
  readonly accel: Accel;
  readonly shareDir: string;
  readonly #process: QemuProcess;
  readonly #options: LabOptions;
  readonly #parts: Parts;
  readonly #commands: Commands;
  readonly #qmp: Qmp;
  readonly #started = Date.now();
  #closing: Promise<void> | undefined;
  #detach: () => void = () => {};

  constructor(process: QemuProcess, options: LabOptions, parts: Parts) {
    this.#process = process;
    this.#options = options;
    this.#parts = parts;
    this.accel = parts.accel;
    this.shareDir = parts.shareDir;
    this.#commands = new Commands(process.agent);
    this.#qmp = new Qmp(process.qmp, options.onEvent);
    void process.ended.then(({ how }) => this.#commands.fail(this.#died(how)));
  }

  get console(): string {
    return this.#process.console;
  }

  async boot(): Promise<void> {
    const { signal, bootTimeoutMs = 180_000 } = this.#options;
    const onAbort = () => {
      this.#commands.fail(new LabError('LAB_ABORTED', 'the lab was aborted'));
      void this.close();
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#detach = () => signal?.removeEventListener('abort', onAbort);
    const timer = setTimeout(() => {
      const message = `the lab did not come up within ${bootTimeoutMs / 1000} s\n${tail(this.console)}`;
      this.#commands.fail(new LabError('LAB_BOOT_TIMEOUT', message));
    }, bootTimeoutMs);
    try {
      this.#qmp.open().catch(() => {});
      const report = await this.#commands.ready;
      this.kernelVersion = report.kernel;
      this.devices = this.#parts.devices.map(({ model, bind = 'vfio-pci' }, index) => {
        const functions = report.devices[index] ?? [];
        return { model, bind, functions, bdf: functions[0] ?? '', id: `dev${index}`, port: `port${index}` };
      });
      this.bootMs = Date.now() - this.#started;
    } catch (error) {
      await this.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  exec(command: string | readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const argv = typeof command === 'string' ? ['sh', '-c', command] : command;
    const running = this.#commands.run(
      { argv, cwd: options.cwd ?? process.cwd(), env: { ...this.#env(), ...options.env } },
      options,
    );
    return running.catch((error: LabError) => {
      if (error.code !== 'LAB_HUNG') throw error;
      throw new LabError('LAB_HUNG', `${error.message}\n${tail(this.console)}`, { cause: error });
    });
  }

  signalAll(signal: string): void {
    this.#commands.signalAll(signal);
  }

  async monitor(command: string): Promise<string> {
    return String(await this.#qmp.execute('human-monitor-command', { 'command-line': command })).replaceAll(
      '\r\n',
      '\n',
    );
  }

  qmp(command: string, args?: { [key: string]: QmpValue }): Promise<QmpValue> {
    return this.#qmp.execute(command, args);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    this.#detach();
    this.#commands.fail(new LabError('LAB_CLOSED', 'the lab is closed'));
    // Nothing in the lab outlives it: its disk is the host's, read-only, and the share is written through.
    this.#process.kill();
    await this.#process.ended;
    await this.#parts.cleanUp();
  }

  #env(): Record<string, string> {
    const pass = Object.entries(process.env).filter(([name]) =>
      /^(CAUSEWAY_|LANG$|LC_|TERM$|NO_COLOR$|FORCE_COLOR$)/.test(name),
    );
    return {
      ...(Object.fromEntries(pass) as Record<string, string>),
      PATH: `${process.env.PATH ?? '/usr/local/bin:/usr/bin:/bin'}:/usr/local/sbin:/usr/sbin:/sbin:${toolsDir}`,
      HOME: process.env.HOME ?? '/root',
      CAUSEWAY_CACHE: cacheRoot(),
      CAUSEWAY_LAB: this.shareDir,
      CAUSEWAY_LAB_DEVICES: this.devices.map(({ bdf }) => bdf).join(' '),
    };
  }

  #died(how: string): LabError {
    const panic = /Kernel panic - not syncing: .*/.exec(this.console)?.[0].trim();
    const before = this.bootMs === 0 ? 'while booting ' : '';
    const last = tail(`${this.#process.stderr}\n${this.console}`);
    if (panic !== undefined) return new LabError('LAB_PANIC', `the lab's kernel panicked ${before}(${panic})\n${last}`);
    const message = `QEMU ended ${before}(${how})\n${last}`;
    return new LabError(this.bootMs === 0 ? 'LAB_BOOT_FAILED' : 'LAB_DIED', message);
  }
}

function tail(text: string): string {
  return stripVTControlCharacters(text).trim().split(/\r?\n/).slice(-25).join('\n');
}
