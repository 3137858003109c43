import { spawn } from 'node:child_process';
import { LabError, type LabErrorCode } from './errors.ts';

/** How to run a host program. */
export interface RunOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Called with each complete line of standard output while the program runs. */
  readonly onLine?: (line: string) => void;
  /** The code of the error thrown on failure. */
  readonly code?: LabErrorCode;
  readonly hint?: string;
}

/** Run a host program to its end and give its standard output; throws LabError when it is missing or fails. */
export async function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Buffer> {
  const code = options.code ?? 'LAB_UNSUPPORTED_HOST';
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: options.env }),
  });
  const out: Buffer[] = [];
  let errors = '';
  let partial = '';
  child.stdout.on('data', (chunk: Buffer) => {
    out.push(chunk);
    if (!options.onLine) return;
    const lines = (partial + chunk.toString()).split('\n');
    partial = lines.pop() ?? '';
    for (const line of lines) options.onLine(line);
  });
  child.stderr.on('data', (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-4000);
  });
  const status = await new Promise<number | string>((resolve, reject) => {
    child.on('error', (cause: NodeJS.ErrnoException) => {
      const message = cause.code === 'ENOENT' ? `the program ${program} is missing on this host` : cause.message;
      reject(new LabError(code, message, { hint: options.hint, cause }));
    });
    child.on('close', (exit, signal) => resolve(exit ?? signal ?? 'unknown'));
  });
  if (status !== 0) {
    throw new LabError(code, `${program} ${args.slice(0, 4).join(' ')} failed (${status}): ${errors.trim()}`, {
      hint: options.hint,
    });
  }
  return Buffer.concat(out);
}
