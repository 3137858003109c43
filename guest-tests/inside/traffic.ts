/**
 * Runs inside the lab: boots a guest with an assigned device, lets it work between two marks on its console, and tells
 * as one JSON object what happened. Usage: node traffic.js '{"kernel": ..., "devices": [...]}'
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { createVm, type ExitCounters, type VmConfig, type VmReport } from '../../index.ts';
import { TRAFFIC_BEGINS, TRAFFIC_ENDS } from './marks.ts';

/** After the mark the guest sleeps for longer than this, so that writing the mark is not counted as traffic. */
const SETTLE_MS = 1500;

export interface TrafficResult {
  readonly exit: string;
  /** Exit counters shortly after the guest said that its traffic begins, and when it said that it ended. */
  readonly before: ExitCounters;
  readonly after: ExitCounters;
  /** As of the end of the traffic. */
  readonly report: VmReport;
  readonly warnings: readonly string[];
  readonly console: string;
  /** How long `createVm`, the boot to the first mark, and the traffic took. */
  readonly seconds: { readonly create: number; readonly boot: number; readonly traffic: number };
}

async function run(config: VmConfig): Promise<TrafficResult> {
  const begun = performance.now();
  await using vm = await createVm(config);
  const created = performance.now();
  const warnings: string[] = [];
  void (async () => {
    for await (const event of vm.events()) if (event.type === 'warning') warnings.push(event.message);
  })();
  vm.serial.onData((bytes) => process.stderr.write(bytes));
  await vm.start();
  await vm.serial.waitFor(TRAFFIC_BEGINS, { timeoutMs: 180_000 });
  const booted = performance.now();
  await sleep(SETTLE_MS);
  const before = vm.exits();
  await vm.serial.waitFor(TRAFFIC_ENDS, { timeoutMs: 300_000 });
  const after = vm.exits();
  const report = vm.report();
  const ended = performance.now();
  const { reason } = await vm.exited;
  const seconds = { create: span(begun, created), boot: span(created, booted), traffic: span(booted, ended) };
  return { exit: reason, before, after, report, warnings, console: vm.serial.text(), seconds };
}

function span(from: number, to: number): number {
  return Math.round((to - from) / 100) / 10;
}

process.stdout.write(`${JSON.stringify(await run(JSON.parse(process.argv[2]!)))}\n`);
