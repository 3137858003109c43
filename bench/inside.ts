/**
 * Runs inside the lab, close to what it times: carries out a list of runs, one after the other, and prints the result of
 * each as a line of JSON. Its one argument is the file that holds the list.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type MemorySample, readMemory } from './process-memory.ts';

/** One program to run to its end. */
export interface RunSpec {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** The line on the console that ends the start; without one there is nothing to wait for. */
  readonly marker?: string;
  /** Absent: its output says how it went. */
  readonly exitCode?: number;
  readonly timeoutMs: number;
  /** How often it may be tried until it ends as it should; 1 when absent. */
  readonly attempts?: number;
}

export interface ConsoleLine {
  /** Since the process was started. */
  readonly ms: number;
  readonly text: string;
}

export interface RunResult {
  readonly lines: readonly ConsoleLine[];
  /** When the marker came. */
  readonly startMs: number | undefined;
  readonly memory: MemorySample | undefined;
  readonly endMs: number;
  /** The last that it wrote on standard error. */
  readonly complaints: string;
  /** What went wrong, with the program's last words. */
  readonly failure: string | undefined;
  /** What went wrong in the attempts before this one. */
  readonly earlier: readonly string[];
}

const SAMPLE_EVERY_MS = 250;

async function attempt(spec: RunSpec): Promise<Omit<RunResult, 'earlier'>> {
  const [program = '', ...args] = spec.argv;
  const begin = performance.now();
  const since = () => performance.now() - begin;
  const child = spawn(program, args, { env: { ...process.env, ...spec.env }, stdio: 'pipe' });
  const timeout = setTimeout(() => child.kill('SIGKILL'), spec.timeoutMs);
  const lines: ConsoleLine[] = [];
  let startMs: number | undefined;
  let sampling: Promise<MemorySample | undefined> | undefined;
  let rest = '';
  let complaints = '';
  child.stdin.on('error', () => {});
  child.stderr.on('data', (chunk: Buffer) => {
    complaints = (complaints + chunk.toString('latin1')).slice(-2000);
  });
  child.stdout.on('data', (chunk: Buffer) => {
    const ms = since();
    const pieces = (rest + chunk.toString('latin1')).split('\n');
    rest = pieces.pop() ?? '';
    for (const piece of pieces) lines.push({ ms, text: piece.trimEnd() });
    if (startMs !== undefined || spec.marker === undefined) return;
    const marker = spec.marker;
    if (!lines.some(({ text }) => text.includes(marker))) return;
    startMs = ms;
    sampling = sampleToTheEnd(child);
  });
  try {
    const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
    const endMs = since();
    let failure: string | undefined;
    const isExpected = spec.exitCode === undefined ? signal === null : code === spec.exitCode;
    if (!isExpected) failure = `ended with ${signal ?? `exit code ${code}`} after ${Math.round(endMs)} ms`;
    else if (spec.marker !== undefined && startMs === undefined) failure = 'the guest never came to user space';
    if (failure !== undefined) {
      const console_ = lines.slice(-10).map(({ text }) => text);
      failure = [failure, ...console_, complaints].join('\n').trim();
    }
    return { lines, startMs, memory: await sampling, endMs, complaints, failure };
  } finally {
    clearTimeout(timeout);
  }
}

async function measure(spec: RunSpec): Promise<RunResult> {
  const earlier: string[] = [];
  for (;;) {
    const result = await attempt(spec);
    if (result.failure === undefined || earlier.length + 1 >= (spec.attempts ?? 1)) return { ...result, earlier };
    earlier.push(result.failure);
  }
}

/** The last look at a process's memory while it lived: its peak only grows. */
async function sampleToTheEnd(child: ChildProcess): Promise<MemorySample | undefined> {
  let last: MemorySample | undefined;
  while (child.exitCode === null && child.signalCode === null) {
    await new Promise((resolve) => setTimeout(resolve, SAMPLE_EVERY_MS));
    last = readMemory(child.pid ?? 0, last) ?? last;
  }
  return last;
}

const specs = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as RunSpec[];
for (const spec of specs) {
  const result = await measure(spec);
  process.stdout.write(`${JSON.stringify(result)}\n`);
  if (result.failure !== undefined) break;
}
