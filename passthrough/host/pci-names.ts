/** Names of PCI vendors, devices and classes, from the host's copy of pci.ids where there is one. */
import type { HostFiles } from '../../native/types.ts';
import { readText } from './sysfs.ts';

const PLACES = ['/usr/share/misc/pci.ids', '/usr/share/hwdata/pci.ids'];

export interface PciNames {
  /** `Intel Corporation 82574L Gigabit Network Connection`; undefined when unknown. */
  device(vendor: number, device: number): string | undefined;
  /** `Ethernet controller` */
  deviceClass(classCode: number): string | undefined;
}

/** Reads the list once; without one every name is unknown. */
export function readPciNames(files: HostFiles): PciNames {
  let text: string | undefined;
  for (const place of PLACES) text ??= readText(files, place);
  const lines = text?.split('\n') ?? [];
  return {
    device: (vendor, device) => {
      const at = lines.findIndex((line) => line.startsWith(`${id(vendor)}  `));
      if (at < 0) return undefined;
      const name = lines[at]!.slice(6);
      const below = childOf(lines, at, `\t${id(device)}  `);
      return below === undefined ? name : `${name} ${below}`;
    },
    deviceClass: (classCode) => {
      const [base, sub] = [classCode >>> 16, (classCode >>> 8) & 0xff];
      const at = lines.findIndex((line) => line.startsWith(`C ${hex2(base)}  `));
      return at < 0 ? undefined : (childOf(lines, at, `\t${hex2(sub)}  `) ?? lines[at]!.slice(6));
    },
  };
}

/** The line with this start among the indented ones below `at`, without its start. */
function childOf(lines: readonly string[], at: number, start: string): string | undefined {
  for (let i = at + 1; i < lines.length && (lines[i]!.startsWith('\t') || lines[i] === ''); i++) {
    if (lines[i]!.startsWith(start)) return lines[i]!.slice(start.length);
  }
  return undefined;
}

function id(value: number): string {
  return value.toString(16).padStart(4, '0');
}

function hex2(value: number): string {
  return value.toString(16).padStart(2, '0');
}
