/** The VM model: what a user writes. The same shape as a TypeScript object, a JSON file and a message. */

/** `512M`, `6GiB`, or a number of bytes. */
export type Size = number | `${number}${'K' | 'M' | 'G' | 'T' | 'KiB' | 'MiB' | 'GiB' | 'TiB'}`;

/** A file that this process inherited: its number, or its name in `LISTEN_FDNAMES` (sd_listen_fds(3)). */
export type FdRef = number | string;

/** What devices are opened through: `auto` takes iommufd where the kernel and every device have it, else the container. */
export type IommuMode = 'auto' | 'container' | 'iommufd';

/** Files that another process opened. The VM closes them. */
export interface HostFds {
  /** /dev/kvm */
  readonly kvm?: FdRef;
  /** /dev/vfio/vfio */
  readonly container?: FdRef;
  /** /dev/iommu */
  readonly iommufd?: FdRef;
}

/** One assigned PCI function. */
export interface DeviceConfig {
  /** Host address: `0000:01:00.0`; the domain may be left out. Not needed where `deviceFd` tells it. */
  readonly bdf?: string;
  /**
   * UUID that a physical function on vfio-pci shares with its virtual functions: whoever opens it first sets it, the
   * others must know it.
   */
  readonly vfToken?: string;
  /**
   * The device, opened by another process: its file of /dev/vfio/devices, not bound yet; or with `groupFd` the one that
   * VFIO_GROUP_GET_DEVICE_FD gave. The VM closes it.
   */
  readonly deviceFd?: FdRef;
  /** Its IOMMU group, opened by another process. Give it with one of the group's devices or with all. The VM closes it. */
  readonly groupFd?: FdRef;
  /**
   * Grants on config space: the path of a root-owned file, or lines `<offset> <readbits> <writebits>` (hexadecimal) for
   * this device, which only root may give.
   */
  readonly configPermit?: string | readonly string[];
  /** Also take grants on registers that guard the host: header, interrupts, power, SR-IOV, ATS, ACS, DOE. */
  readonly configPermitForce?: boolean;
  /** Write-combining: one mode for all BARs, or modes by BAR number with a `default`. */
  readonly wc?: WcMode | WcModesConfig;
  /**
   * Let the other devices of the VM reach its BARs by DMA (peer to peer). What cannot be mapped is warned about.
   * Default: false.
   */
  readonly p2p?: boolean;
  /** How the device is reset before and between boots and when it is given back. Default: auto. */
  readonly reset?: ResetMethod;
  /** Where the guest finds the MSI-X table. Default: where the device has it. */
  readonly msixRelocation?: MsixRelocation;
  /** The expansion ROM that the guest gets. Default: none. */
  readonly rom?: RomConfig;
  /**
   * Name of the root port that the guest has it behind, from which it can be detached in order. Functions of one host
   * device may share one. Default: on the root bus.
   */
  readonly port?: string;
  /** What follows an uncorrectable error of the device. Default: `report`. */
  readonly onError?: OnError;
  /** Identifiers that the guest sees in place of the device's own: numbers, or texts like `0x8086`. */
  readonly ids?: Readonly<Partial<Record<keyof PciIds, number | string>>>;
}

/**
 * `off`: none. `host`: a copy of the device's own, read when it is opened; left out with a warning where the host has none
 * that is valid. `file:PATH`: that file, which must be a PCI expansion ROM.
 */
export type RomConfig = 'off' | 'host' | `file:${string}`;

/**
 * `off`: where the device has it, its pages trapped with the registers in them. `auto`: in a free BAR, or
 * behind the end of one that can grow. `bar0` to `bar5`: there, in a new BAR or behind the end of the one that there is.
 */
export type MsixRelocation = 'off' | 'auto' | `bar${0 | 1 | 2 | 3 | 4 | 5}`;

/**
 * `auto`: the function alone by what the kernel likes best, else slot or bus with every function on it, if all are ours;
 * `pm`, the kernel's last resort for a function, comes after these.
 * `hot`: slot or bus only. `none`: not at all (the kernel itself resets at open and close, if it can). The others are the
 * kernel's names in sysfs `reset_method`: that way and no other; what is not first there already only root may choose.
 */
export type ResetMethod =
  | 'auto'
  | 'hot'
  | 'none'
  | 'flr'
  | 'af_flr'
  | 'pm'
  | 'bus'
  | 'acpi'
  | 'cxl_bus'
  | 'device_specific';

/**
 * What follows an uncorrectable PCIe error (AER), after which a device's state is unknown. `report`: an event, no more.
 * `pause`, `stop`: the VM. `reset`: the device, whose driver in the guest has to notice.
 */
export type OnError = 'report' | 'pause' | 'stop' | 'reset';

/** Identifiers of a function (PCI 3.0 §6.2.1, §6.2.4). 16 bits, the revision 8. What is left out is the device's own. */
export interface PciIds {
  readonly vendor?: number;
  readonly device?: number;
  readonly subsystemVendor?: number;
  readonly subsystemDevice?: number;
  readonly revision?: number;
}

/**
 * What is wanted of write-combining on a BAR. `auto`: the guest decides where it can. `require`: no start unless it can
 * on every prefetchable BAR. `deny`: the BAR is trapped, which is slow. `host`: also this process's own mapping
 * (experimental).
 */
export type WcMode = 'auto' | 'require' | 'deny' | 'host';

/** Modes by BAR, for example `{ default: 'auto', 2: 'require' }`. */
export interface WcModesConfig {
  readonly default?: WcMode;
  readonly [bar: number]: WcMode;
}

/** Complete: what is not listed in `bars` has the default. */
export interface WcModes {
  readonly default: WcMode;
  readonly bars: Readonly<Record<number, WcMode>>;
}

/** One assigned PCI function, normalised. */
export interface NormalDeviceConfig {
  /** Empty until the file in `deviceFd` was asked. */
  readonly bdf: string;
  /** In lower case. */
  readonly vfToken?: string;
  readonly deviceFd?: FdRef;
  readonly groupFd?: FdRef;
  readonly configPermit?: string | readonly string[];
  readonly configPermitForce?: boolean;
  readonly wc?: WcModes;
  readonly rom?: RomConfig;
  readonly ids?: PciIds;
  readonly msixRelocation?: MsixRelocation;
  readonly p2p?: boolean;
  readonly reset?: ResetMethod;
  readonly port?: string;
  readonly onError?: OnError;
}

export interface VmConfig {
  /** For messages and process titles. Default: `vm`. */
  readonly name?: string;
  /** Path of a bzImage or of an x86-64 ELF kernel. */
  readonly kernel: string;
  readonly initrd?: string;
  /** Kernel command line. Default: `console=ttyS0`. */
  readonly cmdline?: string;
  /** Guest RAM. Default 512 MiB; a multiple of 4 KiB, at least 16 MiB. */
  readonly memory?: Size;
  /** vCPUs, 1 to 64. Default 1. */
  readonly cpus?: number;
  /** Back guest RAM with huge pages of the host's reserve. */
  readonly hugePages?: '2M' | '1G';
  readonly devices?: readonly (string | DeviceConfig)[];
  /** What devices are opened through. Default: `auto`. */
  readonly iommu?: IommuMode;
  /** Files of the host that another process opened, so that this one need not. */
  readonly fds?: HostFds;
  /** Root ports `hotplug1` to `hotplugN` for devices that are attached while the guest runs, 0 to 16. Default 0. */
  readonly hotplugPorts?: number;
  /** How many reboots of the guest are carried out; the next one ends the run. Default: no limit. 0: `panic=-1` then ends the run at once. */
  readonly rebootLimit?: number;
  /**
   * Unpack the kernel's payload on the host and start at the kernel proper, instead of letting the guest unpack it.
   * Default true; what cannot be unpacked starts as it is.
   */
  readonly unpackKernel?: boolean;
  /**
   * A second serial port (COM2: ports from 0x2f8, GSI 3, `ttyS1` in Linux) for programs, beside the console for
   * people: `vm.channel`. Default false.
   */
  readonly channel?: boolean;
  /**
   * Open a control socket: true for one with the VM's name in the user's folder for sockets, or another name, or a path
   * with a slash in it. Default false.
   */
  readonly control?: boolean | string;
}

/** A normalised configuration: defaults filled in, sizes in bytes, addresses in full form. */
export interface NormalVmConfig {
  readonly name: string;
  readonly kernel: string;
  readonly initrd: string | undefined;
  readonly cmdline: string;
  readonly memoryBytes: number;
  readonly cpus: number;
  readonly hugePageBytes: number;
  readonly devices: readonly NormalDeviceConfig[];
  readonly iommu: IommuMode;
  readonly fds: HostFds;
  readonly hotplugPorts: number;
  readonly rebootLimit: number;
  readonly unpackKernel: boolean;
  readonly channel: boolean;
  readonly control: boolean | string;
}
