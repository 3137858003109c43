/**
 * Which bits of config space a grant must not open unless its author insists. Behind them stand interrupts,
 * DMA, power and routing of the host, or registers that Causeway itself keeps in step with the guest's view.
 */
import type { ConfigIssue } from '../../vmm/base/errors.ts';
import { CAP } from '../../vmm/pci/capabilities.ts';
import { GUARDED_EXT_CAP, type KnownCapability, knownCapabilities } from './capability-info.ts';
import type { ConfigGrant } from './grants.ts';
import { formatGrant, throwIssues } from './grants.ts';

/** Bytes with one reason. */
export interface GuardedRange {
  readonly start: number;
  readonly size: number;
  readonly why: string;
}

const HEADER_BYTES = 0x40;

const STANDARD_WHY: Readonly<Record<number, string>> = {
  [CAP.PM]: 'the power state decides whether the BARs answer; Causeway unmaps them first',
  [CAP.MSI]: 'address and data are those of a host interrupt',
  [CAP.MSIX]: 'enable and mask bits belong to host interrupts',
};
const EXTENDED_WHY: Readonly<Record<number, string>> = {
  [GUARDED_EXT_CAP.ACS]: 'access control keeps DMA behind the IOMMU',
  [GUARDED_EXT_CAP.ATS]: 'translated requests pass the IOMMU',
  [GUARDED_EXT_CAP.SRIOV]: 'virtual functions are devices of the host',
  [GUARDED_EXT_CAP.PRI]: 'page requests are answered by the host',
  [GUARDED_EXT_CAP.REBAR]: 'a BAR that changes its size lies over its neighbours',
  [GUARDED_EXT_CAP.PASID]: 'address spaces are given out by the IOMMU',
  [GUARDED_EXT_CAP.VF_REBAR]: 'a BAR that changes its size lies over its neighbours',
  [GUARDED_EXT_CAP.DOE]: 'a mailbox of the device for firmware and security protocols',
};
/** Registers of PCI Express from its header on: control and status words of device, link, slot and root. */
const PCIE_CONTROL_OFFSETS = [0x08, 0x10, 0x18, 0x1c, 0x28, 0x30, 0x38];
/** What VFIO leaves out of the chain that it shows, with its bytes still there. */
const HIDDEN_BY_VFIO: readonly number[] = [GUARDED_EXT_CAP.DOE, GUARDED_EXT_CAP.PASID];

/** @param config of the hardware, from sysfs or through VFIO */
export function guardedRanges(config: Uint8Array): GuardedRange[] {
  const { capabilities } = knownCapabilities(config);
  const ranges: GuardedRange[] = [{ start: 0, size: HEADER_BYTES, why: 'the header: identity, COMMAND, BARs' }];
  for (const capability of capabilities) ranges.push(...guardedPartsOf(capability));
  return [...ranges, ...hiddenRanges(config, capabilities)];
}

function guardedPartsOf({ kind, id, offset, sizeBytes, name }: KnownCapability): GuardedRange[] {
  const why = kind === 'standard' ? STANDARD_WHY[id] : EXTENDED_WHY[id];
  if (why !== undefined) return [{ start: offset, size: sizeBytes, why: `${name}: ${why}` }];
  const header = { start: offset, size: kind === 'standard' ? 2 : 4, why: `${name}: its header links the chain` };
  if (kind !== 'standard' || id !== CAP.PCIE) return [header];
  const controls = PCIE_CONTROL_OFFSETS.filter((at) => at + 4 <= sizeBytes).map((at) => ({
    start: offset + at,
    size: 4,
    why: `${name}: a control word (payload size, resets, link and slot power)`,
  }));
  return [header, ...controls];
}

/** Through VFIO some capabilities are in no chain; a dword that looks like the header of one is taken for it. */
function hiddenRanges(config: Uint8Array, chain: readonly KnownCapability[]): GuardedRange[] {
  const view = new DataView(config.buffer, config.byteOffset, config.byteLength);
  const isInside = (at: number): boolean =>
    chain.some(({ offset, sizeBytes }) => at >= offset && at < offset + sizeBytes);
  const found: GuardedRange[] = [];
  for (let at = 0x100; at + 4 <= config.length; at += 4) {
    const header = view.getUint32(at, true);
    const [id, version, next] = [header & 0xffff, (header >>> 16) & 0xf, header >>> 20];
    if (!HIDDEN_BY_VFIO.includes(id) || version === 0 || version > 3 || next % 4 !== 0 || isInside(at)) continue;
    if (next !== 0 && next < 0x100) continue;
    found.push({ start: at, size: id === GUARDED_EXT_CAP.DOE ? 24 : 8, why: EXTENDED_WHY[id]! });
  }
  return found;
}

/**
 * Refuses grants that do not fit the device, and those that open guarded bits unless `force`.
 * @param label of the device, for the messages
 * @throws CausewayError CONFIG_INVALID with every fault
 */
export function checkGrants(
  grants: readonly ConfigGrant[],
  config: Uint8Array,
  { label, force }: { readonly label: string; readonly force: boolean },
): void {
  const guarded = force ? [] : guardedRanges(config);
  const issues: ConfigIssue[] = [];
  let isRefused = false;
  for (const grant of grants) {
    const path = `${label}: grant "${formatGrant(grant)}"`;
    if (grant.offset + 4 > config.length) {
      issues.push({ path, message: `the device has ${config.length} bytes of config space` });
      continue;
    }
    const bits = (grant.readBits | grant.writeBits) >>> 0;
    const hit = guarded.find((range) => (bitsOf(range, grant.offset) & bits) !== 0);
    if (!hit) continue;
    isRefused = true;
    issues.push({ path, message: `refused, it opens ${hit.why}` });
  }
  throwIssues(issues, isRefused ? 'leave those bits out, or insist with force (configPermitForce)' : undefined);
}

/** Bits of the dword at `offset` that lie in `range`. */
function bitsOf({ start, size }: GuardedRange, offset: number): number {
  let bits = 0;
  for (let i = 0; i < 4; i++) if (offset + i >= start && offset + i < start + size) bits |= 0xff << (8 * i);
  return bits >>> 0;
}
