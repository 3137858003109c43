/** A lab for one test file, and running programs of `guest-tests/inside` in it. */
import { stripVTControlCharacters } from 'node:util';
import { type ExecOptions, type ExecResult, type Lab, type LabOptions, openLab } from '../../lab/index.ts';
import { CLI, insideProgram } from './programs.ts';

const MINUTE_MS = 60_000;
const TAIL_LINES = 60;
/** A busy lab answers within a second or two. */
const ANSWER_MS = 30_000;

/**
 * For tests that need no true concurrency in the emulated host. QEMU's processors are threads, and one of them can execute a
 * translation of code that another has long patched: Linux then waits for ever, in the host or in its guest (a loop that
 * creates KVM's first VM shows it within seconds, QEMU 7.2 and 10 alike). With one processor that cannot happen, and two
 * labs fit on two cores.
 */
export const ONE_PROCESSOR: LabOptions = { cpus: 1 };

/** One line of progress: the tests of a lab take minutes, and silence looks like a hang. */
export function say(line: string): void {
  process.stderr.write(`  ${new Date().toISOString().slice(11, 19)} ${line}\n`);
}

/** Opens a lab that tells its steps. */
export function openTestLab(options: LabOptions): Promise<Lab> {
  return openLab({ log: say, ...options });
}

/**
 * The same lab when it still answers, else a new one like it: what happened in one test must not decide the next.
 * An emulated host can stall as a whole, which is nobody's failure but its own.
 */
export async function aliveLab(lab: Lab, options: LabOptions): Promise<Lab> {
  try {
    const { code } = await lab.exec('true', { timeoutMs: ANSWER_MS });
    if (code === 0) return lab;
  } catch (error) {
    say(`the lab does not answer and is replaced: ${error instanceof Error ? error.message.split('\n')[0] : error}`);
  }
  await lab.close();
  return openTestLab(options);
}

/**
 * Runs a program of `guest-tests/inside` with one JSON argument and gives the JSON object that it prints.
 * With CAUSEWAY_SHOW_CONSOLE in the environment what it writes to stderr is shown as it comes.
 * A program that says nothing for `silenceMs` is given up. `onText` gets what it writes to stderr.
 * @throws Error with the end of what it wrote to stderr, which has the guest's console
 */
export async function runInside<T>(
  lab: Lab,
  program: string,
  argument: unknown,
  {
    timeoutMs = 5 * MINUTE_MS,
    silenceMs = 4 * MINUTE_MS,
    onText = () => {},
  }: { readonly timeoutMs?: number; readonly silenceMs?: number; readonly onText?: (text: string) => void } = {},
): Promise<T> {
  const began = Date.now();
  let stderr = '';
  let findings = '';
  const giveUp = new AbortController();
  const onSilence = async (): Promise<void> => {
    findings = await threadsOf(lab, program);
    giveUp.abort(new Error(`silent for ${silenceMs / 1000} s`));
  };
  let silence = setTimeout(onSilence, silenceMs);
  const command = [process.execPath, insideProgram(program), JSON.stringify(argument)];
  const onStderr = (chunk: Buffer): void => {
    stderr += chunk.toString();
    onText(chunk.toString());
    clearTimeout(silence);
    silence = setTimeout(onSilence, silenceMs);
    if (process.env.CAUSEWAY_SHOW_CONSOLE) process.stderr.write(chunk);
  };
  const result = await lab
    .exec(command, { timeoutMs, onStderr, signal: giveUp.signal })
    .catch((error: Error) => {
      throw new Error(`${program}: ${error.message}\n${findings}\n${tail(stderr)}`, { cause: error });
    })
    .finally(() => clearTimeout(silence));
  say(`${program}: ${((Date.now() - began) / 1000).toFixed(1)} s`);
  try {
    if (result.code === 0) return JSON.parse(result.stdout) as T;
  } catch {
    // Told below, with everything it wrote.
  }
  throw new Error(`${program} ended with ${result.code}\n${tail(`${stderr}\n${result.stdout}`)}`);
}

/** Where each thread of a program that fell silent is, in words of the kernel. */
async function threadsOf(lab: Lab, program: string): Promise<string> {
  const script = `for task in /proc/$(pgrep -f inside/${program}.js | head -1)/task/*; do
    echo "$(cat $task/comm) $(cut -d' ' -f3,14,15 $task/stat) $(cat $task/wchan) $(cat $task/syscall)"; head -4 $task/stack; done`;
  return lab.exec(script, { timeoutMs: ANSWER_MS }).then(
    ({ stdout }) => stdout,
    (error: Error) => `the lab itself does not answer: ${error.message}`,
  );
}

/** Runs `causeway` in the lab. */
export function causeway(lab: Lab, args: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
  return lab.exec([process.execPath, CLI, ...args], { timeoutMs: 2 * MINUTE_MS, ...options });
}

/** The end of a console's text, for the message of a failure. */
export function tail(text: string): string {
  return stripVTControlCharacters(text).trimEnd().split(/\r?\n/).slice(-TAIL_LINES).join('\n');
}
