/**
 * `--lab`: an emulated host with all the wanted devices, in which the same command runs with `--device`. The run folder is the
 * lab's share, so that what is in it outlives the lab; a lab or a harness that dies is started anew, and goes on after the
 * test that was running.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { type Lab, LabError, openLab } from '../../../lab/index.ts';
import { MIB } from '../../../vmm/base/bits.ts';
import { CausewayError } from '../../../vmm/base/errors.ts';
import { parseSize } from '../../../vmm/base/units.ts';
import { usageError } from '../../../vmm/cli/arguments.ts';
import { LAB_PEER_ADDRESS, PEER_VARIABLE, prepareGuests, TcpPeer } from '../../guest/index.ts';
import { type RunRecord, TEST_EXIT } from '../model.ts';
import { readRun } from '../report/compare.ts';
import type { RunFolder } from '../run/run-folder.ts';
import { uniqueNames } from './select-devices.ts';
import type { TestOptionValues } from './test-options.ts';

export interface LabRunOptions {
  /** `e1000e`, `nvme`, with options as the lab takes them: `e1000e,bind=host`. Of `e1000e,functions=2` both are tested. */
  readonly models: readonly string[];
  /** Suites and files. */
  readonly words: readonly string[];
  readonly options: TestOptionValues;
  readonly folder: RunFolder;
  readonly signal: AbortSignal;
  readonly stdout: Writable;
  readonly stderr: Writable;
}

/** The command line of this very repository; this file runs as source and from `dist/`. */
const HERE = dirname(fileURLToPath(import.meta.url));
const CLI = join(HERE, import.meta.url.endsWith('.ts') ? '../../..' : '../../../..', 'build/cli/main.js');
/** A test that ends the whole lab does so once, as the next start goes on after it: more than that is the lab's own fault. */
const MOST_STARTS = 4;
/** The inner harness says something every 30 s. */
const SILENCE_MS = 300_000;
/** Less and Debian's kernel does not come up with a guest beside it. */
const LEAST_MEMORY_MIB = 1024;
/** What the run in the lab has for an end in order. */
const END_MS = 90_000;

/** `--lab` is a list, and options of a device are behind commas too: what has a `=` belongs to the model before it. */
export function joinModels(parts: readonly string[]): string[] {
  const models: string[] = [];
  for (const part of parts) {
    if (part.includes('=') && models.length > 0) models.push(`${models.pop()},${part}`);
    else models.push(part);
  }
  return models;
}

/** @returns what the run in the lab recorded. @throws LabError when no lab can be had */
export async function runInLab(options: LabRunOptions): Promise<RunRecord> {
  const { folder, stderr } = options;
  memoryOf(options.options['lab-memory']);
  const result = join(folder.path, 'run.json');
  rmSync(result, { force: true });
  // What the lab's slow processor would take minutes for; and it cannot add to this machine's cache.
  await prepareGuests((line) => stderr.write(`lab: ${line}\n`));
  await using peer = await TcpPeer.listen();
  const ktap = new ResumedLines(options.options.json === '-' ? undefined : options.stdout);
  let lab: Lab | undefined;
  try {
    for (let start = 1; ; start++) {
      lab ??= await openRunLab(options);
      const isResumed = start > 1 || options.options.resume !== undefined;
      const { died, lost } = await oneStart(options, lab, ktap, peer.port, isResumed);
      if (existsSync(result)) return readRun(readFileSync(result, 'utf8'));
      if (options.signal.aborted || start === MOST_STARTS) {
        throw new LabError('LAB_DIED', `the run in the lab has no result: ${died}`);
      }
      stderr.write(`causeway test: ${died}; going on${lost ? ' in a new lab' : ''}\n`);
      if (!lost) continue;
      await lab.close();
      lab = undefined;
    }
  } finally {
    await lab?.close();
  }
}

async function openRunLab({ models, options, folder, signal, stderr }: LabRunOptions): Promise<Lab> {
  const { 'lab-kernel': kernel, 'lab-cpus': cpus, 'lab-memory': memory } = options;
  const memoryMib = memoryOf(memory);
  // Until it is open: an open lab is closed only after the run in it has ended.
  const opening = new AbortController();
  const onAbort = (): void => opening.abort();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await openLab({
      devices: models,
      shareDir: folder.path,
      ...(kernel === undefined ? {} : { kernel }),
      ...(cpus === undefined ? {} : { cpus }),
      ...(memoryMib === undefined ? {} : { memoryMib }),
      signal: opening.signal,
      log: (line) => stderr.write(`lab: ${line}\n`),
    });
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** @throws CausewayError USAGE */
function memoryOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const bytes = parseSize(text);
  if (bytes !== undefined && bytes >= LEAST_MEMORY_MIB * MIB) return Math.floor(bytes / MIB);
  throw usageError('test', [`--lab-memory ${text}: a size such as 6G, at least ${LEAST_MEMORY_MIB}M`]);
}

/** Runs the command in the lab. @returns how it ended, and whether that lab can be used further */
async function oneStart(
  run: LabRunOptions,
  lab: Lab,
  ktap: ResumedLines,
  peerPort: number,
  isResumed: boolean,
): Promise<{ readonly died: string; readonly lost: boolean }> {
  const { options, words, folder, signal, stderr } = run;
  ktap.restart();
  const give = new AbortController();
  const onAbort = (): void => {
    // In order: the run in the lab gives the devices back and writes what it has.
    lab.signalAll('SIGTERM');
    setTimeout(() => give.abort(new Error('interrupted')), END_MS).unref();
  };
  signal.addEventListener('abort', onAbort, { once: true });
  const silence = setTimeout(() => give.abort(new Error(`silent for ${SILENCE_MS / 1000} s`)), SILENCE_MS);
  const command = [
    ...['env', `${PEER_VARIABLE}=${LAB_PEER_ADDRESS}:${peerPort}`],
    ...[process.execPath, CLI, 'test', ...words],
    ...innerArguments(lab, options, folder.path, isResumed),
  ];
  try {
    const { code } = await lab.exec(command, {
      signal: give.signal,
      keepOutput: false,
      onStdout: (chunk) => {
        silence.refresh();
        ktap.write(chunk);
      },
      onStderr: (chunk) => {
        silence.refresh();
        stderr.write(chunk);
      },
    });
    // A fault of the command line is told, and would be the same again.
    if (code === TEST_EXIT.usage) throw new CausewayError('CONFIG_INVALID', 'the run in the lab did not begin');
    return { died: `the harness in the lab ended with ${code}`, lost: false };
  } catch (error) {
    if (error instanceof CausewayError) throw error;
    return { died: error instanceof Error ? error.message.split('\n')[0]! : String(error), lost: true };
  } finally {
    clearTimeout(silence);
    signal.removeEventListener('abort', onAbort);
  }
}

/** What is decided inside: devices by address, everything else as it was given. */
function innerArguments(lab: Lab, options: TestOptionValues, folder: string, isResumed: boolean): string[] {
  // What the kernel did not find is told by the run inside.
  const functions = lab.devices.flatMap(({ model, functions, bdf }) =>
    (functions.length > 0 ? functions : [bdf]).map((address) => ({ model, address })),
  );
  const names = uniqueNames(functions.map(({ model }) => model));
  const pass = ['filter', 'retries', 'timeout', 'silence', 'run-timeout'] as const;
  return [
    ...functions.flatMap(({ address }, i) => ['--device', `${address}=${names[i]}`]),
    ...pass.flatMap((name) => (options[name] === undefined ? [] : [`--${name}`, String(options[name])])),
    ...(options.verbose ? ['--verbose'] : []),
    ...(isResumed ? ['--resume', folder] : ['--output', folder]),
    '--no-html',
  ];
}

/** KTAP of a run that is taken up begins anew with what was told already: those lines are left out. */
export class ResumedLines {
  readonly #output: Writable | undefined;
  #rest = '';
  #told = 0;
  #seen = 0;

  constructor(output: Writable | undefined) {
    this.#output = output;
  }

  restart(): void {
    this.#rest = '';
    this.#seen = 0;
  }

  write(chunk: Uint8Array | string): void {
    const lines = (this.#rest + (typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString())).split('\n');
    this.#rest = lines.pop()!;
    for (const line of lines) {
      if (++this.#seen <= this.#told) continue;
      this.#told++;
      this.#output?.write(`${line}\n`);
    }
  }
}
