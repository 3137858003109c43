/** What the scripts need from the host: a Node new enough, a C++ compiler, kernel headers, Debian's unpacking tools. */
import { spawn, spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository. */
export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

const OLDEST_NODE = [20, 19];

/** Programs and headers that building and the lab need, with the Debian packages that bring them. */
const TOOLS = [
  { what: 'g++', packages: ['g++', 'libc6-dev'], found: () => process.env.CXX !== undefined || onPath('g++') },
  {
    what: 'the Linux headers linux/kvm.h and linux/vfio.h',
    packages: ['linux-libc-dev'],
    found: () => ['kvm', 'vfio'].every((name) => existsSync(`/usr/include/linux/${name}.h`)),
  },
  { what: 'xz', packages: ['xz-utils'], found: () => onPath('xz'), optional: true },
  { what: 'dpkg-deb', packages: ['dpkg'], found: () => onPath('dpkg-deb'), optional: true },
];

/** A failure that is reported as one line, without a stack. */
export class Failure extends Error {
  constructor(message, status = 1) {
    super(message);
    this.status = status;
  }
}

/** Progress and complaints go to stderr: stdout belongs to the target. */
export function say(message) {
  process.stderr.write(`causeway: ${message}\n`);
}

export function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  const [wantMajor, wantMinor] = OLDEST_NODE;
  if (major < wantMajor || (major === wantMajor && minor < wantMinor)) {
    throw new Failure(`Node ${OLDEST_NODE.join('.')} or newer is needed; this is ${process.versions.node}`, 3);
  }
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Failure(`Causeway runs on Linux on x86-64; this is ${process.platform} on ${process.arch}`, 3);
  }
}

function onPath(program) {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Installs what is missing when that is possible without asking: root on Debian or Ubuntu. */
export function ensureToolchain() {
  const missing = () => TOOLS.filter((tool) => !tool.found());
  const before = missing();
  if (before.length === 0) return;
  const packages = [...new Set(before.flatMap((tool) => tool.packages))];
  const names = before.map((tool) => tool.what).join(', ');
  if (process.getuid() === 0 && onPath('apt-get')) {
    say(`missing on this host: ${names}; installing ${packages.join(' ')}`);
    apt(['update']);
    apt(['install', '-y', '--no-install-recommends', ...packages]);
  }
  for (const tool of missing()) {
    const message = `missing on this host: ${tool.what} (Debian and Ubuntu: apt-get install ${tool.packages.join(' ')})`;
    if (!tool.optional) throw new Failure(message, 3);
    say(message);
  }
}

function apt(args) {
  const { status } = spawnSync('apt-get', ['-q', ...args], {
    // Its chatter must not mix with what the target prints.
    stdio: ['ignore', 2, 2],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
  if (status !== 0) throw new Failure(`apt-get ${args.join(' ')} failed`, 3);
}

/**
 * Runs a program with this process's output, in a process group of its own, and passes signals on to the whole group:
 * what the program started must not outlive it, machines of the lab least of all.
 * Resolves with its exit code; a program that a signal ended gives 128 plus that signal's number, as in a shell.
 * @param {{ limitMs?: number, env?: NodeJS.ProcessEnv, stdio?: import('node:child_process').StdioOptions }} options
 *   `limitMs`: when it takes longer, the group is killed and the exit code is 124
 */
export async function runProgram(program, args, { limitMs, ...options } = {}) {
  const child = spawn(program, args, {
    cwd: ROOT,
    stdio: ['ignore', 'inherit', 'inherit'],
    detached: true,
    ...options,
  });
  const ended = new Promise((resolve, reject) => {
    child.on('error', (error) => reject(new Failure(`${program} does not start: ${error.message}`)));
    child.on('close', (code, signal) => resolve(code ?? 128 + (SIGNAL_NUMBER[signal] ?? 0)));
  });
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  const pass = (signal) => signalGroup(child.pid, signal);
  for (const signal of signals) process.on(signal, pass);
  let late = false;
  const limit =
    limitMs &&
    setTimeout(() => {
      late = true;
      signalGroup(child.pid, 'SIGKILL');
    }, limitMs);
  try {
    const status = await ended;
    return late ? 124 : status;
  } finally {
    clearTimeout(limit);
    for (const signal of signals) process.off(signal, pass);
    signalGroup(child.pid, 'SIGKILL');
  }
}

function signalGroup(pid, signal) {
  try {
    process.kill(-pid, signal);
  } catch {
    // The group is gone already, or never came to be.
  }
}

const SIGNAL_NUMBER = { SIGHUP: 1, SIGINT: 2, SIGABRT: 6, SIGKILL: 9, SIGSEGV: 11, SIGTERM: 15 };
