import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, unlinkSync } from 'node:fs';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import type { Qemu } from '../packages.ts';

const diskBytes = 64 << 20;
const mostConsole = 4 << 20;
const setpriv = '/usr/bin/setpriv';

const running = new Set<ChildProcess>();
let guarded = false;

/** No way out of this process may leave an emulator behind. A signal handler of the program's own is not disturbed. */
function guardExit(): void {
  if (guarded) return;
  guarded = true;
  const killAll = () => {
    for (const child of running) child.kill('SIGKILL');
  };
  process.on('exit', killAll);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    const handler = () => {
      if (process.listenerCount(signal) > 1) return;
      killAll();
      process.removeListener(signal, handler);
      process.kill(process.pid, signal);
    };
    process.on(signal, handler);
  }
}

/** A QEMU with its channels. */
export class QemuProcess {
  readonly qmp: Duplex;
  readonly agent: Duplex;
  /** Settles when QEMU has ended, with what it said on standard error and how it ended. */
  readonly ended: Promise<{ how: string; stderr: string }>;
  readonly #child: ChildProcess;
  #console = '';
  #stderr = '';

  private constructor(child: ChildProcess, onConsole: (chunk: string) => void) {
    this.#child = child;
    this.qmp = child.stdio[3] as Duplex;
    this.agent = child.stdio[4] as Duplex;
    running.add(child);
    guardExit();
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      this.#console = (this.#console + chunk).slice(-mostConsole);
      onConsole(chunk);
    });
    child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
      this.#stderr = (this.#stderr + chunk).slice(-mostConsole);
    });
    this.ended = new Promise((resolve) => {
      const end = (how: string) => {
        running.delete(child);
        resolve({ how, stderr: this.stderr });
      };
      child.on('error', (error) => end(error.message));
      child.on('close', (code, signal) => end(signal === null ? `status ${code}` : `signal ${signal}`));
    });
  }

  /** Start QEMU with `disks` unlinked files as inherited descriptors, after the two channels. */
  static async start(
    qemu: Qemu,
    args: readonly string[],
    disks: number,
    onConsole: (chunk: string) => void,
  ): Promise<QemuProcess> {
    const fds = await unlinkedFiles(disks);
    // With setpriv the kernel kills QEMU even when this process is killed in a way that it cannot see.
    const prefix = existsSync(setpriv) ? [setpriv, '--pdeathsig', 'KILL', '--'] : [];
    const [program = '', ...words] = [...prefix, ...qemu.command, ...args];
    const child = spawn(program, words, {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', ...fds],
      env: { ...process.env, ...qemu.env },
      // The terminal's Ctrl-C is for the command in the lab; this process decides when QEMU ends.
      detached: true,
    });
    for (const fd of fds) closeSync(fd);
    return new QemuProcess(child, onConsole);
  }

  /** What the lab's kernel printed so far. */
  get console(): string {
    return this.#console;
  }

  /** What QEMU itself complained about so far. */
  get stderr(): string {
    // The option ROM setting is meant for QEMU's own use, and it says so each time.
    const lines = this.#stderr.split('\n').filter((line) => !line.includes('fw_cfg item names should be prefixed'));
    return lines.join('\n').trim();
  }

  /** End QEMU at once. */
  kill(): void {
    this.#child.kill('SIGKILL');
  }
}

async function unlinkedFiles(count: number): Promise<number[]> {
  if (count === 0) return [];
  const directory = await mkdtemp(join(tmpdir(), 'causeway-disks-'));
  try {
    const fds: number[] = [];
    for (let index = 0; index < count; index += 1) {
      const path = join(directory, `${index}`);
      await writeFile(path, '');
      await truncate(path, diskBytes);
      fds.push(openSync(path, 'r+'));
      unlinkSync(path);
    }
    return fds;
  } finally {
    await rm(directory, { recursive: true });
  }
}
