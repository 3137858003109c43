/** The conditions that the host checks after every test. Pure: two snapshots in, verdicts out. */
import type { HostBdf } from '../../../native/types.ts';
import type { Invariant } from '../model.ts';
import type { Tolerance } from '../registry.ts';
import { hostTrouble, iommuFaults } from './kernel-log.ts';
import { configDifference, isAlive, type Snapshot } from './snapshot.ts';

export interface Observation {
  readonly bdf: HostBdf;
  readonly before: Snapshot;
  readonly after: Snapshot;
  /** Bytes of config space that do not count. */
  readonly ignored: ReadonlySet<number>;
  /** The host's kernel log since the test began. */
  readonly kernelLog: readonly string[];
  /** Memory that this process had locked or pinned before the test, and now. */
  readonly lockedKib: readonly [before: number, after: number];
  /** Open VFIO files of this process. */
  readonly openFiles: readonly string[];
  readonly tolerates: readonly Tolerance[];
}

/** All of them, in a fixed order. */
export function checkInvariants(seen: Observation): Invariant[] {
  const { before, after, kernelLog, tolerates } = seen;
  const alive = isAlive(after);
  const trouble = tolerates.includes('host-log') ? [] : hostTrouble(kernelLog);
  const faults = tolerates.includes('iommu-faults') ? [] : iommuFaults(kernelLog, seen.bdf);
  const [lockedBefore, lockedAfter] = seen.lockedKib;
  const changed =
    !alive || tolerates.includes('config') ? [] : configDifference(before.config, after.config, seen.ignored);
  return [
    invariant('device answers', !alive && 'it reads all ones, or is gone', true),
    invariant('host kernel is well', list(trouble), true),
    invariant('driver', before.driver !== after.driver && `${before.driver} -> ${after.driver ?? 'none'}`),
    invariant('config space as before', list(changed)),
    invariant('no AER errors', !tolerates.includes('aer') && list(raised(before.aer, after.aer))),
    invariant(
      'link as before',
      alive && !tolerates.includes('link') && before.link !== after.link && `${before.link} -> ${after.link}`,
    ),
    invariant('no IOMMU faults', list(faults)),
    invariant('memory unpinned', lockedAfter > lockedBefore && `${lockedAfter - lockedBefore} KiB are still locked`),
    invariant('device given back', list(seen.openFiles)),
  ];
}

/** @param fault false or undefined when it holds, else what was seen */
function invariant(name: string, fault: string | false | undefined, isFatal = false): Invariant {
  if (!fault) return { name, ok: true };
  return { name, ok: false, detail: fault, ...(isFatal ? { isFatal } : {}) };
}

/** The first few. */
function list(lines: readonly string[]): string | undefined {
  if (lines.length === 0) return undefined;
  const [shown, rest] = [lines.slice(0, 4), lines.length - 4];
  return `${shown.join('; ')}${rest > 0 ? `; and ${rest} more` : ''}`;
}

function raised(before: Snapshot['aer'], after: Snapshot['aer']): string[] {
  return Object.entries(after).flatMap(([name, count]) => {
    const more = count - (before[name] ?? 0);
    return more > 0 ? [`${name} +${more}`] : [];
  });
}
