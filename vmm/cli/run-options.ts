/** The options of `causeway run`, and the configuration that they and a file make together. */
import { didYouMean } from '../config/issues.ts';
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
    value: 'BDF[,KEY=VALUE...]',
    help: 'assign a PCI function of the host, for example 0000:01:00.0; repeatable. Keys: rom (off, host, file:PATH), wc',
  },
  'config-permit': {
    type: 'text',
    value: 'FILE',
    help: 'open registers of the devices to the guest, as this root-owned file grants them',
  },
  wc: {
    type: 'text',
    value: 'MODE',
    help: 'write-combining on the devices: auto, require, deny or host (auto)',
  },
  'huge-pages': { type: 'text', value: '2M|1G', help: "back guest RAM with the host's huge pages" },
  'reboot-limit': {
    type: 'whole',
    value: 'N',
    help: 'carry out so many reboots of the guest; the next one ends the run',
  },
  'no-unpack': { type: 'flag', help: 'let the guest unpack its kernel itself' },
  control: {
    type: 'text',
    value: 'NAME|PATH',
    help: 'open a control socket, for "causeway vm": a name, or a path with a slash in it',
  },
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
    devices: withDeviceOptions(
      options.device?.map(parseDeviceOption) ?? ('devices' in file ? file.devices : undefined),
      options,
    ),
    hugePages: options['huge-pages'],
    rebootLimit: options['reboot-limit'],
    unpackKernel: options['no-unpack'] ? false : undefined,
    control: options.control,
  };
  return { ...file, ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) };
}

/** Keys of `--device`, with the fields that they set. */
const DEVICE_OPTIONS: Readonly<Record<string, (value: string) => object>> = {
  rom: (rom) => ({ rom }),
  wc: (wc) => ({ wc }),
};

/**
 * `BDF` as it is, `BDF,KEY=VALUE,…` as an object; values are checked with the rest of the configuration.
 * @throws CausewayError USAGE for a key that is not known
 */
function parseDeviceOption(text: string): unknown {
  const [bdf, ...pairs] = text.split(',');
  if (pairs.length === 0) return text;
  const faults: string[] = [];
  const settings = pairs.map((pair) => {
    const [, key = pair, value] = /^([^=]*)=(.*)$/.exec(pair) ?? [];
    const known = Object.hasOwn(DEVICE_OPTIONS, key) ? DEVICE_OPTIONS[key] : undefined;
    if (known && value !== undefined) return known(value);
    const names = Object.keys(DEVICE_OPTIONS);
    faults.push(
      known
        ? `--device ${bdf}: "${key}" needs a value`
        : `--device ${bdf}: there is no "${key}"${didYouMean(key, names)}`,
    );
    return {};
  });
  if (faults.length > 0) throw usageError('run', faults);
  return Object.assign({ bdf }, ...settings);
}

/** Options that hold for every device, laid over what each has of its own. */
function withDeviceOptions(devices: unknown, options: RunOptions): unknown {
  const given = { configPermit: options['config-permit'], wc: options.wc };
  const settings = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  if (Object.keys(settings).length === 0) return options.device ? devices : undefined;
  if (!Array.isArray(devices) || devices.length === 0) {
    const names = ['config-permit', 'wc'].filter((name) => name in options).map((name) => `--${name}`);
    throw usageError('run', [`${names.join(' and ')} needs a device: --device BDF`]);
  }
  // What is neither text nor object stays as it is, for the check that names its place.
  return devices.map((device: unknown) =>
    typeof device === 'string'
      ? { bdf: device, ...settings }
      : typeof device === 'object' && device !== null
        ? { ...device, ...settings }
        : device,
  );
}
