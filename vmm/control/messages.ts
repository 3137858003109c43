/** The objects of the public interface as messages and back. A field added to either side does not compile until it is here. */
import type { MessageTypes } from '../../proto/index.ts';
import type { JournalEntry } from './event-journal.ts';
import { functionFromMessage, functionToMessage } from './function-message.ts';
import type { DetachedDevice, ExitCounters, IommuReport, VmEvent, VmExit, VmReport, VmState } from './vm.ts';
import { type Table, table, toNumber, unknownToUs } from './wire-values.ts';

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
const BACKEND = table<IommuReport['backend'], Message<'IommuReport'>['backend']>({
  container: 'IOMMU_MODE_CONTAINER',
  iommufd: 'IOMMU_MODE_IOMMUFD',
});
/** Kinds of events by which a subscriber may choose. */
export const EVENT_KIND: Table<JournalEvent['type'], Message<'SubscribeEventsRequest'>['kinds'][number]> = table({
  state: 'VM_EVENT_KIND_STATE',
  reboot: 'VM_EVENT_KIND_REBOOT',
  warning: 'VM_EVENT_KIND_WARNING',
  device: 'VM_EVENT_KIND_DEVICE',
  exit: 'VM_EVENT_KIND_EXIT',
  'device-attached': 'VM_EVENT_KIND_DEVICE_ATTACHED',
  'device-detach-requested': 'VM_EVENT_KIND_DEVICE_DETACH_REQUESTED',
  'device-detached': 'VM_EVENT_KIND_DEVICE_DETACHED',
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
      return { device: { label: event.label, what: event.what, bdf: event.bdf } };
    case 'device-attached':
      return { deviceAttached: { bdfs: event.bdfs, port: event.port } };
    case 'device-detach-requested':
      return { deviceDetachRequested: { bdfs: event.bdfs, by: event.by } };
    case 'device-detached':
      return { deviceDetached: { bdfs: event.bdfs, how: event.how } };
    case 'exit':
      return { exit: { exit: exitToMessage(event.exit) } };
  }
}

/** Undefined for a kind of event that this version does not know. */
export function eventFromMessage(message: Message<'VmEvent'>): ControlEvent | undefined {
  const { state, reboot, warning, device, exit, dropped, deviceAttached, deviceDetachRequested, deviceDetached } =
    message;
  const stamp = { id: toNumber(message.id), timeMs: milliseconds(message.time) };
  if (state) return { ...stamp, type: 'state', state: STATE.from(state.state) };
  if (reboot) return { ...stamp, type: 'reboot', count: toNumber(reboot.count) };
  if (warning) return { ...stamp, type: 'warning', message: warning.message };
  if (device) return { ...stamp, type: 'device', bdf: device.bdf, label: device.label, what: device.what };
  if (deviceAttached) return { ...stamp, type: 'device-attached', ...deviceAttached };
  if (deviceDetachRequested) {
    const { bdfs, by } = deviceDetachRequested;
    return { ...stamp, type: 'device-detach-requested', bdfs, by: by === 'host' ? 'host' : 'user' };
  }
  if (deviceDetached) return { ...stamp, type: 'device-detached', ...detachedFromMessage(deviceDetached) };
  if (exit) return { ...stamp, type: 'exit', exit: exitFromMessage(exit.exit) };
  if (dropped) return { ...stamp, type: 'dropped', count: toNumber(dropped.count) };
  return undefined;
}

export function detachedFromMessage({ bdfs, how }: Message<'DetachDeviceResponse'>): DetachedDevice {
  return { bdfs, how: how === 'forced' ? 'forced' : 'released' };
}

export function reportToMessage(report: VmReport): Message<'VmReport'> {
  const { memoryBytes, reboots, devices, exits, iommu, ...same } = report;
  return {
    ...same,
    iommu: iommu && { backend: BACKEND.to(iommu.backend), why: iommu.why },
    memoryBytes: BigInt(memoryBytes),
    reboots: BigInt(reboots),
    exits: mapValues(exits, BigInt),
    devices: devices.map(functionToMessage),
  };
}

export function reportFromMessage(message: Message<'VmReport'>): VmReport {
  const { memoryBytes, reboots, devices, exits, iommu, ...same } = message;
  return {
    ...same,
    ...(iommu ? { iommu: { backend: BACKEND.from(iommu.backend), why: iommu.why } } : {}),
    memoryBytes: toNumber(memoryBytes),
    reboots: toNumber(reboots),
    exits: exits ? mapValues(exits, toNumber) : NO_EXITS,
    devices: devices.map(functionFromMessage),
  };
}

const NO_EXITS: ExitCounters = { port: 0, console: 0, mmio: 0, config: 0, kick: 0, other: 0, total: 0 };

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
