/** group.acs, iommu.pt, iommu.aperture: what lies between a device and memory. */
import type { HostBdf, HostFiles } from '../../native/types.ts';
import { readLe } from '../../vmm/base/bits.ts';
import { overlaps, type Range } from '../../vmm/base/ranges.ts';
import { hex } from '../../vmm/base/units.ts';
import { memoryLayout } from '../../vmm/memory/layout.ts';
import { walkExtendedCapabilities } from '../../vmm/pci/capabilities.ts';
import { type HostDevice, PCI_DEVICES, readConfig, readText } from '../host/sysfs.ts';
import { type Finding, fix } from './finding.ts';

const ACS_CAPABILITY = 0x0d;
/** Source validation, request and completion redirect, upstream forwarding: what the kernel asks for (drivers/iommu/iommu.c). */
const ACS_NEEDED = 0x1d;
const WHOLE_CONFIG_BYTES = 4096;
/** For the layout of a guest's memory. Of that only the RAM is looked at, which does not depend on them. */
const PHYSICAL_BITS = 48;

export function checkPath(files: HostFiles, device: HostDevice, ramBytes: number): Finding[] {
  return [...isolation(files, device), ...translation(files, device), ...reservedRam(files, device, ramBytes)];
}

/** The ports above a function, from the root down. */
export function upstreamPorts(files: HostFiles, bdf: HostBdf): HostBdf[] {
  let target: string;
  try {
    target = files.readLink(`${PCI_DEVICES}/${bdf}`);
  } catch {
    return [];
  }
  const parts = target.split('/').filter((part) => /^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$/i.test(part));
  return parts.slice(0, -1) as HostBdf[];
}

/** Which port lets traffic between devices pass by the IOMMU, and so joins their groups. */
function isolation(files: HostFiles, { bdf }: HostDevice): Finding[] {
  const ports = upstreamPorts(files, bdf).map((port) => ({ port, acs: acsOf(files, port) }));
  if (ports.length === 0) return [];
  const path = (port: HostBdf): string => `${PCI_DEVICES}/${port}/config`;
  const evidence = ports.map(({ port, acs }) => ({ path: path(port), value: describeAcs(acs) }));
  const lacking = ports.find(({ acs }) => acs !== 'unreadable' && !isIsolating(acs));
  const isUnknown = ports.some(({ acs }) => acs === 'unreadable');
  const explanation = lacking
    ? `${lacking.port} above it does not isolate what is below it (ACS), so devices there may share a group`
    : isUnknown
      ? 'whether the ports above it isolate what is below them (ACS) only root can read'
      : 'every port above it isolates what is below it (ACS)';
  const fixes = lacking
    ? [fix('choose another slot, or turn ACS on in firmware', { persistent: true, reboot: true })]
    : [];
  return [{ id: 'group.acs', severity: 'info', subject: bdf, evidence, explanation, fix: fixes }];
}

type Acs = 'unreadable' | 'absent' | { readonly capability: number; readonly control: number };

function acsOf(files: HostFiles, port: HostBdf): Acs {
  const config = readConfig(files, port);
  if (!config || config.length < WHOLE_CONFIG_BYTES) return 'unreadable';
  const found = walkExtendedCapabilities(config).capabilities.find(({ id }) => id === ACS_CAPABILITY);
  if (!found) return 'absent';
  return { capability: readLe(config, found.offset + 4, 2), control: readLe(config, found.offset + 6, 2) };
}

function isIsolating(acs: Acs): boolean {
  return typeof acs === 'object' && (acs.control & ACS_NEEDED) === ACS_NEEDED;
}

function describeAcs(acs: Acs): string {
  if (acs === 'unreadable') return 'only 64 bytes can be read';
  if (acs === 'absent') return 'no ACS capability';
  return `ACS can ${hex(acs.capability)}, does ${hex(acs.control)}, needed ${hex(ACS_NEEDED)}`;
}

function translation(files: HostFiles, { bdf, iommuGroup }: HostDevice): Finding[] {
  const path = `/sys/kernel/iommu_groups/${iommuGroup}/type`;
  const type = iommuGroup === undefined ? undefined : readText(files, path);
  if (type === undefined) return [];
  const meaning =
    type === 'identity' ? 'with the host, its DMA is not translated' : 'with the host, its DMA is translated';
  return [
    {
      id: 'iommu.pt',
      severity: 'info',
      subject: bdf,
      evidence: [{ path, value: type }],
      explanation: `${meaning}; both are fine for assigning it`,
      fix: [],
    },
  ];
}

/** Lines of `reserved_regions`: first and last address, kind. Guest RAM there is out of the device's reach. */
function reservedRam(files: HostFiles, { bdf, iommuGroup }: HostDevice, ramBytes: number): Finding[] {
  const path = `/sys/kernel/iommu_groups/${iommuGroup}/reserved_regions`;
  const lines = iommuGroup === undefined ? [] : (readText(files, path) ?? '').split('\n').filter(Boolean);
  const { ram } = memoryLayout(ramBytes, PHYSICAL_BITS);
  const hit = lines.filter((line) => {
    const region = parseRegion(line);
    return region !== undefined && ram.some((range) => overlaps(range, region));
  });
  if (hit.length === 0) return [];
  return [
    {
      id: 'iommu.aperture',
      severity: 'warning',
      subject: bdf,
      evidence: hit.map((value) => ({ path, value })),
      explanation: 'part of the guest RAM lies at addresses that the IOMMU keeps for itself: DMA cannot reach it',
      fix: [fix('give the guest less memory')],
    },
  ];
}

function parseRegion(line: string): Range | undefined {
  const [first, last, kind] = line.split(/\s+/);
  // Relaxable ones go when the device is assigned; the window of the MSIs lies in the guest's hole as well.
  if (kind === 'direct-relaxable' || kind === 'msi') return undefined;
  const [start, end] = [Number(first), Number(last)];
  const isRange = Number.isSafeInteger(start) && Number.isSafeInteger(end) && end >= start;
  return isRange ? { start, size: end - start + 1 } : undefined;
}
