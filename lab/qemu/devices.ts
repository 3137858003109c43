import { LabError } from '../errors.ts';

/** Which driver a lab device has when the first command starts: vfio-pci, its own Linux driver, or none. */
export type Bind = 'vfio-pci' | 'host' | 'none';

/** Where a lab device is: behind a root port of its own, behind a conventional bridge there, or on the root bus. */
export type Place = 'port' | 'bridge' | 'root';

/** A PCI device of the lab. */
export interface LabDeviceSpec {
  /** QEMU's name of the device, such as `e1000e`. */
  readonly model: string;
  readonly bind?: Bind;
  /** Default: `port`. */
  readonly place?: Place;
  /** How many of the model are in the one slot; default 1. */
  readonly functions?: number;
  /**
   * So many virtual functions are made of it, and are what the lab gives, with `bind` as their driver: the device itself
   * keeps its own, under which it answers them. Default 0: none.
   */
  readonly vfs?: number;
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
const places: readonly string[] = ['port', 'bridge', 'root'];
const mostFunctions = 8;
/** What igb has. */
const mostVfs = 7;

/** Read `MODEL[,option=value...]`; the options `bind`, `place`, `functions` and `vfs` are the lab's own. */
export function parseDevice(text: string, defaultBind: Bind = 'vfio-pci'): Required<LabDeviceSpec> {
  const [model = '', ...rest] = text.split(',');
  if (!/^[\w.-]+$/.test(model)) throw new LabError('LAB_USAGE', `"${text}" does not name a device model`);
  const options: Record<string, string> = {};
  let bind = defaultBind;
  let place: Place = 'port';
  let functions = 1;
  let vfs = 0;
  for (const part of rest) {
    const at = part.indexOf('=');
    if (at < 1) throw new LabError('LAB_USAGE', `"${part}" in device "${text}" is not option=value`);
    const [key, value] = [part.slice(0, at), part.slice(at + 1)];
    if (key === 'bind') bind = parseBind(value);
    else if (key === 'place') place = parsePlace(value);
    else if (key === 'functions') functions = parseFunctions(value);
    else if (key === 'vfs') vfs = parseVfs(value);
    else options[key] = value;
  }
  return { model, bind, place, functions, vfs, options };
}

/** Read a driver choice. */
export function parseBind(text: string): Bind {
  if (binds.includes(text)) return text as Bind;
  throw new LabError('LAB_USAGE', `"${text}" is not a driver choice; there are ${binds.join(', ')}`);
}

function parsePlace(text: string): Place {
  if (places.includes(text)) return text as Place;
  throw new LabError('LAB_USAGE', `"${text}" is no place of a device; there are ${places.join(', ')}`);
}

function parseFunctions(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 1 && count <= mostFunctions) return count;
  throw new LabError('LAB_USAGE', `a device has 1 to ${mostFunctions} functions, not "${text}"`);
}

function parseVfs(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 0 && count <= mostVfs) return count;
  throw new LabError('LAB_USAGE', `a device has 0 to ${mostVfs} virtual functions, not "${text}"`);
}

/** The first QEMU with the device; undefined: any. */
export function seriesFor(devices: readonly LabDeviceSpec[]): string | undefined {
  return devices.some(({ model }) => model === 'igb') ? '10' : undefined;
}

const usualMemoryMib = 4096;
/** All of it lies below 4 GiB, and so the firmware opens no windows above. */
const lowMemoryMib = 2048;

/**
 * What memory the lab has when nobody says. With igb little: QEMU 10 makes the VFs before it is told what their BARs are
 * like (hw/net/igb.c calls pcie_sriov_pf_init before pcie_sriov_pf_init_vf_bar), takes those for 32-bit ones and loses the
 * upper half of their addresses. Above 4 GiB nothing of a VF answers.
 */
export function defaultMemoryMib(devices: readonly LabDeviceSpec[]): number {
  return devices.some(({ model }) => model === 'igb') ? lowMemoryMib : usualMemoryMib;
}

/** The slot on the root bus of device number `index`, or of the root port that it sits behind. */
export function portSlot(index: number): number {
  return 0x10 + index;
}

/** More ports than this stop the firmware: each claims 4 KiB of the 64 KiB of I/O space. */
const portsWithIo = 8;
const mostPorts = 15;

/**
 * QEMU's arguments for the devices: each behind a root port of its own, which makes it an IOMMU group of its own, unless
 * its place is another; network devices with a user-mode network, NVMe, AHCI and xHCI controllers with a disk in an
 * unlinked file that `takeDiskFd` gives, ivshmem with memory.
 */
export function deviceArgs(devices: readonly LabDeviceSpec[], takeDiskFd: () => number): string[] {
  if (devices.length > mostPorts) {
    throw new LabError('LAB_USAGE', `the lab has room for ${mostPorts} devices, not ${devices.length}`);
  }
  const io = devices.length > portsWithIo ? ',io-reserve=0' : '';
  return devices.flatMap((device, index) => {
    const numbers = Array.from({ length: device.functions ?? 1 }, (_, number) => number);
    return [...bridgeArgs(device, index, io), ...numbers.flatMap((n) => functionArgs(device, index, n, takeDiskFd))];
  });
}

/**
 * Above a port of more than 5 GT/s Linux waits for the link to report itself active after a reset of the bus (PCIe 6.0
 * §6.6.1), which QEMU's does not when the device is slower: the reset would fail.
 */
const PORT_SPEED = 5;

/** What stands between the root bus and a device. */
function bridgeArgs({ place = 'port' }: LabDeviceSpec, index: number, io: string): string[] {
  if (place === 'root') return [];
  const slot = portSlot(index).toString(16);
  const seatOfPort = `bus=pcie.0,addr=${slot},chassis=${index + 1},slot=${index + 1}`;
  const port = `pcie-root-port,id=port${index},${seatOfPort},x-speed=${PORT_SPEED}${io}`;
  const bridge = `pcie-pci-bridge,id=bridge${index},bus=port${index}`;
  return ['-device', port, ...(place === 'bridge' ? ['-device', bridge] : [])];
}

/** Bus and address of a function. */
function seat({ place = 'port', functions = 1 }: LabDeviceSpec, index: number, number: number): Record<string, string> {
  const first = functions > 1 && number === 0 ? { multifunction: 'on' } : {};
  // A bridge's own hot-plug controller has number 0.
  if (place === 'bridge') return { bus: `bridge${index}`, addr: `1.${number}`, ...first };
  if (place === 'root') return { bus: 'pcie.0', addr: `${portSlot(index).toString(16)}.${number}`, ...first };
  return { bus: `port${index}`, ...(functions > 1 ? { addr: `0.${number}` } : {}), ...first };
}

function functionArgs(device: LabDeviceSpec, index: number, number: number, takeDiskFd: () => number): string[] {
  const { model, options = {} } = device;
  const args: string[] = [];
  const name = number === 0 ? `${index}` : `${index}f${number}`;
  const all: Record<string, string> = { id: `dev${name}`, ...seat(device, index, number) };
  if (nicModels.test(model) && model !== 'rocker' && options.netdev === undefined) {
    args.push('-netdev', `user,id=net${name}`);
    all.netdev = `net${name}`;
  }
  if (model.startsWith('virtio-')) {
    // Without these the device reads and writes memory past the IOMMU, at addresses that only a guest understands.
    Object.assign(all, { 'disable-legacy': 'on', iommu_platform: 'on' });
  }
  const disk = `disk${name}`;
  if (needsDisk(device)) {
    args.push('-drive', `if=none,id=${disk},format=raw,file=/proc/self/fd/${takeDiskFd()}`);
  }
  if (model === 'nvme') Object.assign(all, { serial: `lab${name}`, drive: disk });
  if (model === 'ivshmem-plain' && options.memdev === undefined) {
    args.push('-object', `memory-backend-ram,id=mem${name},size=1M,share=on`);
    all.memdev = `mem${name}`;
  }
  const drive = options.drive ?? disk;
  Object.assign(all, options);
  // A controller of disks takes no drive itself.
  if (model in diskOf) delete all.drive;
  args.push('-device', [model, ...Object.entries(all).map(([key, value]) => `${key}=${value}`)].join(','));
  const holder = diskOf[model]?.(all.id!);
  if (holder) args.push('-device', `${holder},drive=${drive}`);
  return args;
}

/** How many disks `deviceArgs` will ask for. */
export function disksNeeded(devices: readonly LabDeviceSpec[]): number {
  return devices.filter(needsDisk).reduce((sum, { functions = 1 }) => sum + functions, 0);
}
