#!/usr/bin/env node
/** The `causeway` binary: the one place that knows both the command line and what stands on top of it. */
import { runCli } from '../vmm/cli/cli.ts';

const exitCode = await runCli(process.argv.slice(2), {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  process,
  // Loads the addon and the machine: not for `help`.
  createVm: async (config, options) => (await import('../vmm/control/create-vm.ts')).createVm(config, options),
  commands: {
    test: {
      summary: 'run tests against real devices, inside guests',
      run: async (args, world) => (await import('../guest-tests/harness/cli/test-command.ts')).testCommand(args, world),
    },
  },
});

// What was written must have left before the process ends: a pipe takes it later.
await Promise.all(
  [process.stdout, process.stderr].map(
    (stream) => new Promise((resolve) => stream.write('', () => resolve(undefined))),
  ),
);
process.exit(exitCode);
