/** What sysfs tells about the host's PCI functions. Reads only; needs no privilege. */
import type { HostBdf, HostFiles } from '../../native/types.ts';
import { hasErrno } from '../../vmm/base/errors.ts';

export const PCI_DEVICES = '/sys/bus/pci/devices';

/** Flags in a line of sysfs `resource` (include/linux/ioport.h). */
export const RESOURCE = { ROM_SHADOW: 0x2, IO: 0x100, MEMORY: 0x200, PREFETCH: 0x2000, MEM_64: 0x10_0000 } as const;
/** Line of the expansion ROM in sysfs `resource`. */
const ROM_LINE = 6;

/** One BAR on the host. Addresses are host-physical. */
export interface HostResource {
  readonly start: number;
  readonly sizeBytes: number;
  readonly flags: number;
}

/** One PCI function of the host. */
export interface HostDevice {
  readonly bdf: HostBdf;
  readonly vendor: number;
  readonly device: number;
  readonly subsystemVendor: number;
  readonly subsystemDevice: number;
  /** 24 bits: base class, subclass, interface. */
  readonly classCode: number;
  /** Name of the bound driver. */
  readonly driver: string | undefined;
  readonly iommuGroup: number | undefined;
  /** The physical function, if this is a virtual one. */
  readonly physicalFunction: HostBdf | undefined;
  /** How the kernel would reset it, in order of preference: `flr`, `pm`, `bus` … */
  readonly resetMethods: readonly string[];
}

/** Addresses of all functions. */
export function listDevices(files: HostFiles): HostBdf[] {
  try {
    return files.readDir(PCI_DEVICES).sort() as HostBdf[];
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

/** Undefined when there is no such function. */
export function readDevice(files: HostFiles, bdf: HostBdf): HostDevice | undefined {
  const directory = `${PCI_DEVICES}/${bdf}`;
  if (!files.exists(directory)) return undefined;
  const group = linkName(files, `${directory}/iommu_group`);
  return {
    bdf,
    vendor: readNumber(files, `${directory}/vendor`),
    device: readNumber(files, `${directory}/device`),
    subsystemVendor: readNumber(files, `${directory}/subsystem_vendor`),
    subsystemDevice: readNumber(files, `${directory}/subsystem_device`),
    classCode: readNumber(files, `${directory}/class`),
    driver: linkName(files, `${directory}/driver`),
    iommuGroup: group === undefined ? undefined : Number(group),
    physicalFunction: linkName(files, `${directory}/physfn`) as HostBdf | undefined,
    resetMethods: (readText(files, `${directory}/reset_method`) ?? '').split(/\s+/).filter(Boolean),
  };
}

/** The functions of an IOMMU group. */
export function groupMembers(files: HostFiles, bdf: HostBdf): HostBdf[] {
  try {
    return files.readDir(`${PCI_DEVICES}/${bdf}/iommu_group/devices`).sort() as HostBdf[];
  } catch {
    return [bdf];
  }
}

/** BAR0 to BAR5 of a function; size 0 where there is none. */
export function readResources(files: HostFiles, bdf: HostBdf): HostResource[] {
  return resourceLines(files, bdf).slice(0, ROM_LINE);
}

/** The expansion ROM, as the host's firmware placed it or keeps a copy of it; undefined when there is none. */
export function readRomResource(files: HostFiles, bdf: HostBdf): HostResource | undefined {
  const rom = resourceLines(files, bdf)[ROM_LINE];
  return rom && rom.sizeBytes > 0 ? rom : undefined;
}

function resourceLines(files: HostFiles, bdf: HostBdf): HostResource[] {
  const lines = (readText(files, `${PCI_DEVICES}/${bdf}/resource`) ?? '').split('\n');
  return lines.map((line) => {
    const [start = 0, end = 0, flags = 0] = line.trim().split(/\s+/).map(Number);
    return { start, sizeBytes: end > start ? end - start + 1 : 0, flags };
  });
}

/** Config space as the kernel reads it from the hardware: without privilege the first 64 bytes. Undefined when unreadable. */
export function readConfig(files: HostFiles, bdf: HostBdf): Uint8Array | undefined {
  try {
    return files.readFile(`${PCI_DEVICES}/${bdf}/config`);
  } catch {
    return undefined;
  }
}

/** PCI-to-PCI and CardBus bridges, host bridges: nothing that a guest can be given. */
export function isBridge(device: HostDevice): boolean {
  const baseAndSub = device.classCode >>> 8;
  return baseAndSub === 0x0604 || baseAndSub === 0x0607 || baseAndSub === 0x0600;
}

/** Trimmed text of a file; undefined when it cannot be read. */
export function readText(files: HostFiles, path: string): string | undefined {
  try {
    return new TextDecoder().decode(files.readFile(path)).trim();
  } catch {
    return undefined;
  }
}

/** Last part of a link's target; undefined when there is no link. */
export function linkName(files: HostFiles, path: string): string | undefined {
  try {
    return files.readLink(path).split('/').at(-1) || undefined;
  } catch {
    return undefined;
  }
}

/** Value of a file like `0x8086`; 0 when it cannot be read. */
function readNumber(files: HostFiles, path: string): number {
  const value = Number(readText(files, path) ?? 0);
  return Number.isNaN(value) ? 0 : value;
}
