/**
 * Cards that come and go under a stock guest, for the harness: native PCIe hot-plug, a host that wants its card back, one
 * that loses it. Run by guest-tests/hotplug.test.ts.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { VmEvent } from '../../index.ts';
import { type Fixtures, isDevice, type LinuxGuest, test } from '../harness/index.ts';
import { leaseAddress, ROUTER } from '../suites/support/network.ts';
import { eventsOf, told, warningsButReset } from './events.ts';
import { type Holdings, settled } from './holdings.ts';
import { BUTTON_WANTED, CARDS_VARIABLE } from './marks.ts';
import { pullOut } from './slot.ts';
import { timed } from './timed.ts';

const MINUTE_MS = 60_000;
const OPTIONS = { needs: isDevice('8086:10d3'), timeoutMs: 8 * MINUTE_MS };
const GUEST = { modules: ['e1000e'], cpus: 2, memory: '192M' } as const;
const CYCLES = 2;
/** The button's five seconds, the guest's time and the kernel's. */
const PATIENCE_MS = MINUTE_MS;
/** Beyond this it is not slow but stuck: times in an emulated host vary tenfold. */
const HANG_MS = 30_000;
const FOLDER = '/sys/class/net/eth0';

/** How cards leave the lab, and what becomes of them in the guest. `stuck`: pulled while the guest does not execute. */
const PULLED = [
  { how: 'asked', detached: 'released' },
  { how: 'pulled', detached: 'released' },
  { how: 'stuck', detached: 'forced' },
] as const;

test('a card comes and goes', OPTIONS, async ({ device: { bdf }, boot, measure }) => {
  const guest = await boot({ ...GUEST, devices: [], hotplugPorts: 2 });
  const events = eventsOf(guest.vm);
  const attachMs: number[] = [];
  const detachMs: number[] = [];
  let before: Holdings | undefined;
  for (let turn = 0; turn < CYCLES; turn++) {
    attachMs.push(await timed(() => guest.vm.attachDevice(bdf)));
    await useCard(guest);
    detachMs.push(await timed(() => guest.vm.detachDevice(bdf, { timeoutMs: PATIENCE_MS })));
    await cardIsGone(guest);
    // The first brings what stays with the VM, KVM's VFIO device.
    before ??= await settled();
  }
  measure('attach', attachMs, { unit: 'ms', better: 'lower' });
  measure('detach', detachMs, { unit: 'ms', better: 'lower' });
  assert.deepEqual(deviceEvents(events), Array.from({ length: CYCLES }, () => cycle(bdf, 'user')).flat());
  await expectTidy(guest, events, before!);
});

test('the host takes a card out of its slot, and gives it again', OPTIONS, async ({ device, boot, measure }) => {
  const { bdf } = device;
  const guest = await boot({ ...GUEST, devices: [], hotplugPorts: 1 });
  const events = eventsOf(guest.vm);
  await guest.vm.attachDevice(bdf);
  await useCard(guest);
  await expectUnbound({ device, measure });
  await cardIsGone(guest);
  const before = await settled();
  await bind(bdf);
  await guest.vm.attachDevice(bdf);
  await useCard(guest);
  await guest.vm.detachDevice(bdf, { timeoutMs: PATIENCE_MS });
  await cardIsGone(guest);
  assert.deepEqual(deviceEvents(events), [...cycle(bdf, 'host'), ...cycle(bdf, 'user')]);
  await expectTidy(guest, events, before);
});

test('the host takes a card of the root bus, without asking the guest', OPTIONS, async ({ device, boot, measure }) => {
  const guest = await boot(GUEST);
  const events = eventsOf(guest.vm);
  await useCard(guest);
  await expectUnbound({ device, measure });
  await told();
  const forced = { type: 'device-detached', bdfs: [device.bdf], how: 'forced' };
  assert.deepEqual(deviceEvents(events).at(-1), forced);
  assert.equal(guest.vm.state, 'running');
  assert.equal(await guest.must('echo alive'), 'alive');
  await bind(device.bdf);
});

// Without a device of the harness: each is gone for good.
test('cards leave the host', { device: false, timeoutMs: 8 * MINUTE_MS }, async ({ boot, log, measure }) => {
  const cards = process.env[CARDS_VARIABLE]?.split(' ') ?? [];
  assert.equal(cards.length, PULLED.length, `${CARDS_VARIABLE} names ${PULLED.length} cards`);
  const guest = await boot({ ...GUEST, devices: [], hotplugPorts: 2 });
  const events = eventsOf(guest.vm);
  const goneMs: number[] = [];
  let before: Holdings | undefined;
  for (const [turn, { how }] of PULLED.entries()) {
    const bdf = cards[turn]!;
    await guest.vm.attachDevice(bdf);
    await useCard(guest);
    if (how === 'stuck') await guest.vm.pause();
    goneMs.push(
      await timed(async () => {
        if (how === 'asked') log(`${BUTTON_WANTED} ${bdf}`);
        else pullOut(bdf);
        const deadline = performance.now() + PATIENCE_MS;
        while (existsSync(`/sys/bus/pci/devices/${bdf}`)) {
          assert.ok(performance.now() < deadline, `${bdf} is still there`);
          await sleep(50);
        }
      }),
    );
    if (how === 'stuck') guest.vm.resume();
    await cardIsGone(guest);
    before ??= await settled();
  }
  measure('from the wish or the pull to the end', goneMs, { unit: 'ms', better: 'lower' });
  for (const ms of goneMs) assert.ok(ms < HANG_MS, `${goneMs} ms`);
  const expected = PULLED.flatMap(({ detached }, turn) => cycle(cards[turn]!, 'host', detached));
  assert.deepEqual(deviceEvents(events), expected);
  await expectTidy(guest, events, before!);
});

/** What one card's turn is told as. */
function cycle(bdf: string, by: 'user' | 'host', how: 'released' | 'forced' = 'released'): object[] {
  return [
    { type: 'device-attached', bdfs: [bdf], port: 'hotplug1' },
    ...(by === 'host' ? [{ type: 'device', bdf, label: `${bdf} 8086:10d3`, what: 'release-request' }] : []),
    { type: 'device-detach-requested', bdfs: [bdf], by },
    { type: 'device-detached', bdfs: [bdf], how },
  ];
}

function deviceEvents(events: readonly VmEvent[]): VmEvent[] {
  return events.filter(({ type }) => type.startsWith('device'));
}

/** Waits for the card, and has it work until it goes. */
async function useCard(guest: LinuxGuest): Promise<void> {
  const there = `[ -e ${FOLDER}/device/vendor ]`;
  await guest.must(`until ${there}; do sleep 0.2; done; grep -i . ${FOLDER}/device/current_link_speed`);
  await leaseAddress(guest, 'eth0');
  await guest.must(`ping -A -c 3 -q ${ROUTER}`);
  await guest.must(`while [ -e ${FOLDER} ]; do ping -A -c 20 -q ${ROUTER}; sleep 0.1; done > /dev/null 2>&1 &`);
}

async function cardIsGone(guest: LinuxGuest): Promise<void> {
  await guest.must(`while [ -e ${FOLDER} ]; do sleep 0.2; done`);
}

/** The write blocks in the kernel until the device is given back. */
async function expectUnbound({ device, measure }: Pick<Fixtures, 'device' | 'measure'>): Promise<void> {
  const ms = await timed(() => writeFile(`/sys/bus/pci/devices/${device.bdf}/driver/unbind`, device.bdf));
  measure('unbind', ms, { unit: 'ms', better: 'lower' });
  assert.equal(device.driver(), undefined);
  // Linux lets go at once of a card that has gone; a button would have it wait for five seconds first.
  assert.ok(ms < HANG_MS, `${ms} ms`);
}

function bind(bdf: string): Promise<void> {
  return writeFile('/sys/bus/pci/drivers/vfio-pci/bind', bdf);
}

/** Nothing of a card is left when it has gone, nobody complained, and the guest ends in order. */
async function expectTidy(guest: LinuxGuest, events: readonly VmEvent[], before: Holdings): Promise<void> {
  const after = await settled();
  assert.deepEqual(after.files, before.files);
  assert.equal(after.lockedMib, 0);
  assert.deepEqual(warningsButReset(events), []);
  await guest.shutdown();
  assert.equal((await guest.vm.exited).reason, 'shutdown');
  assert.doesNotMatch(guest.console(), /Power fault|Call Trace|BUG:/);
}
