/**
 * Runs inside the lab: a VM with a card on its root bus, which the host unbinds while the guest uses it.
 * Usage: node host-unbind.js '{"config": {...}, "bdf": "0000:01:00.0"}'
 */
import { writeFile } from 'node:fs/promises';
import { createVm, type VmConfig, type VmEvent } from '../../index.ts';
import { GUEST_READY } from './marks.ts';

export interface UnbindResult {
  readonly events: readonly VmEvent[];
  /** How long the host's unbind was blocked. */
  readonly unbindMs: number;
  readonly stateAfter: string;
}

async function run({ config, bdf }: { readonly config: VmConfig; readonly bdf: string }): Promise<UnbindResult> {
  await using vm = await createVm(config);
  const events: VmEvent[] = [];
  void (async () => {
    for await (const event of vm.events()) events.push(event);
  })();
  vm.serial.onData((bytes) => process.stderr.write(bytes));
  await vm.start();
  await vm.serial.waitFor(GUEST_READY, { timeoutMs: 300_000 });
  const start = performance.now();
  await writeFile(`/sys/bus/pci/devices/${bdf}/driver/unbind`, bdf);
  const unbindMs = Math.round(performance.now() - start);
  // Events come a turn later.
  await new Promise((resolve) => setImmediate(resolve));
  return { events, unbindMs, stateAfter: vm.state };
}

process.stdout.write(`${JSON.stringify(await run(JSON.parse(process.argv[2]!)))}\n`);
