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
import { LAB_PEER_ADDRESS, PEER_VARIABLE, prepareGuests, TcpPeer } from '../../guest/index.ts';
import { type RunRecord, TEST_EXIT } from '../model.ts';
import { readRun } from '../report/compare.ts';
import type { RunFolder } from '../run/run-folder.ts';
import { uniqueNames } from './select-devices.ts';
import type { TestOptionValues } from './test-options.ts';

export interface LabRunOptions {
  /** `e1000e`, `nvme`, with QEMU's options: `e1000e,bind=host`. */
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
  const result = join(folder.path, 'run.json');
  rmSync(result, { force: true });
  // What the lab's slow processor would take minutes for; and it cannot add to this machine's cache.
  await prepareGuests((line) => stderr.write(`lab: ${line}\n`));
  await using peer = await TcpPeer.listen();
  const ktap = new ResumedLines(options.options.json === '-' ? undefined : options.stdout);
  for (let start = 1; ; start++) {
    const died = await oneLab(options, ktap, peer.port, start > 1 || options.options.resume !== undefined);
    if (existsSync(result)) return readRun(readFileSync(result, 'utf8'));
    if (options.signal.aborted || start === MOST_STARTS) {
      throw new LabError('LAB_DIED', `the lab ended without a result: ${died}`);
    }
    stderr.write(`causeway test: ${died}; going on in a new lab\n`);
  }
}

async function oneLab(run: LabRunOptions, ktap: ResumedLines, peerPort: number, isResumed: boolean): Promise<string> {
  const { options, words, folder, signal, stderr } = run;
  const kernel = options['lab-kernel'];
  await using lab = await openLab({
    devices: run.models,
    shareDir: folder.path,
    ...(kernel === undefined ? {} : { kernel }),
    signal,
    log: (line) => stderr.write(`lab: ${line}\n`),
  });
  ktap.restart();
  const give = new AbortController();
  const onSilence = (): void => give.abort(new Error(`silent for ${SILENCE_MS / 1000} s`));
  const silence = setTimeout(onSilence, SILENCE_MS);
  const environment = ['env', `${PEER_VARIABLE}=${LAB_PEER_ADDRESS}:${peerPort}`];
  const command = [
    ...environment,
    process.execPath,
    CLI,
    'test',
    ...words,
    ...innerArguments(lab, options, folder.path, isResumed),
  ];
  try {
    const { code } = await lab.exec(command, {
      signal: AbortSignal.any([give.signal, signal]),
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
    return `the harness in the lab ended with ${code}${code === TEST_EXIT.usage ? ' (usage)' : ''}`;
  } catch (error) {
    return error instanceof Error ? error.message.split('\n')[0]! : String(error);
  } finally {
    clearTimeout(silence);
  }
}

/** What is decided inside: devices by address, everything else as it was given. */
function innerArguments(lab: Lab, options: TestOptionValues, folder: string, isResumed: boolean): string[] {
  const names = uniqueNames(lab.devices.map(({ model }) => model));
  const pass = ['filter', 'retries', 'timeout', 'silence', 'run-timeout'] as const;
  return [
    ...lab.devices.flatMap(({ bdf }, i) => ['--device', `${bdf}=${names[i]}`]),
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
