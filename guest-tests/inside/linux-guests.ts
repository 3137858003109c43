/**
 * Runs inside the lab: one Linux guest, in health or in some kind of trouble, and what the guest of the tests makes of it.
 * Usage: node linux-guests.js '{"part": "oops", "device": "0000:01:00.0", "modules": "/tmp/modules"}'
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile, rm, stat } from 'node:fs/promises';
import {
  bootLinux,
  type CommandResult,
  type LinuxGuest,
  type LinuxOptions,
  type ModuleFault,
  type Trouble,
} from '../guest/index.ts';

/** A guest in health. */
export interface HealthyGuest {
  readonly commands: readonly Pick<CommandResult, 'code' | 'stdout' | 'stderr'>[];
  /** Digest of random bytes as the guest and as the host saw it. */
  readonly digests: readonly [string, string];
  readonly timeout: string;
  readonly flooded: string;
  readonly afterTimeout: string;
  readonly sysrq: string;
  readonly memory: { readonly files: readonly string[]; readonly coreBytes: number; readonly coreBlocks: number };
  readonly registers: string;
  /** The kernel's name was found in the core file. */
  readonly hasBanner: boolean;
  readonly afterDump: string;
}

/** A guest in trouble. */
export interface TroubledGuest {
  readonly trouble: Trouble;
  /** What the command that was running ended with; empty when it came back. */
  readonly error: string;
}

export type GuestPart = 'verbs' | 'panic' | 'reset' | 'never ready' | ModuleFault;

/** Several times what a ping takes in a busy lab. */
const SILENCE_MS = 30_000;
const DUMP = '/tmp/guest-dump';

function boot(options: LinuxOptions): Promise<LinuxGuest> {
  return bootLinux({
    memory: '128M',
    modules: [],
    silenceMs: SILENCE_MS,
    onConsole: (bytes) => process.stderr.write(bytes),
    ...options,
  });
}

async function verbs(device: string): Promise<HealthyGuest> {
  await using guest = await boot({
    modules: ['e1000e'],
    devices: [device],
    cpus: 2,
    files: { '/hello/there': 'file\n' },
  });
  const commands: CommandResult[] = [];
  for (const command of ['cat /hello/there; echo oops >&2; exit 3', 'ls /sys/class/net', 'nproc; cat']) {
    commands.push(await guest.run(command));
  }
  const random = await guest.run('head -c 20000 /dev/urandom > /tmp/r; sha256sum < /tmp/r >&2; cat /tmp/r');
  const digest = createHash('sha256').update(random.stdoutBytes).digest('hex');
  const flood = 'while :; do echo "a console that could tear a result" > /dev/kmsg; done';
  await guest.must(`(${flood}) > /dev/null 2>&1 & echo $! > /tmp/pid`);
  const flooded = await guest.must('seq 1 200 | md5sum; kill $(cat /tmp/pid)', { timeoutMs: 120_000 });
  const timeout = await messageOf(guest.run('echo begun; sleep 1000', { timeoutMs: 3000 }));
  const afterTimeout = await guest.must('echo alive');
  guest.sysrq('h');
  const sysrq = await guest.expect(/sysrq: HELP :/i);
  const release = await guest.must('uname -r');
  const files = await guest.dump(DUMP);
  const afterDump = await guest.must('echo still alive');
  await guest.shutdown();
  const core = await stat(`${DUMP}.core`);
  const registers = await readFile(`${DUMP}.registers.txt`, 'utf8');
  const hasBanner = spawnSync('grep', ['-qa', `Linux version ${release}`, `${DUMP}.core`]).status === 0;
  await rm(`${DUMP}.core`);
  return {
    ...{ commands, digests: [random.stderr.split(' ')[0]!, digest], timeout, flooded, afterTimeout },
    ...{ sysrq, memory: { files, coreBytes: core.size, coreBlocks: core.blocks }, registers, hasBanner, afterDump },
  };
}

async function inTrouble(command: string, options: LinuxOptions = {}): Promise<TroubledGuest> {
  await using guest = await boot(options);
  const error = messageOf(guest.run(command, { timeoutMs: 150_000 }));
  return { trouble: await guest.trouble, error: await error };
}

async function messageOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => '',
    (error: Error) => error.message,
  );
}

async function run(part: GuestPart, device: string, modules: string): Promise<unknown> {
  switch (part) {
    case 'verbs':
      return verbs(device);
    case 'panic':
      return inTrouble('echo c > /proc/sysrq-trigger');
    case 'reset':
      return inTrouble('reboot -f');
    case 'never ready':
      return messageOf(boot({ cmdline: 'rdinit=/bin/cat', readyTimeoutMs: 20_000 }));
    default:
      return inTrouble('insmod /broken.ko', { files: { '/broken.ko': { from: `${modules}/${part}.ko` } } });
  }
}

interface Job {
  readonly part: GuestPart;
  readonly device: string;
  /** Folder with the broken modules. */
  readonly modules: string;
}

const { part, device, modules } = JSON.parse(process.argv[2]!) as Job;
process.stdout.write(`${JSON.stringify(await run(part, device, modules))}\n`);
