/** A VM's life and ends: reboots, starts and stops, pauses, the power button, signals. The device survives them all. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Lab, LabOptions } from '../lab/index.ts';
import type { CyclesResult } from './inside/cycles.ts';
import type { Holdings } from './inside/holdings.ts';
import { GUEST_READY } from './inside/marks.ts';
import type { PausesResult } from './inside/pauses.ts';
import { randomSource } from './inside/random.ts';
import type { RebootsResult } from './inside/reboots.ts';
import type { Moment, SignalResult, SignalsResult } from './inside/signals.ts';
import { buildGuest, type Guest } from './support/guests.ts';
import { CLI } from './support/programs.ts';
import { aliveLab, ONE_PROCESSOR, openTestLab, runInside, say, tail } from './support/test-lab.ts';

const REBOOTS = 10;
const CYCLES = 20;
const PAUSES = 25;
const KILLS = 10;
/** The latest kill; a guest is up and uses its card well before. */
const LATEST_KILL_MS = 14_000;
/** Pinning memory is what costs time here, and these guests need little. */
const MEMORY = '192M';

/** A guest that boots says something sooner. */
const SILENCE_MS = 90_000;

/** The check that the card works: there, leased, answered. */
const CHECK_CARD = `
[ -e /sys/class/net/eth0/device/vendor ] && udhcpc -i eth0 -n -q -t 20 -T 1 && ping -A -c 3 -q 10.0.2.2 && echo ${GUEST_READY}
`;

/** Beyond this it is not slow but stuck: times in an emulated host vary tenfold. */
const HANG_MS = 30_000;
const HOST: LabOptions = { ...ONE_PROCESSOR, kernel: '6.1', devices: ['e1000e'] };

let lab: Lab;
let bdf: string;
/** Says that its card works, and then pings on. */
let pinging: Guest;

beforeAll(async () => {
  pinging = await buildGuest('6.1', {
    modules: ['e1000e'],
    script: `${CHECK_CARD}\nping -i 0.01 -q 10.0.2.2 > /dev/null`,
  });
  lab = await openTestLab(HOST);
  bdf = lab.devices[0]!.bdf;
});

beforeEach(async () => {
  lab = await aliveLab(lab, HOST);
});

afterAll(async () => {
  await lab?.close();
});

// Enforces P38.
test('the guest reboots ten times in a row and finds its card working each time', async () => {
  const guest = await buildGuest('6.1', { modules: ['e1000e'], script: CHECK_CARD, ending: 'reboot' });
  const config = { ...guest, memory: MEMORY, cpus: 2, devices: [bdf], rebootLimit: REBOOTS };
  const result = await runInside<RebootsResult>(lab, 'reboots', config, { timeoutMs: 9 * 60_000 });
  const log = tail(result.console);
  expect(result, log).toMatchObject({ exit: 'reboot-limit', reboots: REBOOTS, warnings: [] });
  expect(result.events).toEqual(Array.from({ length: REBOOTS }, (_, i) => i + 1));
  expect(count(result.console, GUEST_READY), log).toBe(REBOOTS + 1);
  expect(count(result.console, 'lease: eth0 10.0.2.'), log).toBe(REBOOTS + 1);
});

// Enforces G74.
test('twenty starts and stops in one process leave no file, thread or memory behind, nor lose the card', async () => {
  const config = { ...pinging, memory: MEMORY, cpus: 2, devices: [bdf], rebootLimit: 0 };
  const { holdings, lastConsole } = await runInside<CyclesResult>(
    lab,
    'cycles',
    { config, cycles: CYCLES, seed: 20 },
    { timeoutMs: 8 * 60_000, silenceMs: SILENCE_MS },
  );
  const [first, ...later] = holdings as [Holdings, ...Holdings[]];
  const memory = holdings.map(({ residentMib, availableMib }) => [Math.round(residentMib), Math.round(availableMib)]);
  say(`resident and available MiB: ${memory.join('; ')}`);
  expect(later).toHaveLength(CYCLES);
  for (const held of later) {
    expect(held.files).toEqual(first.files);
    expect(held.threads).toBe(first.threads);
    expect(held.lockedMib).toBe(0);
  }
  // One guest's RAM lost would be 192 MiB; what grows slowly shows between the halves.
  expect(mean(later.slice(-5)) - mean(later.slice(0, 5)), `${memory}`).toBeLessThan(16);
  expect(later.at(-1)!.residentMib - first.residentMib, `${memory}`).toBeLessThan(48);
  expect(first.availableMib - later.at(-1)!.availableMib, `${memory}`).toBeLessThan(128);
  expect(lastConsole).toContain(GUEST_READY);
});

test('pausing at random moments loses nothing, and the power button shuts the guest down in order', async () => {
  const script = `
mkdir -p /etc/acpi/PWRF /var/run
printf '#!/bin/sh\\necho POWER-BUTTON\\nkill $(pidof acpid)\\n' > /etc/acpi/PWRF/00000080
chmod +x /etc/acpi/PWRF/00000080
udhcpc -i eth0 -n -q -t 60 -T 1 && ping -A -c 500 -q 10.0.2.2
acpid -f -d 2> /run/acpid &
sleep 2
echo ${GUEST_READY}
wait $!
echo ORDERLY
`;
  const modules = ['e1000e', 'button', 'evdev'];
  const config = { ...(await buildGuest('6.1', { modules, script })), memory: MEMORY, cpus: 2, devices: [bdf] };
  const result = await runInside<PausesResult>(lab, 'pauses', { config, pauses: PAUSES, seed: 3 });
  const log = tail(result.console);
  say(`a pause took hold after ${Math.max(...result.latenciesMs)} ms at most`);
  expect(result.latenciesMs, log).toHaveLength(PAUSES);
  expect(result.exitsWhilePaused, log).toEqual(Array.from({ length: PAUSES }, () => 0));
  expect(result.bytesWhilePaused, log).toEqual(Array.from({ length: PAUSES }, () => 0));
  expect(result.wrongState).toBe('STATE');
  expect(result.console, log).toContain('500 packets transmitted, 500 packets received, 0% packet loss');
  expect(result.console, log).toMatch(/POWER-BUTTON[\s\S]*ORDERLY[\s\S]*GUEST-STATUS: 0/);
  expect(result.exit, log).toBe('shutdown');
});

// Enforces G73.
test('kill -9 at any moment: device and group are free, and the next start works', async () => {
  const random = randomSource(9);
  const moments = Array.from({ length: KILLS }, (_, i): Moment => {
    // One in each tenth of the time, so that creation, boot and traffic are all met.
    return { signal: 'SIGKILL', afterMs: Math.round(((i + random()) * LATEST_KILL_MS) / KILLS) };
  });
  const { ends, idle } = await endBySignals(moments);
  for (const end of ends) {
    expect(end, describeEnd(end)).toMatchObject({ signal: 'SIGKILL', group: 'ok', device: idle });
  }
  await expectWorkingStart();
});

// Enforces G72.
test.each([
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)('%s gives the device back before the process ends with %d', async (signal, code) => {
  const moments: Moment[] = [
    { signal, afterMs: 100, afterOpen: true },
    { signal, afterMs: 500, afterText: GUEST_READY },
  ];
  const { ends, idle } = await endBySignals(moments);
  for (const end of ends) {
    expect(end, describeEnd(end)).toMatchObject({ code, group: 'ok', sawText: true, device: idle });
    expect(end.stderr).toContain(`${signal}: giving the devices back`);
    expect(end.endedAfterMs, describeEnd(end)).toBeLessThan(HANG_MS);
  }
  await expectWorkingStart();
});

function runArguments(guest: Guest): string[] {
  const options = { kernel: guest.kernel, initrd: guest.initrd, cmdline: guest.cmdline, memory: MEMORY, device: bdf };
  return ['run', ...Object.entries(options).flatMap(([name, value]) => [`--${name}`, value])];
}

function endBySignals(moments: readonly Moment[]): Promise<SignalsResult> {
  const command = [process.execPath, CLI, ...runArguments(pinging)];
  return runInside<SignalsResult>(lab, 'signals', { command, bdf, moments });
}

/** A new process gets the card, and the card works. */
async function expectWorkingStart(): Promise<void> {
  const { ends } = await endBySignals([{ signal: 'SIGTERM', afterMs: 0, afterText: GUEST_READY }]);
  expect(ends[0], describeEnd(ends[0]!)).toMatchObject({ code: 143, group: 'ok', sawText: true });
}

function describeEnd(end: SignalResult): string {
  return `${end.moment.signal} after ${end.moment.afterMs} ms, at "${end.lastLine}": ${end.stderr}`;
}

function count(text: string, part: string): number {
  return text.split(part).length - 1;
}

function mean(holdings: readonly Holdings[]): number {
  return holdings.reduce((sum, { residentMib }) => sum + residentMib, 0) / holdings.length;
}
