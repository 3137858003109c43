/** A lab for one test file, and running programs of `guest-tests/inside` in it. */
import { stripVTControlCharacters } from 'node:util';
import { type ExecOptions, type ExecResult, type Lab, type LabOptions, openLab } from '../../lab/index.ts';
import { CLI, insideProgram } from './programs.ts';

const MINUTE_MS = 60_000;
const TAIL_LINES = 60;

/** One line of progress: the tests of a lab take minutes, and silence looks like a hang. */
export function say(line: string): void {
  process.stderr.write(`  ${new Date().toISOString().slice(11, 19)} ${line}\n`);
}

/** Opens a lab that tells its steps. */
export function openTestLab(options: LabOptions): Promise<Lab> {
  return openLab({ log: say, ...options });
}

/**
 * Runs a program of `guest-tests/inside` with one JSON argument and gives the JSON object that it prints.
 * With CAUSEWAY_SHOW_CONSOLE in the environment what it writes to stderr is shown as it comes.
 * @throws Error with the end of what it wrote to stderr, which has the guest's console
 */
export async function runInside<T>(
  lab: Lab,
  program: string,
  argument: unknown,
  { timeoutMs = 5 * MINUTE_MS }: { readonly timeoutMs?: number } = {},
): Promise<T> {
  const began = Date.now();
  let stderr = '';
  const command = [process.execPath, insideProgram(program), JSON.stringify(argument)];
  const onStderr = (chunk: Buffer): void => {
    stderr += chunk.toString();
    if (process.env.CAUSEWAY_SHOW_CONSOLE) process.stderr.write(chunk);
  };
  const result = await lab.exec(command, { timeoutMs, onStderr }).catch((error: Error) => {
    throw new Error(`${program}: ${error.message}\n${tail(stderr)}`, { cause: error });
  });
  say(`${program}: ${((Date.now() - began) / 1000).toFixed(1)} s`);
  try {
    if (result.code === 0) return JSON.parse(result.stdout) as T;
  } catch {
    // Told below, with everything it wrote.
  }
  throw new Error(`${program} ended with ${result.code}\n${tail(`${stderr}\n${result.stdout}`)}`);
}

/** Runs `causeway` in the lab. */
export function causeway(lab: Lab, args: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
  return lab.exec([process.execPath, CLI, ...args], { timeoutMs: 2 * MINUTE_MS, ...options });
}

/** The end of a console's text, for the message of a failure. */
export function tail(text: string): string {
  return stripVTControlCharacters(text).trimEnd().split(/\r?\n/).slice(-TAIL_LINES).join('\n');
}
