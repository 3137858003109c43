/**
 * Runs inside the lab: a guest to its end, what was told of its devices when it was ready, and how KVM had mapped its
 * memory at each mark. Usage: node device-settings.js '{"config": {...}}'
 */
import { readdirSync, readFileSync } from 'node:fs';
import { createVm, type VmConfig, type VmReport } from '../../index.ts';
import { GUEST_READY, PAGE_MARKS } from './marks.ts';

export interface SettingsResult {
  readonly exit: string;
  readonly console: string;
  readonly report: VmReport;
  /** Pages of 2 MiB in the guest's page table, at each mark. */
  readonly largePages: readonly number[];
}

const LONG = { timeoutMs: 240_000 };
const COUNTERS = '/sys/kernel/debug/kvm';

/** KVM names the folder of a VM after its process. */
function largePages(): number {
  return readdirSync(COUNTERS)
    .filter((name) => name.startsWith(`${process.pid}-`))
    .reduce((sum, name) => sum + Number(readFileSync(`${COUNTERS}/${name}/pages_2m`, 'latin1')), 0);
}

async function run(config: VmConfig): Promise<SettingsResult> {
  await using vm = await createVm(config);
  vm.serial.onData((bytes) => process.stderr.write(bytes));
  await vm.start();
  const pages: number[] = [];
  for (const mark of PAGE_MARKS) {
    await vm.serial.waitFor(mark, LONG);
    pages.push(largePages());
    vm.serial.write('\n');
  }
  await vm.serial.waitFor(GUEST_READY, LONG);
  const report = vm.report();
  vm.serial.write('\n');
  const { reason } = await vm.exited;
  return { exit: reason, console: vm.serial.text(), report, largePages: pages };
}

const { config } = JSON.parse(process.argv[2]!);
process.stdout.write(`${JSON.stringify(await run(config))}\n`);
