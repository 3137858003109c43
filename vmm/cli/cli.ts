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
  doctor: async () => (await import('./doctor.ts')).doctorCommand,
};

const COMMANDS = ['run', 'vm', ...Object.keys(HOST_COMMANDS), 'help', 'version'];

/** @returns the exit code. Never rejects. */
export async function runCli(args: readonly string[], world: RunWorld & HostWorld): Promise<number> {
  try {
    return await dispatch(args, world);
  } catch (thrown) {
    const error: CausewayError = isCausewayError(thrown) ? thrown : (await import('./run.ts')).asCausewayError(thrown);
    if (args.includes('--json')) world.stdout.write(`${JSON.stringify(error)}\n`);
    else world.stderr.write(formatError(error));
    return error.exitCode;
  }
}

async function dispatch([command, ...args]: readonly string[], world: RunWorld & HostWorld): Promise<number> {
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
      throw usageError('', [`unknown command "${command}"${didYouMean(command, COMMANDS)}`]);
  }
}

async function help(topic: string | undefined, world: Pick<RunWorld, 'stdout'>): Promise<number> {
  const { helpText, TOPICS } = await import('./help.ts');
  const text = helpText(topic);
  if (text === undefined) throw usageError('', [`no help on "${topic}"; there is: ${TOPICS.join(', ')}`]);
  world.stdout.write(text);
  return EXIT_CODE.ok;
}

function formatError(error: CausewayError): string {
  const hint = error.hint === undefined ? '' : `  hint: ${error.hint.trim().replaceAll('\n', '\n        ')}\n`;
  return `causeway: ${error.message}\n${hint}`;
}
