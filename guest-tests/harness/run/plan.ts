/** What a run will do, in order: each test on each device, on all of them at once, or without. */
import type { DeviceUnderTest } from '../device/device-under-test.ts';
import type { Need, TestSpec } from '../registry.ts';

export interface Suite {
  readonly name: string;
  readonly tests: readonly TestSpec[];
}

/** One test on one device, on all devices of the run, or without. */
export interface PlannedTest {
  readonly id: string;
  readonly suite: string;
  readonly spec: TestSpec;
  readonly devices: readonly DeviceUnderTest[];
  /** The device's label, or {@link ALL_DEVICES}; undefined for a test without. */
  readonly device: string | undefined;
}

/** Tests of one suite on the same devices: a nested KTAP document. */
export interface PlannedGroup {
  readonly title: string;
  readonly tests: readonly PlannedTest[];
}

/** In place of a device's label. */
export const ALL_DEVICES = 'all devices';

const NO_DEVICE = 'no device was given (--device, --match, --lab)';

/** Keys of devices: `8086:10d3`, `8086:10d3#2`. */
export function deviceKeys(devices: readonly DeviceUnderTest[]): Map<DeviceUnderTest, string> {
  const counts = new Map<string, number>();
  const hex = (id: number): string => id.toString(16).padStart(4, '0');
  return new Map(
    devices.map((device) => {
      const ids = `${hex(device.facts.vendor)}:${hex(device.facts.device)}`;
      const count = (counts.get(ids) ?? 0) + 1;
      counts.set(ids, count);
      return [device, count === 1 ? ids : `${ids}#${count}`];
    }),
  );
}

/** What tests are carried out on. */
interface Target {
  readonly devices: readonly DeviceUnderTest[];
  readonly label?: string;
  readonly key?: string;
  readonly takes: (spec: TestSpec) => boolean;
}

/**
 * Tests without a device first; then device by device, so that one that fails does not hold up the others' results; then
 * those that take all devices, which are known by then to work alone.
 */
export function planRun(suites: readonly Suite[], devices: readonly DeviceUnderTest[]): PlannedGroup[] {
  const keys = deviceKeys(devices);
  const isEmpty = devices.length === 0;
  const targets: Target[] = [
    // Without any device, tests that need one are told as skipped.
    { devices: [], takes: ({ options }) => options.device === false || isEmpty },
    ...devices.map(
      (device): Target => ({
        devices: [device],
        label: device.label,
        key: keys.get(device)!,
        takes: ({ options }) => options.device !== false && options.device !== 'all',
      }),
    ),
    { devices, label: ALL_DEVICES, key: 'all', takes: ({ options }) => options.device === 'all' && !isEmpty },
  ];
  return targets.flatMap((target) => suites.flatMap((suite) => groupOf(suite, target)));
}

function groupOf({ name, tests }: Suite, { devices, label, key, takes }: Target): PlannedGroup[] {
  const wanted = tests.filter(takes);
  if (wanted.length === 0) return [];
  const at = key === undefined ? '' : ` @ ${key}`;
  return [
    {
      title: label === undefined ? name : `${name} on ${label}`,
      tests: wanted.map((spec) => ({
        id: `${name}/${spec.name}${at}`,
        suite: name,
        spec,
        devices,
        device: label,
      })),
    },
  ];
}

/** Reason for a SKIP before anything is started. */
export function unmetNeed({ spec, devices }: PlannedTest): string | undefined {
  const { device: wanted, needs = [] } = spec.options;
  if (wanted === false) return undefined;
  if (devices.length === 0) return NO_DEVICE;
  const all: readonly Need[] = typeof needs === 'function' ? [needs] : needs;
  for (const { facts, label } of devices) {
    for (const need of all) {
      const reason = need(facts);
      if (reason !== undefined) return wanted === 'all' ? `${label}: ${reason}` : reason;
    }
  }
  return undefined;
}

/** Why the test is known to fail here, if it is. */
export function expectedFailure({ spec, devices }: PlannedTest): string | undefined {
  const { device, expectFailure } = spec.options;
  if (typeof expectFailure !== 'function') return expectFailure;
  return expectFailure(device === 'all' ? undefined : devices[0]?.facts);
}
