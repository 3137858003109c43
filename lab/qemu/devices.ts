import { LabError } from '../errors.ts';

/** Which driver a lab device has when the first command starts: vfio-pci, its own Linux driver, or none. */
export type Bind = 'vfio-pci' | 'host' | 'none';

/** A PCI device of the lab. */
export interface LabDeviceSpec {
  /** QEMU's name of the device, such as `e1000e`. */
  readonly model: string;
  readonly bind?: Bind;
  /** QEMU's options of the device. */
  readonly options?: Readonly<Record<string, string>>;
}

/** The kernel module that drives each model which the lab carries a driver for. */
export const hostDrivers: Readonly<Record<string, string>> = {
  e1000: 'e1000',
  e1000e: 'e1000e',
  igb: 'igb',
  igbvf: 'igbvf',
  rtl8139: '8139cp',
  pcnet: 'pcnet32',
  tulip: 'tulip',
  vmxnet3: 'vmxnet3',
  ne2k_pci: 'ne2k-pci',
  'virtio-net-pci': 'virtio_net',
  nvme: 'nvme',
  'qemu-xhci': 'xhci-pci',
  'nec-usb-xhci': 'xhci-pci',
  ahci: 'ahci',
};

/** What holds the disk of a controller that has none in itself: the device to plug into it, and its bus there. */
const diskOf: Readonly<Record<string, (controller: string) => string>> = {
  ahci: (controller) => `ide-hd,bus=${controller}.0`,
  'qemu-xhci': (controller) => `usb-storage,bus=${controller}.0`,
  'nec-usb-xhci': (controller) => `usb-storage,bus=${controller}.0`,
};

/** A disk of its own is made for these, unless they are given one. */
function needsDisk({ model, options }: LabDeviceSpec): boolean {
  return (model === 'nvme' || model in diskOf) && options?.drive === undefined;
}

const nicModels = /^(e1000e?|e1000-\w+|igb|rtl8139|pcnet|tulip|vmxnet3|ne2k_pci|i825\w+|virtio-net-pci(-\S+)?|rocker)$/;
const binds: readonly string[] = ['vfio-pci', 'host', 'none'];

/** Read `MODEL[,option=value...]`; the option `bind` is the lab's own. */
export function parseDevice(text: string, defaultBind: Bind = 'vfio-pci'): Required<LabDeviceSpec> {
  const [model = '', ...rest] = text.split(',');
  if (!/^[\w.-]+$/.test(model)) throw new LabError('LAB_USAGE', `"${text}" does not name a device model`);
  const options: Record<string, string> = {};
  let bind = defaultBind;
  for (const part of rest) {
    const at = part.indexOf('=');
    if (at < 1) throw new LabError('LAB_USAGE', `"${part}" in device "${text}" is not option=value`);
    const [key, value] = [part.slice(0, at), part.slice(at + 1)];
    if (key === 'bind') bind = parseBind(value);
    else options[key] = value;
  }
  return { model, bind, options };
}

/** Read a driver choice. */
export function parseBind(text: string): Bind {
  if (binds.includes(text)) return text as Bind;
  throw new LabError('LAB_USAGE', `"${text}" is not a driver choice; there are ${binds.join(', ')}`);
}

/** The slot on the root bus of the root port that device number `index` sits behind. */
export function portSlot(index: number): number {
  return 0x10 + index;
}

/** More ports than this stop the firmware: each claims 4 KiB of the 64 KiB of I/O space. */
const portsWithIo = 8;
const mostPorts = 15;

/**
 * QEMU's arguments for the devices: each behind a root port of its own, which makes it an IOMMU group of its own; network
 * devices with a user-mode network, NVMe, AHCI and xHCI controllers with a disk in an unlinked file that `takeDiskFd`
 * gives, ivshmem with memory.
 */
export function deviceArgs(devices: readonly LabDeviceSpec[], takeDiskFd: () => number): string[] {
  if (devices.length > mostPorts) {
    throw new LabError('LAB_USAGE', `the lab has room for ${mostPorts} devices, not ${devices.length}`);
  }
  const args: string[] = [];
  devices.forEach(({ model, options = {} }, index) => {
    const io = devices.length > portsWithIo ? ',io-reserve=0' : '';
    const slot = portSlot(index).toString(16);
    args.push(
      '-device',
      `pcie-root-port,id=port${index},bus=pcie.0,addr=${slot},chassis=${index + 1},slot=${index + 1}${io}`,
    );
    const all: Record<string, string> = { id: `dev${index}`, bus: `port${index}` };
    if (nicModels.test(model) && model !== 'rocker' && options.netdev === undefined) {
      args.push('-netdev', `user,id=net${index}`);
      all.netdev = `net${index}`;
    }
    if (model.startsWith('virtio-')) {
      // Without these the device reads and writes memory past the IOMMU, at addresses that only a guest understands.
      Object.assign(all, { 'disable-legacy': 'on', iommu_platform: 'on' });
    }
    const disk = `disk${index}`;
    if (needsDisk({ model, options })) {
      args.push('-drive', `if=none,id=${disk},format=raw,file=/proc/self/fd/${takeDiskFd()}`);
    }
    if (model === 'nvme') Object.assign(all, { serial: `lab${index}`, drive: disk });
    if (model === 'ivshmem-plain' && options.memdev === undefined) {
      args.push('-object', `memory-backend-ram,id=mem${index},size=1M,share=on`);
      all.memdev = `mem${index}`;
    }
    const drive = options.drive ?? disk;
    Object.assign(all, options);
    // A controller of disks takes no drive itself.
    if (model in diskOf) delete all.drive;
    args.push('-device', [model, ...Object.entries(all).map(([key, value]) => `${key}=${value}`)].join(','));
    const holder = diskOf[model]?.(all.id!);
    if (holder) args.push('-device', `${holder},drive=${drive}`);
  });
  return args;
}

/** How many disks `deviceArgs` will ask for. */
export function disksNeeded(devices: readonly LabDeviceSpec[]): number {
  return devices.filter(needsDisk).length;
}
