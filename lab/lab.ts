import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheRoot, type Log } from './cache.ts';
import type { ExecOptions, ExecResult } from './commands.ts';
import { LabError } from './errors.ts';
import { buildInitramfs } from './initramfs/build.ts';
import { findKernel } from './kernel-packages.ts';
import { unpackedImage } from './kernels.ts';
import { initScript, initWords } from './machine-init.ts';
import { busybox, qemu } from './packages.ts';
import { type Accel, chooseAccel, kvmModules, readHostCpu } from './qemu/accel.ts';
import { qemuArgs } from './qemu/command-line.ts';
import {
  type Bind,
  defaultMemoryMib,
  disksNeeded,
  hostDrivers,
  type LabDeviceSpec,
  parseDevice,
  seriesFor,
} from './qemu/devices.ts';
import { QemuProcess } from './qemu/process.ts';
import type { QmpEvent, QmpValue } from './qemu/qmp.ts';
import { RunningLab } from './running-lab.ts';

/** What the lab machine should be. Everything has a default. */
export interface LabOptions {
  /** PCI devices, each behind a root port of its own unless its place is another; a string is `MODEL[,option=value...]`. */
  readonly devices?: readonly (string | LabDeviceSpec)[];
  /** `6.1` (default), `6.12`, another Debian series, `iommufd` (see `buildKernel`), `host`, or a path to a kernel. */
  readonly kernel?: string;
  /** QEMU series: `7.2` or `10`; default: the first that has the devices. */
  readonly qemu?: string;
  /** Memory of the lab in MiB; default 4096, with igb 2048 (see `defaultMemoryMib`), at most half of the host's. */
  readonly memoryMib?: number;
  /** Processors of the lab; default 2. */
  readonly cpus?: number;
  readonly accel?: 'auto' | Accel;
  /** Host directory that is writable on both sides; default: a fresh one that `close` removes. */
  readonly shareDir?: string;
  /** Aborting closes the lab. */
  readonly signal?: AbortSignal;
  /** Receives one line per step. */
  readonly log?: Log;
  /** Receives the lab's kernel log and console as it comes. */
  readonly onConsole?: (chunk: string) => void;
  /** Receives QEMU's events. */
  readonly onEvent?: (event: QmpEvent) => void;
  readonly extraQemuArgs?: readonly string[];
  /** Kernel modules to load in the lab besides the usual ones. */
  readonly extraModules?: readonly string[];
  /** Words for the kernel's command line. */
  readonly append?: string;
  /** Look for newer packages than the cached ones. */
  readonly refresh?: boolean;
  /** How long the boot may take, in ms; default 180 000. */
  readonly bootTimeoutMs?: number;
}

/** A device as commands in the lab see it. */
export interface LabDevice {
  readonly model: string;
  /** Address of function 0, such as `0000:01:00.0`; empty when the kernel found nothing behind the port. */
  readonly bdf: string;
  /** All functions of the device, function 0 first; with `vfs` its virtual functions. */
  readonly functions: readonly string[];
  readonly bind: Bind;
  /**
   * QEMU's id of the device, for `monitor('device_del ...')` and, with a model that reports errors (`virtio-net-pci,aer=on`),
   * `monitor('pcie_aer_inject_error ID COMP_ABORT')`.
   */
  readonly id: string;
  /** QEMU's id of the root port above it, if it has one. */
  readonly port: string;
}

/** A running lab. */
export interface Lab extends AsyncDisposable {
  readonly devices: readonly LabDevice[];
  /** `uname -r` in the lab. */
  readonly kernelVersion: string;
  readonly accel: Accel;
  /** From the start of QEMU to readiness, in ms. */
  readonly bootMs: number;
  /** Writable on both sides, at the same path. */
  readonly shareDir: string;
  /** What the lab's kernel printed so far. */
  readonly console: string;
  /** Run a command (text goes to `sh -c`); several may run at once. */
  exec(command: string | readonly string[], options?: ExecOptions): Promise<ExecResult>;
  /** Signal every running command. */
  signalAll(signal: string): void;
  /** A command of QEMU's human monitor, such as `info pci`; gives its answer. */
  monitor(command: string): Promise<string>;
  /** A command of QEMU's machine protocol. */
  qmp(command: string, args?: { [key: string]: QmpValue }): Promise<QmpValue>;
  /** Switch the lab off and remove what it left. May be called more than once. */
  close(): Promise<void>;
}

/** Modules without which there is no root file system or agent. */
const rootModules = ['virtio_pci', 'virtio_console', '9pnet_virtio', '9p', 'overlay'];
const laterModules = ['vfio-pci', 'vfio_iommu_type1', 'virtio-rng'];
const spareModules = [
  ...new Set(Object.values(hostDrivers)),
  '8139too',
  'vfio',
  'iommufd',
  'tun',
  'bridge',
  'vhost_net',
  'virtio_blk',
];

/** Fetch everything that a lab with these options needs; afterwards it opens without a network. */
export async function fetchLab(options: LabOptions = {}): Promise<void> {
  const fetch = { log: options.log, refresh: options.refresh };
  await qemu(options.qemu, fetch);
  await busybox(fetch);
  const kernel = await findKernel(options.kernel ?? '6.1', fetch);
  await unpackedImage(kernel.vmlinuz);
}

/** An emulated host that panics or stalls while it comes up is booted again: the next one mostly does. */
const BOOT_TRIES = 3;

/**
 * Boot a lab; resolves when commands can run. QEMU's emulated processors now and then execute code that Linux has patched
 * meanwhile, most often when KVM's first VM switches its branches on; such a boot is repeated. Throws LabError.
 */
export async function openLab(options: LabOptions = {}): Promise<Lab> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await bootLab(options);
    } catch (error) {
      const isFault = error instanceof LabError && ['LAB_PANIC', 'LAB_BOOT_TIMEOUT'].includes(error.code);
      if (!isFault || attempt === BOOT_TRIES) throw error;
      options.log?.(`${error.message.split('\n')[0]}; booting once more`);
    }
  }
}

async function bootLab(options: LabOptions): Promise<Lab> {
  const log = options.log ?? (() => {});
  options.signal?.throwIfAborted();
  const fetch = { log, refresh: options.refresh };
  const kernel = await findKernel(options.kernel ?? '6.1', fetch);
  const cpu = readHostCpu();
  const chosen = chooseAccel(cpu);
  const accel = options.accel === undefined || options.accel === 'auto' ? chosen.accel : options.accel;
  const devices = (options.devices ?? []).map((one) => (typeof one === 'string' ? parseDevice(one) : one));
  const emulator = await qemu(options.qemu ?? seriesFor(devices), fetch);

  const temporary = options.shareDir === undefined;
  const shareDir = temporary ? await mkdtemp(join(tmpdir(), 'causeway-lab-')) : resolve(options.shareDir ?? '');
  await mkdir(shareDir, { recursive: true });
  const cleanUp = async () => {
    if (temporary) await rm(shareDir, { recursive: true, force: true });
  };
  try {
    // A kernel without modules has everything built in.
    const usual = kernel.modulesDir === undefined ? [] : [...kvmModules(accel, cpu), ...laterModules];
    const modules = [...usual, ...(options.extraModules ?? [])];
    // A device's own modalias finds most drivers, but not those behind a bus of their own, such as virtio's.
    const drivers = devices.flatMap(({ model, bind, vfs }) =>
      bind === 'host' || vfs ? (hostDrivers[model] ?? []) : [],
    );
    const initrd = await buildInitramfs(
      {
        kernel,
        modules: rootModules,
        spareModules: modules,
        optionalModules: spareModules,
        init: initScript,
      },
      fetch,
    );
    const noOptionRoms = join(cacheRoot(), 'no-option-roms');
    if (!existsSync(noOptionRoms)) await writeFile(noOptionRoms, Buffer.alloc(8));
    const args = qemuArgs({
      accel,
      cpus: options.cpus ?? 2,
      memoryMib: options.memoryMib ?? Math.min(defaultMemoryMib(devices), Math.floor(totalmem() / 2 ** 21)),
      kernel: (await unpackedImage(kernel.vmlinuz)) ?? kernel.vmlinuz,
      initrd,
      append:
        `${initWords({ binds: devices.map(({ bind = 'vfio-pci' }) => bind), vfs: devices.map(({ vfs = 0 }) => vfs), modules, drivers, shareDir, ...agentFiles() })} ${options.append ?? ''}`.trim(),
      shareDir,
      noOptionRoms,
      devices,
      extraArgs: options.extraQemuArgs ?? [],
    });
    const why = accel === 'tcg' ? `emulated processor (${chosen.reason})` : 'KVM';
    log(`booting Linux ${kernel.version} on QEMU ${emulator.version}, ${why}`);
    const process = await QemuProcess.start(emulator, args, disksNeeded(devices), options.onConsole ?? (() => {}));
    const lab = new RunningLab(process, options, { accel, shareDir, devices, cleanUp });
    await lab.boot();
    log(`ready after ${(lab.bootMs / 1000).toFixed(1)} s${describe(lab.devices)}`);
    return lab;
  } catch (error) {
    await cleanUp();
    throw error;
  }
}

function describe(devices: readonly LabDevice[]): string {
  return devices
    .map(({ model, bdf, bind }) => `; ${model} is ${bdf} (${bind === 'none' ? 'no driver' : bind})`)
    .join('');
}

/** The agent runs under this very Node, which the lab sees at the same path. */
function agentFiles(): { node: string; agent: string } {
  const here = fileURLToPath(import.meta.url);
  const agent = here.endsWith('.ts') ? join(here, '../../dist/lab/agent/main.js') : join(here, '../agent/main.js');
  if (!existsSync(agent)) {
    throw new LabError('LAB_USAGE', `the lab's agent is not built (${agent})`, { hint: 'run: npm run build' });
  }
  return { node: process.execPath, agent };
}
