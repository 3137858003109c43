/**
 * Runs inside the lab: one VM whose guest reboots again and again until the limit. Tells how it ended and what the
 * console said at each boot. Usage: node reboots.js '{"kernel": ..., "rebootLimit": 10, "devices": [...]}'
 */
import { createVm, type VmConfig, type VmReport } from '../../index.ts';

export interface RebootsResult {
  readonly exit: string;
  /** Carried out. */
  readonly reboots: number;
  /** Reboots that were told by an event. */
  readonly events: readonly number[];
  readonly warnings: readonly string[];
  readonly console: string;
  readonly report: VmReport;
}

async function run(config: VmConfig): Promise<RebootsResult> {
  await using vm = await createVm(config);
  const events: number[] = [];
  const warnings: string[] = [];
  void (async () => {
    for await (const event of vm.events()) {
      if (event.type === 'reboot') events.push(event.count);
      if (event.type === 'warning') warnings.push(event.message);
    }
  })();
  vm.serial.onData((bytes) => process.stderr.write(bytes));
  await vm.start();
  const { reason } = await vm.exited;
  const report = vm.report();
  return { exit: reason, reboots: report.reboots, events, warnings, console: vm.serial.text(), report };
}

process.stdout.write(`${JSON.stringify(await run(JSON.parse(process.argv[2]!)))}\n`);
