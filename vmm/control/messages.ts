/** The objects of the public interface as messages and back. A field added to either side does not compile until it is here. */
import type { MessageTypes } from '../../proto/index.ts';
import { CausewayError } from '../base/errors.ts';
import type { BarArea, BarReport, FunctionReport } from '../pci/function.ts';
import type { JournalEntry } from './event-journal.ts';
import type { ExitCounters, VmEvent, VmExit, VmReport, VmState } from './vm.ts';

/** What a subscriber sees: the VM's own events, its end, and how much was missed. */
export type ControlEvent = {
  /** Counts up by one from 1. */
  readonly id: number;
  /** Milliseconds since 1970. */
  readonly timeMs: number;
} & (VmEvent | { readonly type: 'exit'; readonly exit: VmExit } | { readonly type: 'dropped'; readonly count: number });

/** What goes into the journal. */
export type JournalEvent = VmEvent | { readonly type: 'exit'; readonly exit: VmExit };

type Message<Name extends keyof MessageTypes> = MessageTypes[Name];

const STATE = table<VmState, Message<'VmInfo'>['state']>({
  created: 'VM_STATE_CREATED',
  running: 'VM_STATE_RUNNING',
  paused: 'VM_STATE_PAUSED',
  stopping: 'VM_STATE_STOPPING',
  stopped: 'VM_STATE_STOPPED',
  closed: 'VM_STATE_CLOSED',
});
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
});
/** Kinds of events by which a subscriber may choose. */
export const EVENT_KIND: Table<JournalEvent['type'], Message<'SubscribeEventsRequest'>['kinds'][number]> = table({
  state: 'VM_EVENT_KIND_STATE',
  reboot: 'VM_EVENT_KIND_REBOOT',
  warning: 'VM_EVENT_KIND_WARNING',
  device: 'VM_EVENT_KIND_DEVICE',
  exit: 'VM_EVENT_KIND_EXIT',
});

export function stateToMessage(state: VmState): Message<'VmInfo'>['state'] {
  return STATE.to(state);
}

export function stateFromMessage(state: Message<'VmInfo'>['state']): VmState {
  return STATE.from(state);
}

export function exitToMessage(exit: VmExit): Message<'VmExit'> {
  switch (exit.reason) {
    case 'shutdown':
      return { shutdown: {} };
    case 'reboot-limit':
      return { rebootLimit: { reboots: BigInt(exit.reboots) } };
    case 'debug-exit':
      return { debugExit: { value: BigInt(exit.value) } };
    case 'crash':
      return { crash: { detail: exit.detail } };
    case 'stopped':
      return { stopped: {} };
  }
}

/** @throws CausewayError INTERNAL for a reason that this version does not know */
export function exitFromMessage(message: Message<'VmExit'> | undefined): VmExit {
  if (message?.shutdown) return { reason: 'shutdown' };
  if (message?.rebootLimit) return { reason: 'reboot-limit', reboots: toNumber(message.rebootLimit.reboots) };
  if (message?.debugExit) return { reason: 'debug-exit', value: toNumber(message.debugExit.value) };
  if (message?.crash) return { reason: 'crash', detail: message.crash.detail };
  if (message?.stopped) return { reason: 'stopped' };
  throw unknownToUs('how the run ended');
}

export function eventToMessage({ id, timeMs, content }: JournalEntry<JournalEvent>): Message<'VmEvent'> {
  return { id: BigInt(id), time: timestamp(timeMs), ...eventArm(content) };
}

function eventArm(content: JournalEntry<JournalEvent>['content']): Partial<Message<'VmEvent'>> {
  if ('dropped' in content) return { dropped: { count: BigInt(content.dropped) } };
  const { event } = content;
  switch (event.type) {
    case 'state':
      return { state: { state: STATE.to(event.state) } };
    case 'reboot':
      return { reboot: { count: BigInt(event.count) } };
    case 'warning':
      return { warning: { message: event.message } };
    case 'device':
      return { device: { label: event.label, what: event.what } };
    case 'exit':
      return { exit: { exit: exitToMessage(event.exit) } };
  }
}

/** Undefined for a kind of event that this version does not know. */
export function eventFromMessage(message: Message<'VmEvent'>): ControlEvent | undefined {
  const { state, reboot, warning, device, exit, dropped } = message;
  const stamp = { id: toNumber(message.id), timeMs: milliseconds(message.time) };
  if (state) return { ...stamp, type: 'state', state: STATE.from(state.state) };
  if (reboot) return { ...stamp, type: 'reboot', count: toNumber(reboot.count) };
  if (warning) return { ...stamp, type: 'warning', message: warning.message };
  if (device) return { ...stamp, type: 'device', label: device.label, what: device.what };
  if (exit) return { ...stamp, type: 'exit', exit: exitFromMessage(exit.exit) };
  if (dropped) return { ...stamp, type: 'dropped', count: toNumber(dropped.count) };
  return undefined;
}

export function reportToMessage(report: VmReport): Message<'VmReport'> {
  const { memoryBytes, reboots, devices, exits, ...same } = report;
  return {
    ...same,
    memoryBytes: BigInt(memoryBytes),
    reboots: BigInt(reboots),
    exits: mapValues(exits, BigInt),
    devices: devices.map(functionToMessage),
  };
}

export function reportFromMessage(message: Message<'VmReport'>): VmReport {
  const { memoryBytes, reboots, devices, exits, ...same } = message;
  return {
    ...same,
    memoryBytes: toNumber(memoryBytes),
    reboots: toNumber(reboots),
    exits: exits ? mapValues(exits, toNumber) : NO_EXITS,
    devices: devices.map(functionFromMessage),
  };
}

const NO_EXITS: ExitCounters = { port: 0, console: 0, mmio: 0, config: 0, kick: 0, other: 0, total: 0 };

function functionToMessage({ interrupts, bars, resets, ...same }: FunctionReport): Message<'FunctionReport'> {
  return {
    ...same,
    interrupts: { ...interrupts, mode: INTERRUPT_MODE.to(interrupts.mode) },
    bars: bars.map(({ sizeBytes, kind, gpa, areas, ...bar }) => ({
      ...bar,
      sizeBytes: BigInt(sizeBytes),
      kind: BAR_KIND.to(kind),
      gpa: gpa === undefined ? undefined : BigInt(gpa),
      areas: areas.map((area) => ({
        ...area,
        offset: BigInt(area.offset),
        sizeBytes: BigInt(area.sizeBytes),
        mode: AREA_MODE.to(area.mode),
      })),
    })),
    resets: resets.map((reset) => ({ ...reset, when: OCCASION.to(reset.when) })),
  };
}

function functionFromMessage({
  address,
  interrupts,
  bars,
  resets,
  ...same
}: Message<'FunctionReport'>): FunctionReport {
  return {
    ...same,
    ...(address === undefined ? {} : { address }),
    interrupts: interrupts
      ? { ...interrupts, mode: INTERRUPT_MODE.from(interrupts.mode) }
      : { mode: 'none', available: 0, routed: 0 },
    bars: bars.map(({ sizeBytes, kind, gpa, areas, ...bar }) => ({
      ...bar,
      sizeBytes: toNumber(sizeBytes),
      kind: BAR_KIND.from(kind),
      ...(gpa === undefined ? {} : { gpa: toNumber(gpa) }),
      areas: areas.map(({ why, ...area }) => ({
        offset: toNumber(area.offset),
        sizeBytes: toNumber(area.sizeBytes),
        mode: AREA_MODE.from(area.mode),
        ...(why === undefined ? {} : { why }),
      })),
    })),
    resets: resets.map((reset) => ({ ...reset, when: OCCASION.from(reset.when) })),
  };
}

/** @throws CausewayError INTERNAL for a number that would be rounded */
export function toNumber(value: bigint): number {
  if (value <= BigInt(Number.MAX_SAFE_INTEGER) && value >= BigInt(Number.MIN_SAFE_INTEGER)) return Number(value);
  throw new CausewayError('INTERNAL', `${value} is beyond 2^53, the largest number that is handled exactly`);
}

function timestamp(timeMs: number): Message<'Timestamp'> {
  const seconds = Math.floor(timeMs / 1000);
  return { seconds: BigInt(seconds), nanos: Math.round((timeMs - seconds * 1000) * 1e6) };
}

function milliseconds(time: Message<'Timestamp'> | undefined): number {
  return time ? toNumber(time.seconds) * 1000 + time.nanos / 1e6 : 0;
}

function mapValues<K extends string, A, B>(record: Readonly<Record<K, A>>, change: (value: A) => B): Record<K, B> {
  const entries = Object.entries(record) as [K, A][];
  return Object.fromEntries(entries.map(([key, value]) => [key, change(value)])) as Record<K, B>;
}

interface Table<Model, Wire> {
  to(value: Model): Wire;
  /** @throws CausewayError INTERNAL for what this version does not know */
  from(value: Wire): Model;
}

function table<Model extends string, Wire extends string>(wire: Readonly<Record<Model, Wire>>): Table<Model, Wire> {
  const model = new Map(Object.entries(wire).map(([ours, theirs]) => [theirs as Wire, ours as Model]));
  return {
    to: (value) => wire[value],
    from: (value) => {
      const found = model.get(value);
      if (found === undefined) throw unknownToUs(value);
      return found;
    },
  };
}

function unknownToUs(what: string): CausewayError {
  return new CausewayError('INTERNAL', `the VM sent something that is not known here: ${what}`, {
    hint: 'the VM may run another version of Causeway',
  });
}
