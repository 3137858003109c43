/** The options of `causeway run`, and the configuration that they and a file make together. */
import { loadVmConfig } from '../config/load.ts';
import { type OptionTable, type OptionValues, parseOptions, usageError } from './arguments.ts';

export const RUN_OPTIONS = {
  config: {
    type: 'text',
    value: 'FILE',
    help: 'configuration: .ts, .mts, .js, .mjs or .json; other options override it',
  },
  kernel: { type: 'text', value: 'FILE', help: 'bzImage or x86-64 ELF kernel' },
  initrd: { type: 'text', value: 'FILE', help: 'initial RAM disk' },
  cmdline: { type: 'text', value: 'TEXT', help: 'kernel command line (console=ttyS0)', anyText: true },
  memory: { type: 'text', value: 'SIZE', help: 'guest RAM, for example 512M or 6GiB (512M)' },
  cpus: { type: 'whole', value: 'N', help: 'vCPUs, 1 to 64 (1)' },
  device: {
    type: 'list',
    value: 'BDF',
    help: 'assign a PCI function of the host, for example 0000:01:00.0; repeatable',
  },
  'huge-pages': { type: 'text', value: '2M|1G', help: "back guest RAM with the host's huge pages" },
  'reboot-limit': {
    type: 'whole',
    value: 'N',
    help: 'carry out so many reboots of the guest; the next one ends the run',
  },
  'no-unpack': { type: 'flag', help: 'let the guest unpack its kernel itself' },
  timeout: { type: 'seconds', value: 'S', help: 'end the run after so many seconds' },
  summary: { type: 'flag', help: 'at the end, tell what was assigned and what the run cost (stderr)' },
  json: { type: 'flag', help: 'at the end, print one JSON object to stdout; the console then goes to stderr' },
} as const satisfies OptionTable;

export type RunOptions = OptionValues<typeof RUN_OPTIONS>;

/** @throws CausewayError USAGE */
export function parseRunOptions(args: readonly string[]): RunOptions {
  const options = parseOptions('run', args, RUN_OPTIONS);
  if (options.kernel === undefined && options.config === undefined) {
    throw usageError('run', ['--kernel FILE is missing (or --config FILE)']);
  }
  return options;
}

/**
 * The file's configuration with the options laid over it. Not yet checked.
 * @throws CausewayError CONFIG_INVALID when the file cannot be loaded
 */
export async function runConfig(options: RunOptions): Promise<unknown> {
  const file = options.config === undefined ? {} : await loadVmConfig(options.config);
  if (typeof file !== 'object' || file === null || Array.isArray(file)) return file;
  const given = {
    kernel: options.kernel,
    initrd: options.initrd,
    cmdline: options.cmdline,
    memory: options.memory,
    cpus: options.cpus,
    devices: options.device,
    hugePages: options['huge-pages'],
    rebootLimit: options['reboot-limit'],
    unpackKernel: options['no-unpack'] ? false : undefined,
  };
  return { ...file, ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) };
}
