/**
 * The same thing very often, for the harness: a card that comes and goes, resets of a device at work, a guest that does
 * anything. Run by guest-tests/endurance.test.ts.
 */
import assert from 'node:assert/strict';
import type { VmEvent } from '../../index.ts';
import { type Fixtures, isClass, isDevice, type PayloadOutcome, test } from '../harness/index.ts';
import { protectedChanges } from '../suites/support/protected-changes.ts';
import { eventsOf } from './events.ts';
import { type Holdings, settled } from './holdings.ts';
import { CARD_GONE, CARD_WORKS } from './marks.ts';
import { timed } from './timed.ts';

const LONG_MS = 20 * 60_000;
const CYCLES = 100;
const RESETS = 100;
const CPUS = 2;
/** Of each processor. */
const OPERATIONS = 50_000;
/** Far less than one guest's memory; most of it is what V8 keeps for later. */
const GROWTH_MIB = 24;
/** Of reachable objects: a hundred bytes for each operation would be more. */
const HEAP_GROWTH_MIB = 4;
const PATIENCE_MS = 60_000;

test('a hundred times a card comes, works and goes', { needs: isClass('nvme'), timeoutMs: LONG_MS }, async ({
  device: { bdf },
  payload,
  measure,
  log,
}) => {
  const attachMs: number[] = [];
  const detachMs: number[] = [];
  let events: readonly VmEvent[] = [];
  const held: Holdings[] = [];
  const { warnings } = await payload('slot', {
    args: { cycles: CYCLES },
    devices: [],
    hotplugPorts: 1,
    timeoutMs: LONG_MS,
    meanwhile: async (vm) => {
      events = eventsOf(vm);
      const hears = (mark: string): Promise<unknown> => vm.serial.waitFor(mark, { timeoutMs: PATIENCE_MS });
      await hears('GUEST-WAITS');
      for (let turn = 0; turn < CYCLES; turn++) {
        attachMs.push(await timed(() => vm.attachDevice(bdf)));
        await hears(`${CARD_WORKS} ${turn} `);
        detachMs.push(await timed(() => vm.detachDevice(bdf, { timeoutMs: PATIENCE_MS })));
        await hears(`${CARD_GONE} ${turn} `);
        // The first brings what stays with the VM, KVM's VFIO device.
        if (turn === 0 || turn === CYCLES - 1) held.push(await settled());
      }
    },
  });
  measure('attach', attachMs, { unit: 'ms', better: 'lower' });
  measure('detach', detachMs, { unit: 'ms', better: 'lower' });
  assert.deepEqual(warnings, []);
  for (const type of ['device-attached', 'device-detached']) {
    assert.equal(events.filter((event) => event.type === type).length, CYCLES);
  }
  expectNothingLeaked(held[0]!, held[1]!, log);
});

test('a hundred resets of a controller at work, while another processor accesses it', {
  needs: isClass('nvme'),
  timeoutMs: LONG_MS,
}, async (fixtures) => {
  const { metrics, report } = await endure(fixtures, 'nvme-reset', { resets: 1 }, { resets: RESETS });
  assert.equal(metrics.resets?.value, RESETS);
  const { resets } = report!.devices[0]!;
  assert.equal(resets.filter(({ when }) => when === 'guest').length, RESETS);
  assert.deepEqual(
    resets.filter(({ ok }) => !ok),
    [],
  );
});

test('a hundred thousand random operations of all processors', {
  needs: isDevice('1234:11e8'),
  timeoutMs: LONG_MS,
}, async (fixtures) => {
  const long = { operations: OPERATIONS, limit: LONG_MS };
  const { metrics } = await endure(fixtures, 'pci-stress', { operations: 200 }, long);
  assert.equal(metrics.operations?.value, CPUS * OPERATIONS);
});

type Args = Readonly<Record<string, number>>;

/** Runs a payload briefly, which loads what stays, and for long: everything passes, and the host is as it was. */
async function endure(
  { device, payload, log }: Fixtures,
  name: string,
  short: Args,
  long: Args,
): Promise<PayloadOutcome> {
  const configBefore = device.config();
  let configAfter = configBefore;
  const onExit = (): void => {
    configAfter = device.config();
  };
  const run = (args: Args) =>
    payload(name, { cpus: CPUS, describe: true, args: { cpus: CPUS, ...args }, timeoutMs: LONG_MS, onExit });
  await run(short);
  const before = await settled();
  const outcome = await run(long);
  expectNothingLeaked(before, await settled(), log);
  assert.deepEqual(protectedChanges(configBefore, configAfter), []);
  assert.deepEqual([outcome.exit, outcome.warnings], [{ reason: 'debug-exit', value: 0 }, []]);
  return outcome;
}

/** The harness has one for each guest until the test ends. */
const isNotConsole = (file: string): boolean => !file.endsWith('/console-N.log');

/** Nothing stays behind: no file, thread, locked byte, or memory. */
function expectNothingLeaked(before: Holdings, after: Holdings, log: Fixtures['log']): void {
  const [was, is] = [before, after].map(({ files, threads, residentMib, heapMib }) => {
    const [resident, heap] = [residentMib, heapMib].map((mib) => mib.toFixed(1));
    return `${files.length} files, ${threads} threads, ${resident} MiB, ${heap} of them heap`;
  });
  log(`before: ${was}; after: ${is}`);
  assert.deepEqual(after.files.filter(isNotConsole), before.files.filter(isNotConsole));
  assert.equal(after.threads, before.threads);
  assert.equal(after.lockedMib, 0);
  assert.ok(after.residentMib - before.residentMib < GROWTH_MIB, `${was}; ${is}`);
  assert.ok(after.heapMib - before.heapMib < HEAP_GROWTH_MIB, `${was}; ${is}`);
}
