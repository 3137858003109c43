/** The options of `causeway run`, and the configuration that they and a file make together. */
import { parseFdRef } from '../config/fd-settings.ts';
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
    type: 'items',
    value: 'BDF[,KEY=VALUE...]',
    help: 'assign a PCI function of the host, for example 0000:01:00.0; repeatable. Keys: rom (off, host, file:PATH), msix-relocation (off, auto, bar0 to bar5), reset (auto, hot, none, flr, pm, bus ...), p2p (on, off), wc, port (NAME: behind that root port), on-error (report, pause, stop, reset), vf-token (UUID), fd and group-fd (files that this process inherited, by number or by name in LISTEN_FDNAMES; the address may then be left out)',
  },
  iommu: {
    type: 'text',
    value: 'MODE',
    help: 'what devices are opened through: auto, container or iommufd (auto: iommufd where it works)',
  },
  'iommufd-fd': { type: 'text', value: 'FD', help: '/dev/iommu as this process inherited it' },
  'container-fd': { type: 'text', value: 'FD', help: '/dev/vfio/vfio as this process inherited it' },
  'kvm-fd': { type: 'text', value: 'FD', help: '/dev/kvm as this process inherited it' },
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
  'hotplug-ports': {
    type: 'whole',
    value: 'N',
    help: 'spare root ports for "causeway vm attach", 0 to 16 (0)',
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
      options.device?.flatMap(parseDeviceOption) ?? ('devices' in file ? file.devices : undefined),
      options,
    ),
    hugePages: options['huge-pages'],
    hotplugPorts: options['hotplug-ports'],
    rebootLimit: options['reboot-limit'],
    unpackKernel: options['no-unpack'] ? false : undefined,
    control: options.control,
    iommu: options.iommu,
    fds: hostFds(options, 'fds' in file ? file.fds : undefined),
  };
  return { ...file, ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) };
}

/** Keys of `--device`, with the fields that they set. */
const DEVICE_OPTIONS: Readonly<Record<string, (value: string) => object>> = {
  rom: (rom) => ({ rom }),
  reset: (reset) => ({ reset }),
  p2p: (word) => ({ p2p: word === 'on' ? true : word === 'off' ? false : word }),
  'msix-relocation': (msixRelocation) => ({ msixRelocation }),
  port: (port) => ({ port }),
  'on-error': (onError) => ({ onError }),
  wc: (wc) => ({ wc }),
  'vf-token': (vfToken) => ({ vfToken }),
  fd: (deviceFd) => ({ deviceFd: parseFdRef(deviceFd) }),
  'group-fd': (groupFd) => ({ groupFd: parseFdRef(groupFd) }),
};

/** The files that options name, laid over those of the configuration file. */
function hostFds(options: RunOptions, file: unknown): unknown {
  const given = { kvm: options['kvm-fd'], container: options['container-fd'], iommufd: options['iommufd-fd'] };
  const fds = Object.entries(given).flatMap(([key, text]) => (text === undefined ? [] : [[key, parseFdRef(text)]]));
  if (fds.length === 0) return undefined;
  return { ...(typeof file === 'object' && file !== null ? file : {}), ...Object.fromEntries(fds) };
}

/**
 * `BDF` as it is, `BDF,KEY=VALUE,…` as an object; several addresses are several devices, and what follows one is its
 * own. Values are checked with the rest of the configuration.
 * @throws CausewayError USAGE for a key that is not known
 */
function parseDeviceOption(text: string): unknown[] {
  const faults: string[] = [];
  const devices: (string | Record<string, unknown>)[] = [];
  for (const word of text.split(',')) {
    const [, key = word, value] = /^([^=]*)=(.*)$/.exec(word) ?? [];
    const known = Object.hasOwn(DEVICE_OPTIONS, key) ? DEVICE_OPTIONS[key] : undefined;
    if (value === undefined && known === undefined && (devices.length === 0 || word.includes(':'))) {
      devices.push(word);
      continue;
    }
    // Settings without an address: a file tells it.
    const device = devices.pop() ?? {};
    const before = typeof device === 'string' ? { bdf: device } : device;
    devices.push({ ...before, ...(known && value !== undefined ? known(value) : {}) });
    const where = `--device ${text.split(',')[0]}`;
    if (known && value === undefined) faults.push(`${where}: "${key}" needs a value`);
    else if (!known) faults.push(`${where}: there is no "${key}"${didYouMean(key, Object.keys(DEVICE_OPTIONS))}`);
  }
  if (faults.length > 0) throw usageError('run', faults);
  return devices;
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
