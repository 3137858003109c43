/** From nothing to a Linux guest that takes commands. */
import { createVm, type DeviceConfig, type Size } from '../../index.ts';
import { guestKernel, type ImageFile } from '../../lab/index.ts';
import { parseSize } from '../../vmm/base/units.ts';
import { prepareKernel } from '../../vmm/boot/index.ts';
import { WINDOW, WINDOW_WORDS } from './agent-script.ts';
import { guestImage } from './image.ts';
import { LinuxGuest, type LinuxGuestOptions } from './linux-guest.ts';

const DEFAULT_KERNEL = '6.1';
const READY_MS = 180_000;

/**
 * `panic=0`: a guest that panicked stands still, for its memory to be looked at. `unknown_nmi_panic`: an NMI tells where
 * it is. A console that costs an exit a character must not look like a stall. `pci=noearly`: on an emulated CPU of an old AMD family Linux searches all buses for a GART first.
 */
const CMDLINE =
  'console=ttyS0 quiet panic=0 sysrq_always_enabled unknown_nmi_panic rcupdate.rcu_cpu_stall_timeout=120 pci=noearly';

export interface LinuxOptions extends Omit<LinuxGuestOptions, 'resources' | 'hasWindow'> {
  /** Host addresses, or addresses with settings. */
  readonly devices?: readonly (string | DeviceConfig)[];
  /** Debian series such as `6.1` (default) or `6.12`, `host`, or the path of a bzImage or of an unpacked kernel package. */
  readonly kernel?: string;
  /** Default 1. */
  readonly cpus?: number;
  /** Default 256 MiB. */
  readonly memory?: Size;
  /** Empty root ports, for devices that come later. Default 0. */
  readonly hotplugPorts?: number;
  /** Modules to load, in this order, with what they need. Default: what each PCI device's modalias asks for. */
  readonly modules?: readonly string[];
  /** Modules to carry for a later `modprobe`, beside the drivers that every image has. */
  readonly spareModules?: readonly string[];
  /** Files by absolute path: text, bytes, or `{ from: path, mode }`. */
  readonly files?: Readonly<Record<string, ImageFile>>;
  /** Words behind the usual command line. */
  readonly cmdline?: string;
  /** From the start of the vCPUs to the agent's first word. Default 180 s. */
  readonly readyTimeoutMs?: number;
  /** Called before the VM starts, with a guest that is not ready: so that one that never gets ready can be looked at. */
  readonly onCreated?: (guest: LinuxGuest) => void;
  readonly name?: string;
}

/**
 * Boots and waits until commands can be run.
 * @throws CausewayError of `createVm`; TIMEOUT or GUEST_CRASHED with the end of the console when it does not come up. The
 * devices are given back then.
 * @example
 * await using guest = await bootLinux({ devices: ['0000:01:00.0'] });
 * console.log(await guest.must('ip -o link'));
 */
export async function bootLinux(options: LinuxOptions = {}): Promise<LinuxGuest> {
  const { modules, spareModules = [], files, cpus = 1, memory = '256M', devices = [] } = options;
  const { hotplugPorts = 0, cmdline = '' } = options;
  const kernel = await guestKernel(options.kernel ?? DEFAULT_KERNEL);
  const image = await guestImage({
    kernel,
    modules: [...(modules ?? []), ...spareModules],
    ...(files ? { files } : {}),
  });
  const hasWindow = (typeof memory === 'string' ? (parseSize(memory) ?? 0) : memory) >= WINDOW.minMemoryBytes;
  const words = [
    CMDLINE,
    ...(hasWindow ? [WINDOW_WORDS] : []),
    ...(modules ? [`guest.modules=${modules.join(',')}`] : []),
    cmdline,
  ];
  let guest: LinuxGuest | undefined;
  try {
    const vm = await createVm({
      name: options.name ?? 'guest-test',
      kernel: kernel.vmlinuz,
      initrd: image.path,
      cmdline: words.join(' ').trim(),
      ...{ cpus, memory, devices, hotplugPorts, channel: true, rebootLimit: 0 },
    });
    guest = new LinuxGuest(vm, { ...options, hasWindow, resources: [image] });
    options.onCreated?.(guest);
    await guest.start(options.readyTimeoutMs ?? READY_MS);
    return guest;
  } catch (error) {
    if (guest) await guest.kill();
    else await image[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * Fetches and builds what {@link bootLinux} needs, so that a boot is nothing but a boot: for the machine that a lab runs
 * on, whose cache the lab sees and cannot add to.
 */
export async function prepareLinux(series: readonly string[] = [DEFAULT_KERNEL]): Promise<void> {
  for (const name of series) {
    const kernel = await guestKernel(name);
    await guestImage({ kernel });
    (await prepareKernel(kernel.vmlinuz, { unpack: true })).close();
  }
}
