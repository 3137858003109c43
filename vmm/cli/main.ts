#!/usr/bin/env node
/** The `causeway` binary. */
import { runCli } from './cli.ts';

const exitCode = await runCli(process.argv.slice(2), {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  process,
  // Loads the addon and the machine: not for `help`.
  createVm: async (config, options) => (await import('../control/create-vm.ts')).createVm(config, options),
});

// What was written must have left before the process ends: a pipe takes it later.
await Promise.all(
  [process.stdout, process.stderr].map(
    (stream) => new Promise((resolve) => stream.write('', () => resolve(undefined))),
  ),
);
process.exit(exitCode);
