/**
 * What holds of write-combining for each BAR, and on what evidence. A guest gets it where its own page tables ask for it
 * on directly mapped memory: the second level marks such pages uncached without overriding the guest (Linux
 * vmx_get_mt_mask; AMD has no such hook). No kernel API gives or takes it, so the only denial is a trap, and a type of
 * this process's own mapping is claimed only when the kernel's list of memory types shows it.
 */
import type { CpuidEntry, HostFiles } from '../../native/types.ts';
import { GIB, MIB, PAGE_SIZE } from '../../vmm/base/bits.ts';
import { CausewayError, type ConfigIssue } from '../../vmm/base/errors.ts';
import type { WcMode, WcModes } from '../../vmm/config/model.ts';
import type { BarArea, BarRequest, WriteCombining } from '../../vmm/pci/function.ts';
import { readText } from '../host/sysfs.ts';
import type { BackedArea } from './desired-mapping.ts';

export const DEFAULT_WC: WcModes = { default: 'auto', bars: {} };

/** What decides beside the BAR itself. */
export interface WcFacts {
  /** Second-level page tables: `kvm_intel ept`, `kvm_amd npt`. */
  readonly twoLevelPaging: { readonly isOn: boolean; readonly evidence: string };
  /** The guest's CPUID offers PAT; undefined when nobody told. */
  readonly guestHasPat: boolean | undefined;
}

const PAT_LIST = '/sys/kernel/debug/x86/pat_memtype_list';
const TWO_LEVEL = ['/sys/module/kvm_intel/parameters/ept', '/sys/module/kvm_amd/parameters/npt'];
/** CPUID.1:EDX[16]. */
const CPUID_PAT = 1 << 16;
/** Why an area that is trapped cannot combine, where that is more than "trapped". */
const TELLING_REASONS: readonly string[] = ['io-bar', 'no-mmap', 'sub-page', 'policy', 'revoked'];
const ASSUMED = 'uc- (assumed)';

/** @param cpuid as the guest gets it */
export function readWcFacts(files: HostFiles, cpuid: readonly CpuidEntry[] | undefined): WcFacts {
  const found = TWO_LEVEL.map((path) => ({ path, value: readText(files, path) })).filter(({ value }) => value);
  const isOn = found.some(({ value }) => value === 'Y' || value === '1');
  const evidence =
    found.map(({ path, value }) => `${path} is ${value}`).join(', ') || 'no parameter ept or npt to be read';
  const features = cpuid?.find((entry) => entry.function === 1);
  return {
    twoLevelPaging: { isOn, evidence },
    guestHasPat: cpuid === undefined ? undefined : features !== undefined && (features.edx & CPUID_PAT) !== 0,
  };
}

/** The mode of one BAR. */
export function wcModeOf(modes: WcModes, bar: number): WcMode {
  return modes.bars[bar] ?? modes.default;
}

/** The areas of a BAR as the mode wants them: denied, nothing is direct. */
export function areasFor(mode: WcMode, areas: readonly BackedArea[]): readonly BackedArea[] {
  if (mode !== 'deny') return areas;
  return areas.map((area) => (area.mode === 'direct' ? { ...area, mode: 'trap', why: 'policy' } : area));
}

export interface WcSubject {
  readonly bar: BarRequest;
  readonly mode: WcMode;
  readonly areas: readonly BarArea[];
  /** Where the BAR lies on the host; 0 when it does not. */
  readonly hostAddress: number;
  readonly sizeBytes: number;
  /** Largest page that can map the BAR, where it is mapped. */
  readonly largestPageBytes?: number;
}

/** Reads the host's list of memory types anew: entries come and go with open devices. */
export function reportWc(files: HostFiles, subject: WcSubject, facts: WcFacts): WriteCombining {
  const { bar, mode, largestPageBytes } = subject;
  const areas = subject.areas.map((area) => {
    const why = obstacle(area, facts);
    const { offset, sizeBytes } = area;
    return why === undefined
      ? ({ offset, sizeBytes, guestWc: true } as const)
      : ({ offset, sizeBytes, guestWc: false, why } as const);
  });
  const host = hostType(files, subject);
  const reasons = [...new Set(areas.flatMap(({ guestWc, ...rest }) => ('why' in rest ? [rest.why] : [])))];
  const isAny = areas.some(({ guestWc }) => guestWc);
  return {
    mode,
    guestWc: isAny ? 'yes' : `no (${reasons.join(', ') || 'not mapped'})`,
    areas,
    guestWcAdvertised: bar.prefetchable,
    hostType: host.type,
    ...(mode === 'host' ? { hostWc: host.type === 'write-combining' ? 'proven' : 'not available on this kernel' } : {}),
    evidence: [
      facts.twoLevelPaging.evidence,
      facts.guestHasPat === undefined
        ? "the guest's CPUID was not looked at"
        : `the guest's CPUID ${facts.guestHasPat ? 'has' : 'lacks'} PAT`,
      host.evidence,
    ],
    ...(isAny && largestPageBytes !== undefined ? { largestPageBytes } : {}),
  };
}

/** Why a guest cannot have write-combining on an area; undefined when it can. */
function obstacle(area: BarArea, { twoLevelPaging, guestHasPat }: WcFacts): string | undefined {
  if (area.mode === 'trap') return TELLING_REASONS.includes(area.why ?? '') ? area.why : 'trapped';
  if (!twoLevelPaging.isOn) return 'no-tdp';
  if (guestHasPat === undefined) return 'pat-unknown';
  return guestHasPat ? undefined : 'pat-hidden';
}

/** `PAT: [mem 0x…-0x…] write-combining`, the end exclusive; readable by root where debugfs is mounted. */
function hostType(files: HostFiles, { hostAddress, sizeBytes }: WcSubject): { type: string; evidence: string } {
  const text = readText(files, PAT_LIST);
  if (text === undefined) return { type: ASSUMED, evidence: `${PAT_LIST} cannot be read` };
  const types = new Set<string>();
  for (const [, first, last, type] of text.matchAll(/\[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\] ([\w-]+)/gi)) {
    const [start, end] = [Number.parseInt(first!, 16), Number.parseInt(last!, 16)];
    if (hostAddress !== 0 && start < hostAddress + sizeBytes && end > hostAddress) types.add(type!);
  }
  const [type] = types;
  if (type === undefined) return { type: ASSUMED, evidence: `${PAT_LIST} does not list the BAR` };
  // Entries that disagree prove nothing about this process's pages.
  if (types.size > 1) return { type: ASSUMED, evidence: `${PAT_LIST} lists the BAR as ${[...types].join(' and ')}` };
  return { type, evidence: `${PAT_LIST} lists the BAR as ${type}` };
}

/**
 * Fails unless every BAR that must has write-combining for the guest: with `require` for all, the prefetchable ones;
 * with `require` for one BAR, that one.
 * @throws CausewayError DEVICE_UNSUPPORTED with the reason for each BAR
 */
export function requireWc(
  label: string,
  modes: WcModes,
  bars: readonly { readonly bar: BarRequest; readonly wc: WriteCombining }[],
): void {
  const issues: ConfigIssue[] = [];
  for (const { bar, wc } of bars) {
    const isNamed = modes.bars[bar.index] === 'require';
    if (wc.mode !== 'require' || !(isNamed || bar.prefetchable) || wc.guestWc === 'yes') continue;
    issues.push({
      path: `BAR${bar.index}`,
      message: `guest write-combining: ${wc.guestWc}; ${wc.evidence.join('; ')}`,
    });
  }
  for (const [index, mode] of Object.entries(modes.bars)) {
    if (mode === 'require' && !bars.some(({ bar }) => bar.index === Number(index))) {
      issues.push({ path: `BAR${index}`, message: 'the device has no such BAR' });
    }
  }
  if (issues.length === 0) return;
  const list = issues.map(({ path, message }) => `  ${path}: ${message}`).join('\n');
  throw new CausewayError('DEVICE_UNSUPPORTED', `${label}: write-combining is required and not to be had:\n${list}`, {
    issues,
    hint: 'remove the obstacle, or use wc "auto", which takes it where it can be had',
  });
}

/** Largest page of KVM's second level for memory whose three addresses agree modulo that page. */
export function largestPage(gpa: number, hva: number, hostPhysical: number, sizeBytes: number): number {
  for (const page of [GIB, 2 * MIB]) {
    const phase = gpa % page;
    const first = phase === 0 ? gpa : gpa + page - phase;
    if (hva % page === phase && hostPhysical % page === phase && first + page <= gpa + sizeBytes) return page;
  }
  return PAGE_SIZE;
}
