/**
 * Runs inside the lab: a VM that uses one card after the other, each of which leaves the lab: in order, by whoever
 * started this program, when it says so; or pulled out without a word.
 * Usage: node outer-unplug.js '{"config": {...}, "cards": [{"bdf": "0000:01:00.0", "how": "asked"}]}'
 */
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { createVm, type Vm, type VmConfig, type VmEvent, type VmExit } from '../../index.ts';
import { type Holdings, settled } from './holdings.ts';
import { BUTTON_WANTED, CARD_GONE, CARD_WORKS } from './marks.ts';
import { pullOut } from './slot.ts';

export interface PulledCard {
  readonly bdf: string;
  /** `stuck`: pulled while the guest does not execute. */
  readonly how: 'asked' | 'pulled' | 'stuck';
}

export interface OuterUnplugResult {
  readonly exit: VmExit;
  readonly events: readonly VmEvent[];
  readonly console: string;
  /** From the wish or the pull to the end of the kernel's device, each. */
  readonly goneMs: readonly number[];
  /** When the first card, which brings what stays with the VM (KVM's VFIO device), and when the last had gone. */
  readonly before: Holdings;
  readonly after: Holdings;
}

interface Wish {
  readonly config: VmConfig;
  readonly cards: readonly PulledCard[];
}

/** A guest that boots or plugs says something sooner. */
const LONG = { timeoutMs: 300_000 };
/** The button's five seconds, the guest's time and the kernel's. */
const PATIENCE_MS = 60_000;

async function run({ config, cards }: Wish): Promise<OuterUnplugResult> {
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
  const goneMs: number[] = [];
  let before: Holdings | undefined;
  for (const [turn, card] of cards.entries()) {
    goneMs.push(await usedAndPulled(vm, card, turn));
    before ??= await settled();
  }
  const after = await settled();
  const exit = await vm.exited;
  return { exit, events, console: vm.serial.text(), goneMs, before: before ?? after, after };
}

async function usedAndPulled(vm: Vm, { bdf, how }: PulledCard, turn: number): Promise<number> {
  await vm.attachDevice(bdf);
  await vm.serial.waitFor(`${CARD_WORKS} ${turn} `, LONG);
  const start = performance.now();
  if (how === 'asked') process.stderr.write(`${BUTTON_WANTED} for ${bdf}\n`);
  else {
    if (how === 'stuck') await vm.pause();
    pullOut(bdf);
  }
  while (existsSync(`/sys/bus/pci/devices/${bdf}`)) {
    if (performance.now() - start > PATIENCE_MS) throw new Error(`${bdf} is still there`);
    await sleep(50);
  }
  const goneMs = Math.round(performance.now() - start);
  if (how === 'stuck') await vm.resume();
  await vm.serial.waitFor(`${CARD_GONE} ${turn} `, LONG);
  return goneMs;
}

process.stdout.write(`${JSON.stringify(await run(JSON.parse(process.argv[2]!)))}\n`);
