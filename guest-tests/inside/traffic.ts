/**
 * Runs inside the lab: boots a guest with an assigned device, lets it work between two marks on its console, and tells
 * as one JSON object what happened. Usage: node traffic.js '{"kernel": ..., "devices": [...]}'
 */
import { createVm, type ExitCounters, type VmConfig } from '../../index.ts';

/** What the guest's script prints around the part that must cause no exit. */
export const TRAFFIC_BEGINS = 'TRAFFIC-BEGINS';
export const TRAFFIC_ENDS = 'TRAFFIC-ENDS';

export interface TrafficResult {
  readonly exit: string;
  /** Exit counters when the guest said that its traffic begins, and when it said that it ended. */
  readonly before: ExitCounters | undefined;
  readonly after: ExitCounters | undefined;
  readonly report: unknown;
  readonly warnings: readonly string[];
  readonly console: string;
}

async function run(config: VmConfig): Promise<TrafficResult> {
  await using vm = await createVm(config);
  const warnings: string[] = [];
  void (async () => {
    for await (const event of vm.events()) if (event.type === 'warning') warnings.push(event.message);
  })();
  let before: ExitCounters | undefined;
  let after: ExitCounters | undefined;
  let report: unknown;
  vm.serial.onData((bytes) => {
    process.stderr.write(bytes);
    const text = vm.serial.text();
    if (!before && text.includes(TRAFFIC_BEGINS)) before = vm.exits();
    if (!after && text.includes(TRAFFIC_ENDS)) {
      after = vm.exits();
      report = vm.report();
    }
  });
  await vm.start();
  const exit = await vm.exited;
  return { exit: exit.reason, before, after, report: report ?? vm.report(), warnings, console: vm.serial.text() };
}

process.stdout.write(`${JSON.stringify(await run(JSON.parse(process.argv[2]!)))}\n`);
