/**
 * A device's config space, range by range: whose it is, what the guest may read and write there, and why. Names and
 * reasons come from the permission table, masks from the very registers that a guest would get.
 */
import { readLe } from '../../vmm/base/bits.ts';
import { BAR0_OFFSET } from '../../vmm/pci/bar-registers.ts';
import { CAP } from '../../vmm/pci/capabilities.ts';
import { ConfigStore } from '../../vmm/pci/config-window.ts';
import { type MsixLayout, parseMsix } from '../../vmm/pci/msix.ts';
import { barRequests } from '../bars/bar-requests.ts';
import type { HostResource } from '../host/sysfs.ts';
import type { KnownCapability } from './capability-info.ts';
import { knownCapabilities } from './capability-info.ts';
import { type ConfigGrant, formatGrant } from './grants.ts';
import { GuestRegisters } from './guest-registers.ts';
import {
  CAPABILITY_RULES,
  type CapabilityRule,
  EXTENDED_CAPABILITY_RULES,
  HEADER,
  HEADER_BY_CODE,
  HEADER_RULES,
} from './permission-table.ts';

/** Bytes with one owner. Masks are hexadecimal, most significant byte first, as long as the range (up to 4 bytes). */
export interface ConfigRange {
  readonly offset: number;
  readonly sizeBytes: number;
  readonly owner: 'header' | 'capability' | 'hidden capability' | 'gap';
  readonly name: string;
  /** What a read gives: the hardware's bits at that moment, a value kept by Causeway, or zeros. */
  readonly reads: 'hardware' | 'image' | 'mixed' | 'zero';
  /** Where a write goes. `image`: it is kept, and some code may act on it. */
  readonly writes: 'hardware' | 'image' | 'mixed' | 'nowhere';
  /** Bits read from the hardware; absent where all or none are. */
  readonly readMask?: string;
  /** Bits that the guest can change in the image, and those that it changes in the hardware. */
  readonly imageWriteMask?: string;
  readonly hardwareWriteMask?: string;
  /** Bits that a written 1 clears. */
  readonly clearMask?: string;
  readonly why?: string;
}

export interface ConfigMapOptions {
  /** All of config space: 256 or 4096 bytes. */
  readonly config: Uint8Array;
  readonly resources: readonly HostResource[];
  readonly canReset: boolean;
  readonly grants?: readonly ConfigGrant[];
}

interface Segment {
  readonly offset: number;
  readonly sizeBytes: number;
  readonly owner: ConfigRange['owner'];
  readonly name: string;
  readonly why?: string | undefined;
  /** Code takes the writes, whatever the masks say. */
  readonly isHandled?: boolean;
}

const GAP_WHY = 'in no capability, so nobody knows what it does: closed until a grant opens it';
const RELINKED = 'linked anew: only capabilities that are shown are in the chain';

/** Every byte of config space, in ascending order without a hole. */
export function configMap(options: ConfigMapOptions): ConfigRange[] {
  const { config, grants = [] } = options;
  const { registers, msix } = guestRegisters(options);
  registers.setGrants(grants);
  const owners = new Array<Segment | undefined>(config.length);
  const claim = (segment: Segment): void => {
    const end = Math.min(config.length, segment.offset + segment.sizeBytes);
    for (let at = segment.offset; at < end; at++) owners[at] = segment;
  };
  for (const segment of headerSegments(registers)) claim(segment);
  const shown = new Set([...registers.image.capabilities, ...registers.image.extended].map(({ offset }) => offset));
  for (const capability of knownCapabilities(config).capabilities) {
    for (const segment of capabilitySegments(capability, shown.has(capability.offset), msix !== undefined))
      claim(segment);
  }
  for (const grant of grants) {
    const owner = owners[grant.offset];
    const name = owner?.name ?? 'gap';
    claim({
      offset: grant.offset,
      sizeBytes: 4,
      owner: owner?.owner ?? 'gap',
      name,
      why: `granted: ${formatGrant(grant)}`,
    });
  }
  return ranges(owners, registers);
}

/** What a guest would get of this device, with nothing behind it: no open fd, no VM. */
function guestRegisters({ config, resources, canReset }: ConfigMapOptions): {
  readonly registers: GuestRegisters;
  readonly msix: MsixLayout | undefined;
} {
  const regions = resources.map(({ sizeBytes }, index) => ({ index, sizeBytes, fdOffset: 0, flags: 0, mmapAreas: [] }));
  const { capabilities } = knownCapabilities(config);
  const at = (id: number): number | undefined =>
    capabilities.find((capability) => capability.kind === 'standard' && capability.id === id)?.offset;
  const [msi, msixAt] = [at(CAP.MSI), at(CAP.MSIX)];
  const msix = msixAt === undefined ? undefined : parseMsix(config, msixAt);
  const ignore = (): void => {};
  const registers = new GuestRegisters(
    {
      window: new ConfigStore(1).allocate(),
      device: { read: (offset, width) => readLe(config, offset, width), write: ignore },
      hardware: config,
      sizeBytes: config.length,
      bars: barRequests(regions, resources, config),
      intx: config[HEADER.INTERRUPT_PIN] !== 0,
      msiVectors: msi === undefined ? 0 : 1 << ((config[msi + 2]! >>> 1) & 7),
      msix,
      canReset,
      isPending: () => false,
    },
    {
      decodeChanged: ignore,
      powerChanged: ignore,
      interruptsChanged: ignore,
      functionReset: ignore,
      warn: ignore,
    },
  );
  return { registers, msix };
}

function headerSegments({ bars }: GuestRegisters): Segment[] {
  const rules = [...HEADER_RULES, ...HEADER_BY_CODE].map(
    ({ name, offset, width, why }): Segment => ({ offset, sizeBytes: width, owner: 'header', name, why }),
  );
  return rules.map((segment) => {
    const bar = (segment.offset - BAR0_OFFSET) / 4;
    if (!/^BAR\d$/.test(segment.name)) return segment;
    const exists = bars.requests.some(({ index, is64 }) => index === bar || (is64 && index === bar - 1));
    return exists ? { ...segment, isHandled: true } : { ...segment, why: 'the device has none' };
  });
}

function capabilitySegments(capability: KnownCapability, isShown: boolean, isMsixUsable: boolean): Segment[] {
  const { kind, id, offset, sizeBytes, name } = capability;
  const rules = kind === 'standard' ? CAPABILITY_RULES : EXTENDED_CAPABILITY_RULES;
  const rule = rules.find((candidate) => candidate.id === id);
  if (!isShown || !rule) {
    const why =
      id === CAP.MSIX && kind === 'standard' && !isMsixUsable
        ? 'its table is not usable'
        : 'not in the table of what guests get: hidden and closed';
    return [{ offset, sizeBytes, owner: 'hidden capability', name, why }];
  }
  const headerBytes = kind === 'standard' ? 2 : 4;
  const whole = { offset, sizeBytes, owner: 'capability' as const, name, why: bodyWhy(rule) };
  const header = { ...whole, sizeBytes: headerBytes, name: `${name}: id and next`, why: RELINKED };
  const registers = rule.registers
    .filter((register) => register.offset + register.width <= sizeBytes)
    .map((register) => ({
      offset: offset + register.offset,
      sizeBytes: register.width,
      owner: 'capability' as const,
      name: `${name}: ${register.name}`,
      why: register.why,
    }));
  return [whole, header, ...registers];
}

function bodyWhy({ why, body }: CapabilityRule): string | undefined {
  return why ?? (body === 'closed' ? 'not in the table: closed' : undefined);
}

/** Runs of bytes with one owner, cut at dwords where the masks differ. */
function ranges(owners: readonly (Segment | undefined)[], registers: GuestRegisters): ConfigRange[] {
  const found: ConfigRange[] = [];
  for (let at = 0; at < owners.length; ) {
    const owner = owners[at];
    let end = at + 1;
    while (end < owners.length && owners[end] === owner) end++;
    for (const piece of pieces(at, end, registers)) found.push(describeRange(owner, piece, registers));
    at = end;
  }
  return found;
}

interface Piece {
  readonly offset: number;
  readonly sizeBytes: number;
}

/** Bytes from `start` to `end`, joined as long as every byte is treated alike, else cut into dwords. */
function pieces(start: number, end: number, registers: GuestRegisters): Piece[] {
  const alike = (at: number): string => bytesOf(registers, at).join();
  const isUniform = Array.from({ length: end - start }, (_, i) => alike(start + i)).every(
    (key) => key === alike(start),
  );
  if (isUniform) return [{ offset: start, sizeBytes: end - start }];
  const found: (Piece & { readonly key: string | undefined })[] = [];
  for (let at = start; at < end; ) {
    const next = Math.min(end, (at & ~3) + 4);
    const keys = new Set(Array.from({ length: next - at }, (_, i) => alike(at + i)));
    const key = keys.size === 1 ? [...keys][0] : undefined;
    const last = found.at(-1);
    if (key !== undefined && last?.key === key) found.splice(-1, 1, { ...last, sizeBytes: last.sizeBytes + next - at });
    else found.push({ offset: at, sizeBytes: next - at, key });
    at = next;
  }
  return found;
}

/** Masks of one byte, and whether the image has something there. */
function bytesOf({ space }: GuestRegisters, at: number): readonly number[] {
  const read = space.window.deviceBits[at]!;
  const image = space.window.image[at]! === 0 ? 0 : 1;
  return [read, space.guestWrite[at]!, space.deviceWrite[at]!, space.clearOnOne[at]!, image];
}

function describeRange(
  owner: Segment | undefined,
  { offset, sizeBytes }: Piece,
  registers: GuestRegisters,
): ConfigRange {
  const bytes = Array.from({ length: sizeBytes }, (_, i) => bytesOf(registers, offset + i));
  const read = bytes.map((byte) => byte[0]!);
  const toImage = bytes.map((byte) => byte[1]! & ~byte[2]!);
  const toHardware = bytes.map((byte) => byte[1]! & byte[2]!);
  const clear = bytes.map((byte) => byte[3]!);
  const all = read.every((byte) => byte === 0xff);
  const hasImage = bytes.some((byte) => byte[4] !== 0) || some(toImage) || some(clear);
  const {
    name,
    why,
    owner: kind,
    isHandled = false,
  } = owner ?? { name: 'gap', why: GAP_WHY, owner: 'gap' as const, isHandled: false };
  return {
    offset,
    sizeBytes,
    owner: kind,
    name,
    reads: all ? 'hardware' : some(read) ? 'mixed' : hasImage || isHandled ? 'image' : 'zero',
    writes: some(toHardware)
      ? some(toImage)
        ? 'mixed'
        : 'hardware'
      : some(toImage) || some(clear) || isHandled
        ? 'image'
        : 'nowhere',
    ...(some(read) && !all ? { readMask: mask(read) } : {}),
    ...(some(toImage) ? { imageWriteMask: mask(toImage) } : {}),
    ...(some(toHardware) ? { hardwareWriteMask: mask(toHardware) } : {}),
    ...(some(clear) ? { clearMask: mask(clear) } : {}),
    ...(why === undefined ? {} : { why }),
  };
}

function some(bytes: readonly number[]): boolean {
  return bytes.some((byte) => byte !== 0);
}

/** A long run is uniform: one byte stands for all. */
function mask(bytes: readonly number[]): string {
  const shown = bytes.length > 4 ? bytes.slice(0, 1) : bytes;
  const digits = [...shown].reverse().map((byte) => byte.toString(16).padStart(2, '0'));
  return digits.join('') + (bytes.length > 4 ? '…' : '');
}
