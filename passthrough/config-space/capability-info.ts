/**
 * Names and true lengths of PCI capabilities, shown to a guest or not (PCI Local Bus 3.0 appendix H, PCIe 6.0 §7.9). A
 * device's registers outside of all of these are strays; {@link CapabilityRule} says which of them a guest gets.
 */
import { readLe } from '../../vmm/base/bits.ts';
import { type Capability, walkCapabilities, walkExtendedCapabilities } from '../../vmm/pci/capabilities.ts';

/** Identifiers that a guest never gets, and that grants do not open without force. */
export const GUARDED_EXT_CAP = {
  ACS: 0x0d,
  ATS: 0x0f,
  SRIOV: 0x10,
  PRI: 0x13,
  REBAR: 0x15,
  PASID: 0x1b,
  VF_REBAR: 0x24,
  DOE: 0x2e,
} as const;

interface CapabilityInfo {
  readonly name: string;
  /** Bytes with the header; undefined when only the next capability bounds it. */
  readonly bytes?: number | ((config: Uint8Array, offset: number) => number);
}

/** Bits of ACS capability: egress control vector size in 15:8, present when bit 5 is set. */
const acsBytes = (config: Uint8Array, at: number): number => {
  const capability = readLe(config, at + 4, 2);
  const vectorBits = (capability & 0x20) === 0 ? 0 : capability >>> 8 || 256;
  return 8 + 4 * Math.ceil(vectorBits / 32);
};
const headerLength = (config: Uint8Array, at: number): number => readLe(config, at + 4, 4) >>> 20;
const resizableBytes = (config: Uint8Array, at: number): number => 4 + 8 * ((readLe(config, at + 8, 4) >>> 5) & 7);
/** HyperTransport types differ; slave/primary has 28 bytes, host/secondary 24, the others up to 8 (HT 3.1 §7). */
const htBytes = (config: Uint8Array, at: number): number => {
  const type = config[at + 3]! >>> 5;
  return type === 0 ? 28 : type === 1 ? 24 : 8;
};
const eaBytes = (config: Uint8Array, at: number): number => {
  let bytes = 4;
  for (let entries = config[at + 2]! & 0x3f; entries > 0 && at + bytes < 0xfc; entries--) {
    bytes += 4 * ((config[at + bytes]! & 7) + 1);
  }
  return bytes;
};

const STANDARD: Readonly<Record<number, CapabilityInfo>> = {
  1: { name: 'power management', bytes: 8 },
  2: { name: 'AGP', bytes: 12 },
  3: { name: 'vital product data', bytes: 8 },
  4: { name: 'slot identification', bytes: 4 },
  5: { name: 'MSI' },
  6: { name: 'CompactPCI hot swap', bytes: 4 },
  7: { name: 'PCI-X', bytes: 8 },
  8: { name: 'HyperTransport', bytes: htBytes },
  9: { name: 'vendor specific' },
  10: { name: 'debug port', bytes: 4 },
  11: { name: 'CompactPCI resource control', bytes: 4 },
  12: { name: 'hot plug (SHPC)', bytes: 8 },
  13: { name: 'bridge subsystem ids', bytes: 8 },
  14: { name: 'AGP 8x', bytes: 12 },
  15: { name: 'secure device', bytes: 4 },
  16: { name: 'PCI Express' },
  17: { name: 'MSI-X', bytes: 12 },
  18: { name: 'SATA', bytes: 8 },
  19: { name: 'advanced features', bytes: 6 },
  20: { name: 'enhanced allocation', bytes: eaBytes },
};

const EXTENDED: Readonly<Record<number, CapabilityInfo>> = {
  1: { name: 'advanced error reporting', bytes: 72 },
  2: { name: 'virtual channels' },
  3: { name: 'device serial number', bytes: 12 },
  4: { name: 'power budgeting', bytes: 16 },
  5: { name: 'root complex links' },
  6: { name: 'root complex link control', bytes: 12 },
  7: { name: 'root complex event collector', bytes: 12 },
  8: { name: 'multi-function virtual channels' },
  9: { name: 'virtual channels (with MFVC)' },
  11: { name: 'vendor specific (extended)', bytes: headerLength },
  13: { name: 'access control services', bytes: acsBytes },
  14: { name: 'alternative routing ids', bytes: 8 },
  15: { name: 'address translation services', bytes: 8 },
  16: { name: 'SR-IOV', bytes: 64 },
  17: { name: 'multi-root I/O virtualisation' },
  18: { name: 'multicast', bytes: 48 },
  19: { name: 'page requests', bytes: 16 },
  21: { name: 'resizable BARs', bytes: resizableBytes },
  22: { name: 'dynamic power allocation' },
  23: { name: 'TLP processing hints' },
  24: { name: 'latency tolerance reporting', bytes: 8 },
  25: { name: 'secondary PCI Express' },
  27: { name: 'process address spaces', bytes: 8 },
  29: { name: 'downstream port containment', bytes: 96 },
  30: { name: 'L1 substates', bytes: 20 },
  31: { name: 'precision time', bytes: 12 },
  35: { name: 'designated vendor specific', bytes: headerLength },
  36: { name: 'resizable BARs of VFs', bytes: resizableBytes },
  37: { name: 'data link features', bytes: 12 },
  38: { name: 'physical layer 16 GT/s' },
  39: { name: 'lane margining' },
  41: { name: 'native PCIe enclosure management', bytes: 16 },
  42: { name: 'physical layer 32 GT/s' },
  46: { name: 'data object exchange', bytes: 24 },
  48: { name: 'integrity and data encryption' },
};

/** A capability of the hardware with its name and all of its bytes, as far as the next one lets them reach. */
export interface KnownCapability extends Capability {
  readonly kind: 'standard' | 'extended';
  readonly name: string;
}

/** Every capability in both chains, in the order of their offsets. */
export function knownCapabilities(config: Uint8Array): {
  readonly capabilities: readonly KnownCapability[];
  /** What is wrong with the chains, for people. */
  readonly faults: readonly string[];
} {
  const standard = walkCapabilities(config);
  const extended = walkExtendedCapabilities(config);
  const found = [
    ...standard.capabilities.map((each) => named(config, each, 'standard')),
    ...extended.capabilities.map((each) => named(config, each, 'extended')),
  ].sort((a, b) => a.offset - b.offset);
  const capabilities = found.map((each, i) => {
    const limit = each.kind === 'standard' ? Math.min(0x100, config.length) : config.length;
    const next = Math.min(limit, found[i + 1]?.offset ?? limit);
    return { ...each, sizeBytes: Math.max(1, Math.min(each.sizeBytes, next - each.offset)) };
  });
  return { capabilities, faults: [...standard.faults, ...extended.faults] };
}

/** Name of a capability, or its number. */
export function capabilityName(kind: KnownCapability['kind'], id: number): string {
  const info = kind === 'standard' ? STANDARD[id] : EXTENDED[id];
  return info?.name ?? `capability 0x${id.toString(16).padStart(kind === 'standard' ? 2 : 4, '0')}`;
}

function named(config: Uint8Array, capability: Capability, kind: KnownCapability['kind']): KnownCapability {
  const { id, offset, sizeBytes } = capability;
  const { bytes } = (kind === 'standard' ? STANDARD : EXTENDED)[id] ?? {};
  const own = typeof bytes === 'function' ? bytes(config, offset) : bytes;
  return { ...capability, kind, name: capabilityName(kind, id), sizeBytes: Math.max(sizeBytes, own ?? 0) };
}
