/** What the host sees of a device, all of it at one moment, and what differs between two such moments. */
import type { HostBdf, HostFiles } from '../../../native/types.ts';
import { linkName, PCI_DEVICES, readConfig, readText } from '../../../passthrough/host/sysfs.ts';
import { readLe } from '../../../vmm/base/bits.ts';
import { CAP, EXT_CAP, walkCapabilities, walkExtendedCapabilities } from '../../../vmm/pci/capabilities.ts';

export interface Snapshot {
  /** Empty when it cannot be read. */
  readonly config: Uint8Array;
  readonly driver: string | undefined;
  /** Counters of Advanced Error Reporting of the device and of the port above it; empty where the host has none. */
  readonly aer: Readonly<Record<string, number>>;
  /** `8.0 GT/s PCIe x4`; undefined where there is none. */
  readonly link: string | undefined;
}

const AER_FILES = ['aer_dev_correctable', 'aer_dev_nonfatal', 'aer_dev_fatal'];
const REVISION_AND_CLASS = 0x08;
const NO_DEVICE = 0xffff_ffff;

export function readSnapshot(files: HostFiles, bdf: HostBdf): Snapshot {
  const folder = `${PCI_DEVICES}/${bdf}`;
  const speed = readText(files, `${folder}/current_link_speed`);
  const width = readText(files, `${folder}/current_link_width`);
  return {
    config: readConfig(files, bdf) ?? new Uint8Array(0),
    driver: linkName(files, `${folder}/driver`),
    aer: { ...readAer(files, folder, 'device'), ...readAer(files, portAbove(files, folder), 'port') },
    link: speed === undefined ? undefined : `${speed} x${width ?? '?'}`,
  };
}

/**
 * A device that fell off the bus reads all ones; one that was removed cannot be read. Vendor and device id would not tell:
 * a virtual function has none of its own and reads all ones there (PCIe 6.0 §9.3.4.1.1).
 */
export function isAlive({ config }: Pick<Snapshot, 'config'>): boolean {
  return config.length >= 12 && readLe(config, REVISION_AND_CLASS, 4) !== NO_DEVICE;
}

/** Folder of the bridge above; the device's own when there is none. */
function portAbove(files: HostFiles, folder: string): string {
  try {
    const parent = files.readLink(folder).split('/').at(-2);
    return parent ? `${PCI_DEVICES}/${parent}` : folder;
  } catch {
    return folder;
  }
}

/** Lines `NAME count`; the totals are left out, as they repeat. */
function readAer(files: HostFiles, folder: string, whose: string): Record<string, number> {
  const counters: Record<string, number> = {};
  for (const file of AER_FILES) {
    for (const line of (readText(files, `${folder}/${file}`) ?? '').split('\n')) {
      const [, name, count] = /^(\w+) (\d+)$/.exec(line.trim()) ?? [];
      if (name && !name.startsWith('TOTAL'))
        counters[`${whose} ${file.slice('aer_dev_'.length)} ${name}`] = Number(count);
    }
  }
  return counters;
}

/**
 * Bytes of config space that change by themselves or say nothing while the device is idle: status that events set, and the
 * message addresses of interrupts, which a reset need not clear.
 */
export function volatileBytes(config: Uint8Array): Set<number> {
  const found = new Set<number>();
  const add = (start: number, sizeBytes: number): void => {
    for (let at = start; at < start + sizeBytes; at++) found.add(at);
  };
  // Status (PCI 3.0 §6.2.3) and the line that the host's firmware wrote.
  add(0x06, 2);
  add(0x3c, 1);
  for (const { id, offset, sizeBytes } of walkCapabilities(config).capabilities) {
    // PME status and enable; the power state has bits of its own in the low byte.
    if (id === CAP.PM) add(offset + 5, 1);
    if (id === CAP.MSI) add(offset + 4, sizeBytes - 4);
    if (id === CAP.VPD) add(offset + 2, sizeBytes - 2);
    // Device status and link status (PCIe 6.0 §7.5.3).
    if (id === CAP.PCIE) {
      add(offset + 0x0a, 2);
      add(offset + 0x12, 2);
    }
  }
  for (const { id, offset } of walkExtendedCapabilities(config).capabilities) {
    if (id !== EXT_CAP.AER) continue;
    // Uncorrectable and correctable status, first error pointer, header log (PCIe 6.0 §7.8.4).
    add(offset + 4, 4);
    add(offset + 0x10, 4);
    add(offset + 0x18, 0x14);
  }
  return found;
}

/** `0x04: 00 -> 07` for each run of bytes that differ, `ignored` left out. */
export function configDifference(before: Uint8Array, after: Uint8Array, ignored: ReadonlySet<number>): string[] {
  const found: string[] = [];
  const size = Math.max(before.length, after.length);
  const differs = (at: number): boolean => at < size && before[at] !== after[at] && !ignored.has(at);
  for (let at = 0; at < size; at++) {
    if (!differs(at)) continue;
    const start = at;
    while (differs(at + 1) && at + 1 - start < 8) at++;
    found.push(`0x${start.toString(16).padStart(2, '0')}: ${hexOf(before, start, at)} -> ${hexOf(after, start, at)}`);
  }
  return found;
}

function hexOf(bytes: Uint8Array, first: number, last: number): string {
  return first >= bytes.length ? 'none' : Buffer.from(bytes.subarray(first, last + 1)).toString('hex');
}
