import { LabError } from '../errors.ts';
import type { LabOptions } from '../lab.ts';
import { type Bind, type LabDeviceSpec, parseBind, parseDevice } from '../qemu/devices.ts';

/** What the command line asks for. */
export interface CliRequest {
  readonly help: boolean;
  /** Only fill the cache. */
  readonly fetchOnly: boolean;
  /** Copy the lab's console to standard error. */
  readonly console: boolean;
  readonly quiet: boolean;
  readonly timeoutMs: number | undefined;
  readonly options: LabOptions;
  /** Empty for an interactive shell. */
  readonly command: readonly string[];
}

/** The help text. */
export const help = `Usage: npm run lab -- [OPTIONS] [--] [COMMAND [ARGUMENT...]]

Run COMMAND in the lab: an emulated host with KVM, an IOMMU and PCI devices. The lab sees
this machine's whole file system at the same paths, read-only, under a layer that forgets
every change. Without COMMAND: an interactive shell. One COMMAND word with spaces, or with
any other shell character, is run by sh.

Devices
  --device MODEL[,OPTION=VALUE...]  add a PCI device (again for more): e1000e, igb, nvme, edu,
                                    rtl8139, qemu-xhci ... as QEMU names them; each has an
                                    IOMMU group of its own. Options of the lab's own are bind=DRIVER,
                                    functions=N (so many of them in one slot), place=bridge (behind a
                                    conventional bridge), place=root (on the root bus) and vfs=N (make
                                    so many virtual functions, and take them instead)
  --bind vfio-pci|host|none         driver of the devices: vfio-pci (default), their own Linux
                                    driver, or none
Machine
  --kernel 6.1|6.12|host|PATH       kernel of the lab (default 6.1); a PATH is a bzImage or a
                                    directory with vmlinuz and lib/modules; iommufd is the one
                                    that npm run lab:kernel builds
  --qemu 7.2|10                     QEMU series (default 7.2, with igb 10)
  --memory MIB  --cpus N            size (default 4096 MiB, with igb 2048; 2 processors)
  --accel auto|tcg|kvm              auto takes KVM only where nested virtualisation is sure to work
  --module NAME                     load one more kernel module (again for more)
  --append WORDS                    words for the lab's kernel command line
  --qemu-arg WORD                   one more word for QEMU's command line (again for more)
Running
  --share DIR                       a directory that is writable on both sides, at the same path
                                    (default: a new one, named in $CAUSEWAY_LAB and removed at the end)
  --timeout SECONDS                 end COMMAND after this long
  --console                         show the lab's kernel log on standard error
  --quiet                           say nothing about the lab itself
  --fetch                           only fetch what is needed, for work without a network later
  --refresh                         look for newer packages than those in the cache
  --help                            this text

In the lab, $CAUSEWAY_LAB_DEVICES lists the devices' addresses in the order given.
Downloads are kept in $CAUSEWAY_CACHE (default ~/.cache/causeway); nothing is installed.
Changes on this machine may take a new lab to be seen: the lab caches what it has read.

Exit status: that of COMMAND; 128+N when signal N ended it; 124 when it ran out of time; 125 when the lab
itself failed or the options are wrong; 126 when COMMAND could not be started.

Examples
  npm run lab -- --device e1000e ls -l /dev/vfio
  npm run lab -- --device igb,vfs=2 --device nvme,bind=host 'lsmod; ls /dev/nvme*'
`;

interface Draft {
  help: boolean;
  fetchOnly: boolean;
  console: boolean;
  quiet: boolean;
  timeoutMs: number | undefined;
  devices: string[];
  bind: Bind;
  modules: string[];
  qemuArgs: string[];
  options: { -readonly [K in keyof LabOptions]: LabOptions[K] };
}

const flags: Readonly<Record<string, (draft: Draft) => void>> = {
  '--help': (draft) => {
    draft.help = true;
  },
  '-h': (draft) => {
    draft.help = true;
  },
  '--fetch': (draft) => {
    draft.fetchOnly = true;
  },
  '--refresh': (draft) => {
    draft.options.refresh = true;
  },
  '--console': (draft) => {
    draft.console = true;
  },
  '--quiet': (draft) => {
    draft.quiet = true;
  },
};

const valued: Readonly<Record<string, (draft: Draft, value: string, name: string) => void>> = {
  '--device': (draft, value) => draft.devices.push(value),
  '--module': (draft, value) => draft.modules.push(value),
  '--qemu-arg': (draft, value) => draft.qemuArgs.push(value),
  '--bind': (draft, value) => {
    draft.bind = parseBind(value);
  },
  '--kernel': (draft, value) => {
    draft.options.kernel = value;
  },
  '--qemu': (draft, value) => {
    draft.options.qemu = value;
  },
  '--share': (draft, value) => {
    draft.options.shareDir = value;
  },
  '--append': (draft, value) => {
    draft.options.append = value;
  },
  '--memory': (draft, value, name) => {
    draft.options.memoryMib = positive(value, name);
  },
  '--cpus': (draft, value, name) => {
    draft.options.cpus = positive(value, name);
  },
  '--timeout': (draft, value, name) => {
    draft.timeoutMs = positive(value, name) * 1000;
  },
  '--accel': (draft, value) => {
    if (value !== 'auto' && value !== 'tcg' && value !== 'kvm')
      throw usage(`--accel is auto, tcg or kvm, not ${value}`);
    draft.options.accel = value;
  },
};

/** Read the words after the program's name; throws LAB_USAGE. Options end at the first word that is none. */
export function parseArgs(words: readonly string[]): CliRequest {
  const draft: Draft = {
    help: false,
    fetchOnly: false,
    console: false,
    quiet: false,
    timeoutMs: undefined,
    devices: [],
    bind: 'vfio-pci',
    modules: [],
    qemuArgs: [],
    options: {},
  };
  let at = 0;
  for (; at < words.length; at += 1) {
    const word = words[at] ?? '';
    if (word === '--') {
      at += 1;
      break;
    }
    if (!word.startsWith('-')) break;
    const equals = word.startsWith('--') ? word.indexOf('=') : -1;
    const name = equals < 0 ? word : word.slice(0, equals);
    const takesValue = valued[name];
    if (takesValue === undefined) {
      const flag = flags[word];
      if (flag === undefined) throw usage(`there is no option ${word}`);
      flag(draft);
      continue;
    }
    if (equals < 0) at += 1;
    const value = equals < 0 ? words[at] : word.slice(equals + 1);
    if (value === undefined) throw usage(`${name} needs a value`);
    takesValue(draft, value, name);
  }
  const devices: LabDeviceSpec[] = draft.devices.map((text) => parseDevice(text, draft.bind));
  const { help: wantsHelp, fetchOnly, console, quiet, timeoutMs } = draft;
  const options = { ...draft.options, devices, extraModules: draft.modules, extraQemuArgs: draft.qemuArgs };
  return { help: wantsHelp, fetchOnly, console, quiet, timeoutMs, options, command: words.slice(at) };
}

/** The words to execute: a single word that only a shell can understand goes to one. */
export function commandWords(command: readonly string[]): readonly string[] {
  const [only] = command;
  return command.length === 1 && only !== undefined && /[^\w@%+=:,./-]/.test(only) ? ['sh', '-c', only] : command;
}

function positive(value: string, name: string): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1) throw usage(`${name} needs a whole number above 0, not ${value}`);
  return number;
}

function usage(message: string): LabError {
  return new LabError('LAB_USAGE', message, { hint: 'npm run lab -- --help' });
}
