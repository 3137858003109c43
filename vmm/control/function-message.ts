/** The report on an assigned function as a message and back. A field added to the report does not compile until it is here. */
import type { MessageTypes } from '../../proto/index.ts';
import type { BarArea, BarReport, FunctionReport, TrappedPage, WriteCombining } from '../pci/function.ts';
import { given, table, toNumber } from './wire-values.ts';

type Message<Name extends keyof MessageTypes> = MessageTypes[Name];

const BAR_KIND = table<BarReport['kind'], Message<'BarReport'>['kind']>({
  memory: 'BAR_KIND_MEMORY',
  port: 'BAR_KIND_PORT',
});
const AREA_MODE = table<BarArea['mode'], Message<'BarArea'>['mode']>({
  direct: 'BAR_AREA_MODE_DIRECT',
  trap: 'BAR_AREA_MODE_TRAP',
});
const INTERRUPT_MODE = table<FunctionReport['interrupts']['mode'], Message<'InterruptReport'>['mode']>({
  none: 'INTERRUPT_MODE_NONE',
  intx: 'INTERRUPT_MODE_INTX',
  msi: 'INTERRUPT_MODE_MSI',
  msix: 'INTERRUPT_MODE_MSIX',
});
const OCCASION = table<FunctionReport['resets'][number]['when'], Message<'ResetReport'>['when']>({
  boot: 'RESET_OCCASION_BOOT',
  reboot: 'RESET_OCCASION_REBOOT',
  release: 'RESET_OCCASION_RELEASE',
  guest: 'RESET_OCCASION_GUEST',
  error: 'RESET_OCCASION_ERROR',
});
const WC_MODE = table<WriteCombining['mode'], Message<'WriteCombining'>['mode']>({
  auto: 'WC_MODE_AUTO',
  require: 'WC_MODE_REQUIRE',
  deny: 'WC_MODE_DENY',
  host: 'WC_MODE_HOST',
});

export function functionToMessage(report: FunctionReport): Message<'FunctionReport'> {
  const { label, address, bars, interrupts, resets, rom, ids, msixRelocation, trappedPages = [], ...rest } = report;
  rest satisfies Record<string, never>;
  return {
    label,
    address,
    ids,
    msixRelocation,
    trappedPages: trappedPages.map((page) => ({
      ...page,
      offset: BigInt(page.offset),
      accesses: BigInt(page.accesses),
    })),
    rom: rom && { ...rom, sizeBytes: BigInt(rom.sizeBytes) },
    interrupts: { ...interrupts, mode: INTERRUPT_MODE.to(interrupts.mode) },
    bars: bars.map(barToMessage),
    resets: resets.map(({ faults = [], ...reset }) => ({ ...reset, faults, when: OCCASION.to(reset.when) })),
  };
}

export function functionFromMessage(message: Message<'FunctionReport'>): FunctionReport {
  const { label, address, bars, interrupts, resets, rom, ids, msixRelocation, trappedPages } = message;
  return {
    label,
    ...(address === undefined ? {} : { address }),
    ...(ids === undefined ? {} : { ids: given(ids) }),
    ...(msixRelocation === undefined ? {} : { msixRelocation }),
    ...(trappedPages.length === 0 ? {} : { trappedPages: trappedPages.map(pageFromMessage) }),
    ...(rom === undefined ? {} : { rom: { ...rom, sizeBytes: toNumber(rom.sizeBytes) } }),
    interrupts: interrupts
      ? { ...interrupts, mode: INTERRUPT_MODE.from(interrupts.mode) }
      : { mode: 'none', available: 0, routed: 0 },
    bars: bars.map(barFromMessage),
    resets: resets.map(({ faults, ...reset }) => ({
      ...reset,
      when: OCCASION.from(reset.when),
      ...(faults.length === 0 ? {} : { faults }),
    })),
  };
}

function pageFromMessage({ offset, accesses, ...same }: Message<'TrappedPage'>): TrappedPage {
  return { ...same, offset: toNumber(offset), accesses: toNumber(accesses) };
}

function barToMessage(bar: BarReport): Message<'BarReport'> {
  const { index, sizeBytes, kind, is64, prefetchable, gpa, areas, wc, p2p, ...rest } = bar;
  rest satisfies Record<string, never>;
  return {
    index,
    sizeBytes: BigInt(sizeBytes),
    kind: BAR_KIND.to(kind),
    is64,
    prefetchable,
    gpa: gpa === undefined ? undefined : BigInt(gpa),
    areas: areas.map((area) => ({
      ...area,
      offset: BigInt(area.offset),
      sizeBytes: BigInt(area.sizeBytes),
      mode: AREA_MODE.to(area.mode),
    })),
    wc: wc && wcToMessage(wc),
    p2p,
  };
}

function barFromMessage({ sizeBytes, kind, gpa, areas, wc, p2p, ...same }: Message<'BarReport'>): BarReport {
  return {
    ...same,
    sizeBytes: toNumber(sizeBytes),
    kind: BAR_KIND.from(kind),
    ...(gpa === undefined ? {} : { gpa: toNumber(gpa) }),
    areas: areas.map(({ why, ...area }) => ({
      offset: toNumber(area.offset),
      sizeBytes: toNumber(area.sizeBytes),
      mode: AREA_MODE.from(area.mode),
      ...(why === undefined ? {} : { why }),
    })),
    ...(wc === undefined ? {} : { wc: wcFromMessage(wc) }),
    ...(p2p === undefined ? {} : { p2p }),
  };
}

function wcToMessage(wc: WriteCombining): Message<'WriteCombining'> {
  const { mode, guestWc, areas, guestWcAdvertised, hostType, hostWc, evidence, largestPageBytes, ...rest } = wc;
  rest satisfies Record<string, never>;
  return {
    mode: WC_MODE.to(mode),
    guestWc,
    areas: areas.map((area) => ({ ...area, offset: BigInt(area.offset), sizeBytes: BigInt(area.sizeBytes) })),
    guestWcAdvertised,
    hostType,
    hostWc,
    evidence,
    largestPageBytes: largestPageBytes === undefined ? undefined : BigInt(largestPageBytes),
  };
}

function wcFromMessage({ mode, areas, hostWc, largestPageBytes, ...same }: Message<'WriteCombining'>): WriteCombining {
  return {
    ...same,
    mode: WC_MODE.from(mode),
    areas: areas.map(({ why, ...area }) => ({
      guestWc: area.guestWc,
      offset: toNumber(area.offset),
      sizeBytes: toNumber(area.sizeBytes),
      ...(why === undefined ? {} : { why }),
    })),
    ...(hostWc === undefined ? {} : { hostWc: hostWc as NonNullable<WriteCombining['hostWc']> }),
    ...(largestPageBytes === undefined ? {} : { largestPageBytes: toNumber(largestPageBytes) }),
  };
}
