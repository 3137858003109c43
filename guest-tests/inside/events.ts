/** What a VM tells while a test runs. */
import type { Vm, VmEvent } from '../../index.ts';

/** Fills up while events come. */
export function eventsOf(vm: Vm): readonly VmEvent[] {
  const events: VmEvent[] = [];
  void (async () => {
    for await (const event of vm.events()) events.push(event);
  })();
  return events;
}

/** Resolves when what has happened so far has been told: events come a turn later. */
export function told(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** The kernel holds the device's lock while it unbinds it, and resets nothing in that time. */
export function warningsButReset(events: readonly VmEvent[]): string[] {
  const warnings = events.flatMap((event) => (event.type === 'warning' ? [event.message] : []));
  return warnings.filter((message) => !/reset for release: none:.*EAGAIN/.test(message));
}
