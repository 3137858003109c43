/** Devices that come and go while a stock guest runs: native PCIe hot-plug, a host that wants its card back, one that loses it. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { VmEvent } from '../index.ts';
import type { Lab, LabOptions } from '../lab/index.ts';
import type { UnbindResult } from './inside/host-unbind.ts';
import type { HotplugResult } from './inside/hotplug.ts';
import { BUTTON_WANTED, CARD_GONE, CARD_WORKS, GUEST_READY } from './inside/marks.ts';
import type { OuterUnplugResult, PulledCard } from './inside/outer-unplug.ts';
import { buildGuest } from './support/guests.ts';
import { aliveLab, ONE_PROCESSOR, openTestLab, runInside, say, tail } from './support/test-lab.ts';

const CYCLES = 3;
const MEMORY = '192M';
/** The ports have slots of PCI Express: QEMU would else have its firmware unplug for them (ACPI). */
const NATIVE_SLOTS = ['-global', 'ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off'];
const HOST: LabOptions = {
  ...ONE_PROCESSOR,
  kernel: '6.1',
  devices: ['e1000e', 'e1000e', 'e1000e', 'e1000e'],
  extraQemuArgs: NATIVE_SLOTS,
};

/** Each turn: waits for a card, uses it until it goes. The console is quiet but for the marks. */
const TURNS = (turns: number): string => `
echo GUEST-WAITS
turn=0
while [ $turn -lt ${turns} ]; do
  while [ ! -e /sys/class/net/eth0/device/vendor ]; do sleep 0.2; done
  grep -i -H . /sys/class/net/eth0/device/current_link_speed
  udhcpc -i eth0 -n -q -t 20 -T 1 && ping -A -c 3 -q 10.0.2.2 && echo "${CARD_WORKS} $turn "
  while [ -e /sys/class/net/eth0 ]; do ping -A -c 20 -q 10.0.2.2 > /dev/null 2>&1; sleep 0.1; done
  echo "${CARD_GONE} $turn "
  turn=$((turn + 1))
done
dmesg | grep -i -E 'pciehp|_OSC|hot-?plug|BUG|WARN|AER' | tail -n 60
`;

/** How the other cards leave the lab, and what becomes of them in the guest. */
const PULLED = [
  { how: 'asked', detached: 'released' },
  { how: 'pulled', detached: 'released' },
  { how: 'stuck', detached: 'forced' },
] as const;

let lab: Lab;
let bdf: string;

beforeAll(async () => {
  lab = await openTestLab(HOST);
  bdf = lab.devices[0]!.bdf;
});

beforeEach(async () => {
  lab = await aliveLab(lab, HOST);
});

afterAll(async () => {
  await lab?.close();
});

/** The kernel holds the device's lock while it unbinds it, and resets nothing in that time. */
function warningsButReset(events: readonly VmEvent[]): string[] {
  const warnings = events.flatMap((event) => (event.type === 'warning' ? [event.message] : []));
  return warnings.filter((message) => !/reset for release: none:.*EAGAIN/.test(message));
}

test('a card comes and goes under a running guest, and the host may take it', async () => {
  const guest = await buildGuest('6.1', { modules: ['e1000e'], script: TURNS(CYCLES + 2) });
  const config = { ...guest, memory: MEMORY, cpus: 2, hotplugPorts: 2, rebootLimit: 0 };
  const result = await runInside<HotplugResult>(
    lab,
    'hotplug',
    { config, bdf, cycles: CYCLES, unbind: true },
    { timeoutMs: 9 * 60_000 },
  );
  const log = `${tail(result.console)}\n${JSON.stringify(result.events)}`;
  say(
    `attached in ${result.attachMs.join(', ')} ms, detached in ${result.detachMs.join(', ')} ms, unbound in ${result.unbindMs} ms`,
  );
  expect(result.exit, log).toEqual({ reason: 'shutdown' });
  for (let turn = 0; turn < CYCLES + 2; turn++) {
    expect(result.console, log).toContain(`${CARD_WORKS} ${turn} `);
    expect(result.console, log).toContain(`${CARD_GONE} ${turn} `);
  }
  expect(result.console, log).not.toMatch(/Call Trace|BUG:|Oops|Power fault/);
  const told = result.events.flatMap((event) => (event.type.startsWith('device-') ? [event] : []));
  const cycle = (by: 'user' | 'host') => [
    { type: 'device-attached', bdfs: [bdf], port: 'hotplug1' },
    { type: 'device-detach-requested', bdfs: [bdf], by },
    { type: 'device-detached', bdfs: [bdf], how: 'released' },
  ];
  const cycles = [...Array.from({ length: CYCLES }, () => cycle('user')), cycle('host'), cycle('user')].flat();
  expect(told, log).toEqual(cycles);
  expect(warningsButReset(result.events), log).toEqual([]);
  // Nothing of a card is left when it has gone.
  expect(result.after.files, log).toEqual(result.before.files);
  expect(result.after.lockedMib, log).toBe(0);
  expect(result.driverAfterUnbind, log).toBeUndefined();
  // Linux lets go at once of a card that has gone; a button would have it wait for five seconds first.
  expect(result.unbindMs, log).toBeLessThan(30_000);
});

test('a card on the root bus is given back to the host without asking the guest', async () => {
  const script = `udhcpc -i eth0 -n -q -t 60 -T 1 && echo ${GUEST_READY}\nping -i 0.1 -q 10.0.2.2 > /dev/null`;
  const guest = await buildGuest('6.1', { modules: ['e1000e'], script });
  const config = { ...guest, memory: MEMORY, cpus: 2, devices: [bdf], rebootLimit: 0 };
  const result = await runInside<UnbindResult>(lab, 'host-unbind', { config, bdf }, { timeoutMs: 9 * 60_000 });
  const log = JSON.stringify(result.events);
  expect(result.events, log).toContainEqual({ type: 'device-detached', bdfs: [bdf], how: 'forced' });
  expect(result.stateAfter, log).toBe('running');
  expect(result.unbindMs, log).toBeLessThan(30_000);
});

// Enforces G71.
test('cards leave the host under their guest: after the button, without a word, and when nobody lets go', async () => {
  const [, ...cards] = lab.devices;
  const guest = await buildGuest('6.1', { modules: ['e1000e'], script: TURNS(cards.length) });
  const config = { ...guest, memory: MEMORY, cpus: 2, hotplugPorts: 2, rebootLimit: 0 };
  const answers: string[] = [];
  const onText = (text: string): void => {
    if (text.includes(BUTTON_WANTED)) void lab.monitor(`device_del ${cards[0]!.id}`).then((text) => answers.push(text));
  };
  const pulled = PULLED.map(({ how }, i): PulledCard => ({ bdf: cards[i]!.bdf, how }));
  const wish = { config, cards: pulled };
  const result = await runInside<OuterUnplugResult>(lab, 'outer-unplug', wish, { onText, timeoutMs: 9 * 60_000 });
  const log = `${tail(result.console)}\n${JSON.stringify(result.events)}\n${answers.join('')}`;
  say(`gone within ${result.goneMs.join(', ')} ms`);
  expect(result.exit, log).toEqual({ reason: 'shutdown' });
  for (const turn of pulled.keys()) expect(result.console, log).toContain(`${CARD_GONE} ${turn} `);
  const told = result.events.flatMap((event) => (event.type.startsWith('device') ? [event] : []));
  const expected = PULLED.flatMap(({ detached }, i) => {
    const { bdf } = pulled[i]!;
    return [
      { type: 'device-attached', bdfs: [bdf], port: 'hotplug1' },
      { type: 'device', bdf, label: `${bdf} 8086:10d3`, what: 'release-request' },
      { type: 'device-detach-requested', bdfs: [bdf], by: 'host' },
      { type: 'device-detached', bdfs: [bdf], how: detached },
    ];
  });
  expect(told, log).toEqual(expected);
  expect(warningsButReset(result.events), log).toEqual([]);
  expect(result.after.files, log).toEqual(result.before.files);
  expect(result.after.lockedMib, log).toBe(0);
  for (const ms of result.goneMs) expect(ms, log).toBeLessThan(30_000);
});
