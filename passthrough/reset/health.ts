/** Whether a device is itself after a reset: it answers, with its own identifiers and capabilities. */
import type { HostFiles } from '../../native/types.ts';
import { readLe, writeLe } from '../../vmm/base/bits.ts';
import { CAP, walkCapabilities, walkExtendedCapabilities } from '../../vmm/pci/capabilities.ts';
import { capabilityName } from '../config-space/capability-info.ts';
import { type HostDevice, readConfig } from '../host/sysfs.ts';

interface StableField {
  readonly name: string;
  readonly offset: number;
  readonly width: 1 | 2 | 4;
  readonly mask?: number;
}

/** Read-only in every device. What VFIO answers from its own copy (ids, BARs) would prove nothing. */
const HEADER_FIELDS: readonly StableField[] = [
  { name: 'revision and class', offset: 0x08, width: 4 },
  { name: 'header type', offset: 0x0e, width: 1 },
  { name: 'subsystem ids', offset: 0x2c, width: 4 },
];

/** Of capabilities, from their start; without what drivers and resets change. */
const CAPABILITY_FIELDS: Readonly<Record<number, readonly StableField[]>> = {
  [CAP.PM]: [{ name: 'PMC', offset: 2, width: 2, mask: 0x07ff }],
  [CAP.MSIX]: [
    { name: 'table size', offset: 2, width: 2, mask: 0x07ff },
    { name: 'table', offset: 4, width: 4 },
    { name: 'pending bits', offset: 8, width: 4 },
  ],
  [CAP.PCIE]: [
    { name: 'flags', offset: 2, width: 2 },
    { name: 'device capabilities', offset: 4, width: 4 },
  ],
};

const ALL_ONES = 0xffff_ffff;

/** Dwords of the header that are compared, and those by which the chain is found. */
const HEADER_DWORDS = [0x04, 0x08, 0x0c, 0x2c, 0x34];
/** Dwords of a standard capability with everything that is compared. */
const CAPABILITY_DWORDS = 3;

/** Config space as it was, with what {@link configDifferences} looks at read anew: some thirty accesses, not a thousand. */
export function reread(before: Uint8Array, read: (offset: number) => number): Uint8Array {
  const after = before.slice();
  const dwords = new Set(HEADER_DWORDS);
  for (const { offset } of walkCapabilities(before).capabilities) {
    for (let i = 0; i < CAPABILITY_DWORDS; i++) dwords.add((offset & ~3) + 4 * i);
  }
  for (const { offset } of walkExtendedCapabilities(before).capabilities) dwords.add(offset);
  for (const offset of dwords) if (offset + 4 <= after.length) writeLe(after, offset, 4, read(offset));
  return after;
}

/** Off the bus, or stuck in reset. @param revisionAndClass which VFIO reads from the hardware */
export function isDead(revisionAndClass: number): boolean {
  return revisionAndClass === ALL_ONES;
}

/**
 * The vendor that the hardware itself answers with, past VFIO's copy: sysfs reads it anew, for every user. A fault for
 * people, or undefined. A virtual function has none of its own.
 */
export function vendorFault(files: HostFiles, { bdf, vendor, physicalFunction }: HostDevice): string | undefined {
  const config = physicalFunction === undefined ? readConfig(files, bdf) : undefined;
  if (!config || config.length < 2) return undefined;
  const found = readLe(config, 0, 2);
  return found === vendor ? undefined : `vendor id reads ${hexOf(found, 2)}, not ${hexOf(vendor, 2)}`;
}

/** What should never change and did, for people. Both as VFIO shows config space. */
export function configDifferences(before: Uint8Array, after: Uint8Array): string[] {
  const differences: string[] = [];
  const compare = (where: string, base: number, { name, offset, width, mask = ALL_ONES }: StableField): void => {
    const [was, is] = [before, after].map((config) => (readLe(config, base + offset, width) & mask) >>> 0);
    if (was !== is) differences.push(`${where}${name} reads ${hexOf(is!, width)}, was ${hexOf(was!, width)}`);
  };
  for (const field of HEADER_FIELDS) compare('', 0, field);
  const lists = [before, after].map((config) => [
    ...walkCapabilities(config).capabilities.map((each) => ({ ...each, kind: 'standard' as const })),
    ...walkExtendedCapabilities(config).capabilities.map((each) => ({ ...each, kind: 'extended' as const })),
  ]);
  for (const { kind, id, offset } of lists[0]!) {
    const name = capabilityName(kind, id);
    const isThere = lists[1]!.some((other) => other.kind === kind && other.id === id && other.offset === offset);
    if (!isThere) differences.push(`${name} at 0x${offset.toString(16)} is gone`);
    else if (kind === 'standard') for (const field of CAPABILITY_FIELDS[id] ?? []) compare(`${name}: `, offset, field);
  }
  return differences;
}

function hexOf(value: number, width: number): string {
  return value.toString(16).padStart(2 * width, '0');
}
