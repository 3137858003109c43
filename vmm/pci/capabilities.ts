/**
 * Walks of the two capability chains (PCI 3.0 §6.7, PCIe 6.0 §7.6.3). A chain is data of a device, perhaps of a broken
 * one: pointers are bounded, loops end, and a null entry does not hide what follows it.
 */
import { readLe } from '../base/bits.ts';
import { hex } from '../base/units.ts';

/** Identifiers of standard capabilities. */
export const CAP = {
  PM: 0x01,
  AGP: 0x02,
  VPD: 0x03,
  MSI: 0x05,
  PCIX: 0x07,
  HT: 0x08,
  VENDOR: 0x09,
  PCIE: 0x10,
  MSIX: 0x11,
  SATA: 0x12,
  AF: 0x13,
} as const;

/** Identifiers of extended capabilities. */
export const EXT_CAP = { AER: 0x01, DSN: 0x03, POWER_BUDGET: 0x04, VENDOR: 0x0b, SRIOV: 0x10 } as const;

export interface Capability {
  readonly id: number;
  readonly offset: number;
  /** Bytes, clipped to the next capability and to the config space; at least the header. */
  readonly sizeBytes: number;
  /** Version of an extended capability, 0 for a standard one. */
  readonly version: number;
}

export interface CapabilityWalk {
  readonly capabilities: readonly Capability[];
  /** What was wrong with the chain, for people. */
  readonly faults: readonly string[];
}

const CAPABILITY_POINTER = 0x34;
const STATUS = 0x06;
const STATUS_CAP_LIST = 0x10;
const STANDARD_END = 0x100;
const EXTENDED_START = 0x100;
const FIRST_STANDARD = 0x40;

/** Fixed lengths of standard capabilities; the others are computed below. */
const STANDARD_SIZE: Readonly<Record<number, number>> = {
  [CAP.PM]: 8,
  [CAP.AGP]: 12,
  [CAP.VPD]: 8,
  [CAP.PCIX]: 8,
  [CAP.HT]: 4,
  [CAP.MSIX]: 12,
  [CAP.SATA]: 8,
  [CAP.AF]: 6,
};

/** Fixed lengths of extended capabilities. */
const EXTENDED_SIZE: Readonly<Record<number, number>> = {
  [EXT_CAP.AER]: 44,
  [EXT_CAP.DSN]: 12,
  [EXT_CAP.POWER_BUDGET]: 16,
  [EXT_CAP.SRIOV]: 64,
};

/** The chain that starts at 0x34, in its order. */
export function walkCapabilities(config: Uint8Array): CapabilityWalk {
  const faults: string[] = [];
  const found: { id: number; offset: number }[] = [];
  if ((readLe(config, STATUS, 2) & STATUS_CAP_LIST) === 0) return { capabilities: [], faults };
  const seen = new Set<number>();
  let at = readLe(config, CAPABILITY_POINTER, 1) & ~3;
  while (at !== 0) {
    if (at < FIRST_STANDARD || at + 2 > Math.min(config.length, STANDARD_END)) {
      faults.push(`capability pointer ${hex(at)} is out of range`);
      break;
    }
    if (seen.has(at)) {
      faults.push(`capability chain loops at ${hex(at)}`);
      break;
    }
    seen.add(at);
    const id = readLe(config, at, 1);
    if (id === 0xff) {
      faults.push(`capability at ${hex(at)} reads all ones`);
      break;
    }
    // Id 0 is the null capability: nothing in itself, but its next pointer counts.
    if (id !== 0) found.push({ id, offset: at });
    at = readLe(config, at + 1, 1) & ~3;
  }
  const offsets = [...seen];
  return { capabilities: found.map((cap) => sized(config, cap, offsets, standardSize(config, cap), 0)), faults };
}

/** The chain that starts at 0x100; empty for a function with 256 bytes of config space. */
export function walkExtendedCapabilities(config: Uint8Array): CapabilityWalk {
  const faults: string[] = [];
  const found: { id: number; offset: number; version: number }[] = [];
  const seen = new Set<number>();
  let at = config.length > EXTENDED_START + 4 ? EXTENDED_START : 0;
  while (at !== 0) {
    if (at < EXTENDED_START || at + 4 > config.length) {
      faults.push(`extended capability pointer ${hex(at)} is out of range`);
      break;
    }
    if (seen.has(at)) {
      faults.push(`extended capability chain loops at ${hex(at)}`);
      break;
    }
    seen.add(at);
    const header = readLe(config, at, 4);
    if (header === 0xffff_ffff) {
      if (at !== EXTENDED_START) faults.push(`extended capability at ${hex(at)} reads all ones`);
      break;
    }
    const id = header & 0xffff;
    // A first entry with id 0 is how the kernel hides it; the chain goes on behind it.
    if (id !== 0 && id !== 0xffff) found.push({ id, offset: at, version: (header >>> 16) & 0xf });
    at = (header >>> 20) & ~3;
  }
  const offsets = [...seen];
  return {
    capabilities: found.map((cap) => sized(config, cap, offsets, extendedSize(config, cap), cap.version)),
    faults,
  };
}

function sized(
  config: Uint8Array,
  { id, offset }: { readonly id: number; readonly offset: number },
  offsets: readonly number[],
  size: number,
  version: number,
): Capability {
  const end = offset < STANDARD_END ? Math.min(config.length, STANDARD_END) : config.length;
  const next = Math.min(end, ...offsets.filter((other) => other > offset));
  return { id, offset, version, sizeBytes: Math.min(size, next - offset) };
}

function standardSize(config: Uint8Array, { id, offset }: { readonly id: number; readonly offset: number }): number {
  if (id === CAP.VENDOR) return Math.max(3, readLe(config, offset + 2, 1));
  if (id === CAP.MSI) {
    const control = readLe(config, offset + 2, 2);
    return 10 + (control & 0x80 ? 4 : 0) + (control & 0x100 ? 10 : 0);
  }
  if (id === CAP.PCIE) {
    const flags = readLe(config, offset + 2, 2);
    const rootComplexEndpoint = ((flags >> 4) & 0xf) === 9;
    if ((flags & 0xf) < 2) return rootComplexEndpoint ? 12 : 20;
    return rootComplexEndpoint ? 44 : 52;
  }
  return STANDARD_SIZE[id] ?? 2;
}

function extendedSize(config: Uint8Array, { id, offset }: { readonly id: number; readonly offset: number }): number {
  // VSEC carries its own length in bits 31:20 of its second dword.
  if (id === EXT_CAP.VENDOR) return Math.max(8, (readLe(config, offset + 4, 4) >>> 20) & 0xfff);
  return EXTENDED_SIZE[id] ?? 4;
}
