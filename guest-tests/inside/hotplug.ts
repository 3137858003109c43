/**
 * Runs inside the lab: a VM that starts with nothing assigned, and a card that is attached and detached while its guest runs.
 * Usage: node hotplug.js '{"config": {...}, "bdf": "0000:01:00.0", "cycles": 5, "unbind": true}'
 */
import { readlinkSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { createVm, type Vm, type VmConfig, type VmEvent, type VmExit } from '../../index.ts';
import { type Holdings, settled } from './holdings.ts';
import { CARD_GONE, CARD_WORKS } from './marks.ts';

export interface HotplugResult {
  readonly exit: VmExit;
  readonly events: readonly VmEvent[];
  readonly console: string;
  /** After the first card had gone, which brings what stays with the VM (KVM's VFIO device), and after the last. */
  readonly before: Holdings;
  readonly after: Holdings;
  /** From the call to its end, each. */
  readonly attachMs: readonly number[];
  readonly detachMs: readonly number[];
  /** How long the host's unbind was blocked; absent when it was not tried. */
  readonly unbindMs?: number;
  readonly driverAfterUnbind?: string | undefined;
}

interface Wish {
  readonly config: VmConfig;
  readonly bdf: string;
  readonly cycles: number;
  /** At last the host takes the card from under the guest, and gives it back once more. */
  readonly unbind: boolean;
}

/** A guest that boots or plugs says something sooner. */
const LONG = { timeoutMs: 300_000 };
const PATIENCE_MS = 60_000;

async function run({ config, bdf, cycles, unbind }: Wish): Promise<HotplugResult> {
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
  await vm.serial.waitFor('GUEST-WAITS', LONG);
  let before: Holdings | undefined;
  const attachMs: number[] = [];
  const detachMs: number[] = [];
  let turn = 0;
  for (; turn < cycles; turn++) {
    attachMs.push(await timed(() => vm.attachDevice(bdf)));
    await vm.serial.waitFor(`${CARD_WORKS} ${turn} `, LONG);
    detachMs.push(await timed(() => vm.detachDevice(bdf, { timeoutMs: PATIENCE_MS })));
    await vm.serial.waitFor(`${CARD_GONE} ${turn} `, LONG);
    before ??= await settled();
  }
  const after = await settled();
  const eject = unbind ? await ejectByHost(vm, bdf, turn) : {};
  const exit = await vm.exited;
  return { exit, events, console: vm.serial.text(), before: before ?? after, after, attachMs, detachMs, ...eject };
}

/** The host unbinds the card under traffic; then it is bound to VFIO again, and the guest has it once more. */
async function ejectByHost(
  vm: Vm,
  bdf: string,
  turn: number,
): Promise<Pick<HotplugResult, 'unbindMs' | 'driverAfterUnbind'>> {
  const device = `/sys/bus/pci/devices/${bdf}`;
  await vm.attachDevice(bdf);
  await vm.serial.waitFor(`${CARD_WORKS} ${turn} `, LONG);
  // Blocks in the kernel until the device is given back.
  const unbindMs = await timed(() => writeFile(`${device}/driver/unbind`, bdf));
  const driverAfterUnbind = driverOf(device);
  await vm.serial.waitFor(`${CARD_GONE} ${turn} `, LONG);
  writeFileSync('/sys/bus/pci/drivers/vfio-pci/bind', bdf);
  await vm.attachDevice(bdf);
  await vm.serial.waitFor(`${CARD_WORKS} ${turn + 1} `, LONG);
  await vm.detachDevice(bdf, { timeoutMs: PATIENCE_MS });
  await vm.serial.waitFor(`${CARD_GONE} ${turn + 1} `, LONG);
  return { unbindMs, driverAfterUnbind };
}

async function timed(step: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await step();
  return Math.round(performance.now() - start);
}

function driverOf(device: string): string | undefined {
  try {
    return readlinkSync(`${device}/driver`).split('/').at(-1);
  } catch {
    return undefined;
  }
}

process.stdout.write(`${JSON.stringify(await run(JSON.parse(process.argv[2]!)))}\n`);
