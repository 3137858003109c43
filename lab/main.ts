import { commandWords, help, parseArgs } from './cli/args.ts';
import type { ExecOptions } from './commands.ts';
import { LabError } from './errors.ts';
import { fetchLab, type Lab, openLab } from './lab.ts';

/** How long the command has to end after SIGTERM or SIGHUP, which come once and from somebody who does not look. */
const graceMs = 10_000;
const exitCodes = { timeout: 124, lab: 125, notStarted: 126, interrupted: 130, outputClosed: 141 } as const;

async function main(words: readonly string[]): Promise<number> {
  const request = parseArgs(words);
  if (request.help) {
    process.stdout.write(help);
    return 0;
  }
  const log = request.quiet ? () => {} : (line: string) => process.stderr.write(`lab: ${line}\n`);
  if (request.fetchOnly) {
    await fetchLab({ ...request.options, log });
    return 0;
  }
  const abort = new AbortController();
  let lab: Lab | undefined;
  // The first signal is for the command; while there is none, or at the second, it ends the lab.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    let seen = 0;
    process.on(signal, () => {
      seen += 1;
      const end = () => abort.abort(new LabError('LAB_ABORTED', 'interrupted'));
      if (lab === undefined || seen > 1) return end();
      lab.signalAll(signal);
      // At a terminal Ctrl-C can be pressed again.
      if (signal !== 'SIGINT') setTimeout(end, graceMs).unref();
    });
  }
  const showConsole = (chunk: string) => process.stderr.write(chunk);
  lab = await openLab({
    ...request.options,
    signal: abort.signal,
    log,
    ...(request.console ? { onConsole: showConsole } : {}),
  });
  try {
    if (request.command.length === 0) return await shell(lab, abort.signal);
    return await command(lab, request.command, {
      signal: abort.signal,
      ...(request.timeoutMs === undefined ? {} : { timeoutMs: request.timeoutMs }),
    });
  } finally {
    await lab.close();
  }
}

async function command(lab: Lab, words: readonly string[], options: ExecOptions): Promise<number> {
  const { code } = await lab.exec(commandWords(words), {
    ...options,
    keepOutput: false,
    onStdout: (chunk) => process.stdout.write(chunk),
    onStderr: (chunk) => process.stderr.write(chunk),
    // A terminal stays the caller's: only what is piped in is handed on.
    ...(process.stdin.isTTY ? {} : { stdin: process.stdin }),
  });
  return code;
}

/** A shell on a pseudo-terminal inside the lab, with this terminal in raw mode. */
async function shell(lab: Lab, signal: AbortSignal): Promise<number> {
  const { stdin, stdout } = process;
  if (!stdin.isTTY) return command(lab, ['sh'], { signal });
  const size = `stty rows ${stdout.rows} cols ${stdout.columns} 2>/dev/null`;
  const start = `${size}; exec "\${SHELL:-/bin/sh}" -i`;
  stdin.setRawMode(true);
  try {
    const { code } = await lab.exec(['script', '-q', '-e', '-f', '-c', start, '/dev/null'], {
      signal,
      stdin,
      keepOutput: false,
      onStdout: (chunk) => stdout.write(chunk),
      onStderr: (chunk) => process.stderr.write(chunk),
    });
    return code;
  } finally {
    stdin.setRawMode(false);
  }
}

function explain(error: unknown): number {
  if (!(error instanceof LabError)) {
    process.stderr.write(`lab: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    return exitCodes.lab;
  }
  process.stderr.write(`lab: ${error.message}\n`);
  if (error.hint !== undefined) process.stderr.write(`lab: ${error.hint}\n`);
  if (error.code === 'LAB_EXEC_TIMEOUT') return exitCodes.timeout;
  if (error.code === 'LAB_EXEC_FAILED') return exitCodes.notStarted;
  if (error.code === 'LAB_ABORTED') return exitCodes.interrupted;
  return exitCodes.lab;
}

// Whoever reads the output may stop early, as head(1) does: end as a program would that SIGPIPE ended.
process.stdout.on('error', () => process.exit(exitCodes.outputClosed));
const code = await main(process.argv.slice(2)).catch(explain);
// Standard input may still be open, and would keep this process alive.
process.stdout.write('', () => process.exit(code));
