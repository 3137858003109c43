/** Picks the command and turns its failure into a message and an exit code. Loads a command's modules only when it is run. */
import { type CausewayError, EXIT_CODE, isCausewayError } from '../base/errors.ts';
import { didYouMean } from '../config/issues.ts';
import { usageError } from './arguments.ts';
import type { HostWorld } from './host-world.ts';
import type { RunWorld } from './run.ts';

type HostCommand = (args: readonly string[], world: HostWorld) => number | Promise<number>;

/** Commands about the host's devices; none of them starts a VM. */
const HOST_COMMANDS: Readonly<Record<string, () => Promise<HostCommand>>> = {
  devices: async () => (await import('./devices.ts')).devicesCommand,
  inspect: async () => (await import('./inspect.ts')).inspectCommand,
  bind: async () => (await import('./bind.ts')).bindCommand,
  restore: async () => (await import('./bind.ts')).restoreCommand,
  vfs: async () => (await import('./vfs.ts')).vfsCommand,
  doctor: async () => (await import('./doctor.ts')).doctorCommand,
};

/** A command that stands on top of the command line, which does not know it: it comes with the world. */
export interface OuterCommand {
  /** For the overview of the help. */
  readonly summary: string;
  /** Also answers `--help`. */
  run(args: readonly string[], world: RunWorld & HostWorld): Promise<number>;
}

export interface CliWorld extends RunWorld, HostWorld {
  readonly commands?: Readonly<Record<string, OuterCommand>>;
}

const COMMANDS = ['run', 'vm', ...Object.keys(HOST_COMMANDS), 'help', 'version'];

/** @returns the exit code. Never rejects. */
export async function runCli(args: readonly string[], world: CliWorld): Promise<number> {
  try {
    return await dispatch(args, world);
  } catch (thrown) {
    const error: CausewayError = isCausewayError(thrown) ? thrown : (await import('./run.ts')).asCausewayError(thrown);
    if (args.includes('--json')) world.stdout.write(`${JSON.stringify(error)}\n`);
    else world.stderr.write(formatError(error));
    return error.exitCode;
  }
}

async function dispatch([command, ...args]: readonly string[], world: CliWorld): Promise<number> {
  const outer = world.commands ?? {};
  if (command !== undefined && Object.hasOwn(outer, command)) return outer[command]!.run(args, world);
  if (command !== undefined && Object.hasOwn(HOST_COMMANDS, command)) {
    if (args.includes('--help') || args.includes('-h')) return help(command, world);
    return (await HOST_COMMANDS[command]!())(args, world);
  }
  switch (command) {
    case 'run': {
      if (args.includes('--help') || args.includes('-h')) return help('run', world);
      return (await import('./run.ts')).runCommand(args, world);
    }
    case 'vm': {
      if (args.includes('--help') || args.includes('-h')) return help('vm', world);
      return (await import('./vm.ts')).vmCommand(args, world);
    }
    case 'version':
    case '--version':
      world.stdout.write(`${(await import('./help.ts')).versionText()}\n`);
      return EXIT_CODE.ok;
    case undefined:
      await help(undefined, { ...world, stdout: world.stderr });
      return EXIT_CODE.usage;
    case 'help':
    case '--help':
    case '-h':
      return help(args[0], world);
    default:
      throw usageError('', [
        `unknown command "${command}"${didYouMean(command, [...COMMANDS, ...Object.keys(outer)])}`,
      ]);
  }
}

async function help(topic: string | undefined, world: CliWorld): Promise<number> {
  const outer = world.commands ?? {};
  if (topic !== undefined && Object.hasOwn(outer, topic)) return outer[topic]!.run(['--help'], world);
  const { helpText, TOPICS } = await import('./help.ts');
  const text = helpText(topic, outer);
  if (text === undefined)
    throw usageError('', [`no help on "${topic}"; there is: ${[...TOPICS, ...Object.keys(outer)].join(', ')}`]);
  world.stdout.write(text);
  return EXIT_CODE.ok;
}

function formatError(error: CausewayError): string {
  const hint = error.hint === undefined ? '' : `  hint: ${error.hint.trim().replaceAll('\n', '\n        ')}\n`;
  return `causeway: ${error.message}\n${hint}`;
}
