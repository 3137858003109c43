/**
 * Builds a guest's config space from a device's, closed by default: the tables decide what is kept, capabilities are
 * linked anew with their offsets kept, everything else reads 0 and takes no writes.
 */
import { ones, readLe, writeLe } from '../../vmm/base/bits.ts';
import { CAP, type Capability, walkCapabilities, walkExtendedCapabilities } from '../../vmm/pci/capabilities.ts';
import type { ConfigSpace } from '../../vmm/pci/config-space.ts';
import {
  type Body,
  CAPABILITY_RULES,
  type CapabilityRule,
  EXTENDED_CAPABILITY_RULES,
  HEADER,
  HEADER_RULES,
  type RegisterRule,
  STATUS_CAP_LIST,
} from './permission-table.ts';

const EXTENDED_START = 0x100;
const STANDARD_HEADER_BYTES = 2;
const EXTENDED_HEADER_BYTES = 4;

export interface ImageOptions {
  /** Whether the guest can use an INTx line of this function. */
  readonly intx: boolean;
  /** Whether MSI and MSI-X may be offered; hidden when the kernel has no vectors to give. */
  readonly msi: boolean;
  readonly msix: boolean;
}

/** What the guest's config space came out as. */
export interface GuestImage {
  readonly capabilities: readonly Capability[];
  readonly extended: readonly Capability[];
  /** Oddities of the device's chains, for people. */
  readonly faults: readonly string[];
}

/** Fills `space` (its image, masks and device bits) from the hardware's config space. */
export function buildImage(space: ConfigSpace, hardware: Uint8Array, options: ImageOptions): GuestImage {
  const standard = walkCapabilities(hardware);
  const extended = walkExtendedCapabilities(hardware.subarray(0, space.sizeBytes));
  for (const rule of HEADER_RULES) applyRegister(space, hardware, 0, rule);

  const visible: Capability[] = [];
  for (const capability of standard.capabilities) {
    if (capability.id === CAP.MSI && !options.msi) continue;
    if (capability.id === CAP.MSIX && !options.msix) continue;
    const rule = CAPABILITY_RULES.find((candidate) => candidate.id === capability.id);
    if (!rule) continue;
    applyCapability(space, hardware, capability, rule, STANDARD_HEADER_BYTES);
    visible.push(capability);
  }
  linkStandard(space, visible);

  const visibleExtended: Capability[] = [];
  // Without PCIe in the standard chain an OS does not look for more than 256 bytes.
  for (const capability of extended.capabilities) {
    const rule = EXTENDED_CAPABILITY_RULES.find((candidate) => candidate.id === capability.id);
    if (!rule) continue;
    applyCapability(space, hardware, capability, rule, EXTENDED_HEADER_BYTES);
    visibleExtended.push(capability);
  }
  linkExtended(space, visibleExtended);

  space.set(HEADER.INTERRUPT_PIN, 1, options.intx ? 1 : 0);
  return { capabilities: visible, extended: visibleExtended, faults: [...standard.faults, ...extended.faults] };
}

function applyCapability(
  space: ConfigSpace,
  hardware: Uint8Array,
  capability: Capability,
  rule: CapabilityRule,
  headerBytes: number,
): void {
  for (let at = headerBytes; at < capability.sizeBytes; at++) {
    applyBody(space, hardware, capability.offset + at, rule.body);
  }
  for (const register of rule.registers) {
    // A register beyond a clipped or short capability (PCIe v1) belongs to somebody else.
    if (register.offset + register.width <= capability.sizeBytes) {
      applyRegister(space, hardware, capability.offset, register);
    }
  }
}

function applyBody(space: ConfigSpace, hardware: Uint8Array, at: number, body: Body): void {
  if (body === 'closed') return;
  space.set(at, 1, hardware[at]!);
  if (body === 'image') return;
  space.window.deviceBits[at] = 0xff;
  if (body !== 'raw') return;
  space.guestWrite[at] = 0xff;
  space.deviceWrite[at] = 0xff;
}

function applyRegister(space: ConfigSpace, hardware: Uint8Array, base: number, rule: RegisterRule): void {
  const { width, keep = ones(width), set = 0, device = 0, writeImage = 0, writeDevice = 0, clear = 0 } = rule;
  const at = base + rule.offset;
  space.set(at, width, ((readLe(hardware, at, width) & keep) | set) >>> 0);
  writeLe(space.window.deviceBits, at, width, device);
  writeLe(space.guestWrite, at, width, writeImage | writeDevice);
  writeLe(space.deviceWrite, at, width, writeDevice);
  writeLe(space.clearOnOne, at, width, clear);
}

function linkStandard(space: ConfigSpace, visible: readonly Capability[]): void {
  space.set(HEADER.CAPABILITIES, 1, visible[0]?.offset ?? 0);
  const status = space.get(HEADER.STATUS, 2) & ~STATUS_CAP_LIST;
  space.set(HEADER.STATUS, 2, visible.length > 0 ? status | STATUS_CAP_LIST : status);
  for (const [i, capability] of visible.entries()) {
    space.set(capability.offset, 1, capability.id);
    space.set(capability.offset + 1, 1, visible[i + 1]?.offset ?? 0);
  }
}

/** The first entry must stand at 0x100; when that one is hidden, a null capability there leads on. */
function linkExtended(space: ConfigSpace, visible: readonly Capability[]): void {
  if (visible.length > 0 && visible[0]!.offset !== EXTENDED_START) {
    space.set(EXTENDED_START, 4, (visible[0]!.offset << 20) >>> 0);
  }
  for (const [i, capability] of visible.entries()) {
    const next = visible[i + 1]?.offset ?? 0;
    space.set(capability.offset, 4, ((next << 20) | (capability.version << 16) | capability.id) >>> 0);
  }
}
