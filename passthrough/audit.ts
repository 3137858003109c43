/**
 * Is a device well-behaved, as VFIO's founding mail put it? Memory BARs of at least a page, MSI-X in pages of its own,
 * interrupt masking of PCI 2.3, and config space that consists of capabilities. Pure, over what can be read without
 * binding or opening the device; what only VFIO knows is predicted, and said to be.
 */
import { alignDown, alignUp, readLe } from '../vmm/base/bits.ts';
import { endOf, type Range, subtract } from '../vmm/base/ranges.ts';
import { formatSize, hex } from '../vmm/base/units.ts';
import { CAP } from '../vmm/pci/capabilities.ts';
import { type BarLocation, type MsixLayout, parseMsix } from '../vmm/pci/msix.ts';
import { type KnownCapability, knownCapabilities } from './config-space/capability-info.ts';
import { HEADER } from './config-space/permission-table.ts';
import { type HostResource, RESOURCE } from './host/sysfs.ts';
import type { Region } from './vfio/regions.ts';

export interface AuditInput {
  /** Config space as far as it could be read: 64 bytes without privilege, else 256 or 4096. */
  readonly config: Uint8Array;
  /** BAR0 to BAR5 from sysfs. */
  readonly resources: readonly HostResource[];
  readonly pageBytes: number;
  /** What an open VFIO device says of its regions, where there is one; else the verdicts on BARs are predictions. */
  readonly regions?: readonly Region[];
  /** vfio-pci was loaded with nointxmask. */
  readonly intxMaskingOff?: boolean;
}

/** `warn`: it works, at a cost or with a remark. `fail`: Causeway has to work around it. `unknown`: not readable. */
export type Verdict = 'pass' | 'warn' | 'fail' | 'n/a' | 'unknown';

export interface Criterion {
  readonly id: 'C1' | 'C2' | 'C3' | 'C4';
  readonly title: string;
  readonly verdict: Verdict;
  /** What was seen, and where. */
  readonly evidence: readonly string[];
  /** What Causeway does about it. */
  readonly action: string;
}

export interface BarAudit {
  readonly bar: number;
  readonly kind: 'memory' | 'port';
  readonly sizeBytes: number;
  readonly hostAddress: number;
  readonly is64: boolean;
  readonly prefetchable: boolean;
  /** `soft`: smaller than a page, and still mappable. */
  readonly verdict: 'pass' | 'soft' | 'trap';
  /** `io-bar`, `sub-page`, `unassigned`, `no-mmap` …; absent where it passes. */
  readonly why?: string;
  /** Whether VFIO said so, or sysfs lets one expect it. */
  readonly basis: 'vfio' | 'predicted';
}

export interface MsixAudit {
  readonly vectors: number;
  readonly table: BarLocation;
  readonly pending: BarLocation;
  /** Bytes in the pages of table and pending bits that are neither: possibly registers. */
  readonly shared: readonly (Range & { readonly bar: number })[];
}

/** A dword that is not zero and in no capability. */
export interface Stray {
  readonly offset: number;
  readonly value: number;
}

export interface AuditReport {
  readonly criteria: readonly Criterion[];
  readonly bars: readonly BarAudit[];
  readonly msix?: MsixAudit;
  readonly strays: readonly Stray[];
  readonly capabilities: readonly KnownCapability[];
  /** What is wrong with the capability chains. */
  readonly faults: readonly string[];
}

const HEADER_END = 0x40;
const UNSET = 0x2000_0000;
const INTX_DISABLE = 0x400;
const NEEDS_ROOT = 'config space beyond 64 bytes can be read by root only';

export function audit(input: AuditInput): AuditReport {
  const { config } = input;
  const isWhole = config.length > HEADER_END;
  const { capabilities, faults } = isWhole ? knownCapabilities(config) : { capabilities: [], faults: [] };
  const bars = auditBars(input);
  const msixAt = capabilities.find(({ kind, id }) => kind === 'standard' && id === CAP.MSIX);
  const msix = msixAt && auditMsix(parseMsix(config, msixAt.offset), bars, input.pageBytes);
  const strays = isWhole ? findStrays(config, capabilities) : [];
  return {
    criteria: [
      judgeBars(bars),
      judgeMsix(msix, isWhole),
      judgeIntx(input, capabilities, isWhole),
      judgeConfig(strays, faults, isWhole),
    ],
    bars,
    ...(msix ? { msix } : {}),
    strays,
    capabilities,
    faults,
  };
}

/** The upper half of a 64-bit BAR is a part of the BAR below it. */
function auditBars({ resources, regions, pageBytes }: AuditInput): BarAudit[] {
  const found: BarAudit[] = [];
  for (const [bar, resource] of resources.slice(0, 6).entries()) {
    const { start, sizeBytes, flags } = resource;
    const below = found.at(-1);
    if (sizeBytes === 0 || (below?.is64 && below.bar === bar - 1)) continue;
    const kind = flags & RESOURCE.IO ? 'port' : 'memory';
    const region = regions?.[bar];
    const judged = region
      ? judgeRegion(kind, region, pageBytes)
      : predict(kind, start, sizeBytes, pageBytes, (flags & UNSET) !== 0);
    found.push({
      bar,
      kind,
      sizeBytes,
      hostAddress: start,
      is64: kind === 'memory' && (flags & RESOURCE.MEM_64) !== 0,
      prefetchable: kind === 'memory' && (flags & RESOURCE.PREFETCH) !== 0,
      ...judged,
      basis: region ? 'vfio' : 'predicted',
    });
  }
  return found;
}

type BarVerdict = Pick<BarAudit, 'verdict' | 'why'>;

function judgeRegion(kind: BarAudit['kind'], region: Region, pageBytes: number): BarVerdict {
  if (kind === 'port') return { verdict: 'trap', why: 'io-bar' };
  if (region.mmapAreas.length === 0) {
    return { verdict: 'trap', why: region.sizeBytes < pageBytes ? 'sub-page' : 'no-mmap' };
  }
  return region.sizeBytes < pageBytes ? { verdict: 'soft', why: 'sub-page' } : { verdict: 'pass' };
}

/** As vfio-pci decides when it opens the device. */
function predict(kind: BarAudit['kind'], start: number, size: number, pageBytes: number, isUnset: boolean): BarVerdict {
  if (kind === 'port') return { verdict: 'trap', why: 'io-bar' };
  if (isUnset || start === 0) return { verdict: 'trap', why: 'unassigned' };
  if (size >= pageBytes) return { verdict: 'pass' };
  return start % pageBytes === 0 ? { verdict: 'soft', why: 'sub-page' } : { verdict: 'trap', why: 'sub-page' };
}

function judgeBars(bars: readonly BarAudit[]): Criterion {
  const memory = bars.filter(({ kind }) => kind === 'memory');
  const worst = memory.some(({ verdict }) => verdict === 'trap')
    ? 'fail'
    : memory.some(({ verdict }) => verdict === 'soft')
      ? 'warn'
      : 'pass';
  const says = { pass: 'can be mapped', soft: 'can be mapped as one page of its own', trap: 'cannot be mapped' };
  const trapped = bars.filter(({ verdict }) => verdict === 'trap').map(({ bar }) => `BAR${bar}`);
  return {
    id: 'C1',
    title: 'memory BARs can be mapped: at least a page, or alone in one',
    verdict: memory.length === 0 ? 'n/a' : worst,
    evidence: bars.map(({ bar, kind, sizeBytes, hostAddress, verdict, why, basis }) => {
      const what = `BAR${bar}: ${formatSize(sizeBytes)} of ${kind === 'port' ? 'ports' : 'memory'} at ${hex(hostAddress)}`;
      return `${what} ${says[verdict]}${why ? ` (${why})` : ''}${basis === 'vfio' ? ', says VFIO' : ''}`;
    }),
    action:
      bars.length === 0
        ? 'has nothing to map'
        : trapped.length === 0
          ? 'maps every BAR into the guest'
          : `forwards each access to ${trapped.join(', ')} with its width; maps the others`,
  };
}

function auditMsix(layout: MsixLayout, bars: readonly BarAudit[], pageBytes: number): MsixAudit {
  const { vectorCount, table, pending } = layout;
  const shared: (Range & { readonly bar: number })[] = [];
  for (const bar of new Set([table.bar, pending.bar])) {
    const size = bars.find((candidate) => candidate.bar === bar)?.sizeBytes ?? 0;
    const own = [table, pending]
      .filter((location) => location.bar === bar)
      .map(({ offset, sizeBytes }): Range => ({ start: offset, size: sizeBytes }));
    const pages = own.map((range): Range => {
      const start = Math.min(alignDown(range.start, pageBytes), size);
      return { start, size: Math.max(0, Math.min(alignUp(endOf(range), pageBytes), size) - start) };
    });
    const outside = subtract({ start: 0, size }, pages);
    // The table at the start of a BAR, the pending bits behind it and no other page: what fills up the pages is padding.
    if (outside.length === 0 && own.length === 2 && own[0]!.start === 0) continue;
    const [first, second] = pages;
    const distinct = first && second ? [first, ...subtract(second, [first])] : pages;
    for (const page of distinct) shared.push(...subtract(page, own).map((range) => ({ ...range, bar })));
  }
  shared.sort((a, b) => a.bar - b.bar || a.start - b.start);
  return { vectors: vectorCount, table, pending, shared };
}

function judgeMsix(msix: MsixAudit | undefined, isWhole: boolean): Criterion {
  const title = 'the MSI-X table and its pending bits have pages of their own';
  if (!msix) {
    return isWhole
      ? { id: 'C2', title, verdict: 'n/a', evidence: ['no MSI-X capability'], action: 'has nothing to do' }
      : { id: 'C2', title, verdict: 'unknown', evidence: [NEEDS_ROOT], action: 'decides at start' };
  }
  const where = ({ bar, offset, sizeBytes }: BarLocation): string => `BAR${bar} ${span(offset, sizeBytes)}`;
  const evidence = [
    `${msix.vectors} vectors: table in ${where(msix.table)}, pending bits in ${where(msix.pending)}`,
    ...msix.shared.map(({ bar, start, size }) => `BAR${bar} ${span(start, size)} lies in the same page`),
  ];
  return {
    id: 'C2',
    title,
    verdict: msix.shared.length === 0 ? 'pass' : 'warn',
    evidence,
    action:
      msix.shared.length === 0
        ? 'emulates table and pending bits; the real ones are never in the guest'
        : 'emulates table and pending bits, and forwards accesses to the rest of their pages, which is slower; msixRelocation "auto" moves the guest\'s table away',
  };
}

function judgeIntx(input: AuditInput, capabilities: readonly KnownCapability[], isWhole: boolean): Criterion {
  const title = 'the legacy interrupt can be masked at the device (PCI 2.3)';
  const pin = input.config[HEADER.INTERRUPT_PIN] ?? 0;
  if (pin === 0) {
    return {
      id: 'C3',
      title,
      verdict: 'n/a',
      evidence: ['interrupt pin (0x3d) is 0: no legacy interrupt'],
      action: 'has nothing to do',
    };
  }
  const evidence = [`interrupt pin (0x3d) is ${pin}: INT${'ABCD'[pin - 1] ?? '?'}`];
  const masksInKernel = 'lets KVM and the kernel mask and unmask it without an exit';
  const exclusive =
    'needs an interrupt line that no other device of the host uses, or the start of the interrupt fails';
  if (input.intxMaskingOff) {
    evidence.push('vfio-pci was loaded with nointxmask=Y');
    return { id: 'C3', title, verdict: 'fail', evidence, action: exclusive };
  }
  if (capabilities.some(({ kind, id }) => kind === 'standard' && id === CAP.PCIE)) {
    evidence.push('a PCI Express function with a pin has to implement Interrupt Disable (COMMAND bit 10)');
    return { id: 'C3', title, verdict: 'pass', evidence, action: masksInKernel };
  }
  if ((readLe(input.config, HEADER.COMMAND, 2) & INTX_DISABLE) !== 0) {
    evidence.push('COMMAND bit 10 is set at the moment, so it exists');
    return { id: 'C3', title, verdict: 'pass', evidence, action: masksInKernel };
  }
  evidence.push(
    isWhole ? 'conventional PCI: only writing COMMAND bit 10 would tell, and nothing is written here' : NEEDS_ROOT,
  );
  return {
    id: 'C3',
    title,
    verdict: 'unknown',
    evidence,
    action: `takes the kernel's word, which tests it when vfio-pci takes the device; if it cannot be masked, it ${exclusive}`,
  };
}

/** Reading only: a dword that is zero may be a register too, but then nobody knows. */
function findStrays(config: Uint8Array, capabilities: readonly KnownCapability[]): Stray[] {
  const covered = new Uint8Array(config.length);
  for (const { offset, sizeBytes } of capabilities) covered.fill(1, offset, offset + sizeBytes);
  const strays: Stray[] = [];
  for (let offset = HEADER_END; offset + 4 <= config.length; offset += 4) {
    let value = 0;
    for (let i = 3; i >= 0; i--) value = value * 256 + (covered[offset + i] ? 0 : config[offset + i]!);
    const isChainEnd = offset === 0x100 && (value === 0xffff_ffff || (value & 0xffff) === 0);
    if (value !== 0 && !isChainEnd) strays.push({ offset, value });
  }
  return strays;
}

function judgeConfig(strays: readonly Stray[], faults: readonly string[], isWhole: boolean): Criterion {
  const title = 'config space consists of the header and capabilities';
  if (!isWhole)
    return { id: 'C4', title, verdict: 'unknown', evidence: [NEEDS_ROOT], action: 'closes what is in no capability' };
  const evidence = [
    ...faults,
    ...strays.map(({ offset, value }) => `${hex(offset, 2)} is in no capability and holds ${hex(value, 8)}`),
  ];
  return {
    id: 'C4',
    title,
    verdict: faults.length > 0 ? 'fail' : strays.length > 0 ? 'warn' : 'pass',
    evidence: evidence.length > 0 ? evidence : ['nothing but zeros outside of header and capabilities'],
    action:
      strays.length > 0
        ? 'closes those registers: they read 0 in the guest; a grant (config_permit) opens them'
        : 'closes what is in no capability',
  };
}

/** `0x2000-0x204f` */
function span(start: number, size: number): string {
  return `${hex(start)}-${hex(start + size - 1)}`;
}
