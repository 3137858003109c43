/**
 * Runs inside the lab: a VM whose card fails, or is wanted back by the host, on the root bus. Waits for what its configuration
 * says should follow. Usage: node device-faults.js '{"config": {...}, "bdf": "0000:01:00.0", "readyFile": ...}'
 */
import { writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { createVm, type VmConfig, type VmEvent } from '../../index.ts';
import { GUEST_READY } from './marks.ts';

export interface FaultsResult {
  readonly events: readonly VmEvent[];
  readonly stateAfterError: string;
  /** How long the host's unbind was blocked. */
  readonly unbindMs: number;
  readonly stateAfterUnbind: string;
}

const PATIENCE_MS = 180_000;

interface Wish {
  readonly config: VmConfig;
  readonly bdf: string;
  /** Made when errors may come. */
  readonly readyFile: string;
}

async function run({ config, bdf, readyFile }: Wish): Promise<FaultsResult> {
  await using vm = await createVm(config);
  const events: VmEvent[] = [];
  void (async () => {
    for await (const event of vm.events()) {
      events.push(event);
      process.stderr.write(`event: ${JSON.stringify(event)}\n`);
    }
  })();
  vm.serial.onData((bytes) => process.stderr.write(bytes));
  await vm.start();
  await vm.serial.waitFor(GUEST_READY, { timeoutMs: 300_000 });
  // Whoever runs this injects errors from now on.
  writeFileSync(readyFile, '');
  const end = Date.now() + PATIENCE_MS;
  while (vm.state !== 'paused' && Date.now() < end) await sleep(100);
  const stateAfterError = vm.state;
  if (vm.state === 'paused') vm.resume();
  const start = performance.now();
  await writeFile(`/sys/bus/pci/devices/${bdf}/driver/unbind`, bdf);
  const unbindMs = Math.round(performance.now() - start);
  return { events, stateAfterError, unbindMs, stateAfterUnbind: vm.state };
}

process.stdout.write(`${JSON.stringify(await run(JSON.parse(process.argv[2]!)))}\n`);
