/**
 * A batch of the matrix, for the harness: one stock guest with all its devices, whose drivers work one after the other; a
 * step for each. Run by guest-tests/device-matrix.test.ts.
 */
import assert from 'node:assert/strict';
import { guestKernel } from '../../lab/index.ts';
import { guestImage, PEER_VARIABLE } from '../guest/index.ts';
import { type Fixtures, type LinuxGuest, test } from '../harness/index.ts';
import { chosenBatch, type DeviceCase, guestAddresses } from './cases.ts';
import { kvmExits } from './exit-count.ts';
import { MATRIX_WORDS, matrixScript, NOTHING, SCRIPT_PATH, SPARE_MODULES } from './guest-script.ts';
import { mapWc } from './map-wc.ts';
import { type Mark, runUnderQemu } from './qemu-guest.ts';
import { CAUSEWAY, exitsMetric, QEMU, QEMU_VARIABLE, readyMetric } from './results.ts';

const OPTIONS = { device: 'all', timeoutMs: 10 * 60_000 } as const;
const PART_MS = 120_000;
const MEMORY = '512M';
const SERIES = '6.1';

const { cases } = chosenBatch();

/** What one device did, in words of the guest's script. */
interface Turn {
  /** Two times of the guest's clock, in seconds. */
  readonly ready: string;
  /** Number of operations, and the exits that all of them took. */
  readonly operations: number;
  readonly exits: number;
  /** Number and kind of interrupts. */
  readonly check: string;
}

test(CAUSEWAY, OPTIONS, async ({ devices, boot, step, log, measure }) => {
  assert.equal(devices.length, cases.length, 'devices of the run');
  const guest = await boot({
    kernel: SERIES,
    memory: MEMORY,
    cmdline: MATRIX_WORDS,
    modules: [],
    spareModules: SPARE_MODULES,
    files: await files(),
  });
  await guest.must('matrix begin');
  for (const [i, one] of cases.entries()) {
    await step(one.name, async () => {
      assert.ok(one.isReally?.(devices[i]!.facts) ?? true, `the device is not what this is about: ${one.about}`);
      tell({ log, measure }, one, await workIn(guest, one));
    });
  }
});

// `config`: QEMU lets a guest write registers that no reset clears, such as PCS of an AHCI controller.
test(QEMU, { ...OPTIONS, needs: isAskedFor, tolerates: ['config'] }, async ({
  devices,
  signal,
  step,
  log,
  measure,
}) => {
  const kernel = await guestKernel(SERIES);
  await using image = await guestImage({ kernel, modules: SPARE_MODULES, files: await files() });
  const addresses = guestAddresses(cases);
  const guest = {
    kernel: kernel.vmlinuz,
    initrd: image.path,
    cmdline: `console=ttyS0 quiet panic=-1 pci=noearly ${MATRIX_WORDS} rdinit=${SCRIPT_PATH} -- all`,
    memory: MEMORY,
    devices: devices.map(({ bdf }, i) => ({ bdf, address: addresses[i]! })),
  };
  const marks = await runUnderQemu(guest, signal, (text) => log(text.trimEnd()));
  for (const one of cases) await step(one.name, () => tell({ log, measure }, one, turnOf(one, marks)));
});

function isAskedFor(): string | undefined {
  return process.env[QEMU_VARIABLE] ? undefined : `not asked for (${QEMU_VARIABLE})`;
}

async function files() {
  const peer = process.env[PEER_VARIABLE];
  assert.ok(peer, `${PEER_VARIABLE} must name the other end of transfers, as address:port of the guest's network`);
  return {
    [SCRIPT_PATH]: { data: matrixScript(cases, peer), mode: 0o755 },
    '/bin/map-wc': { from: await mapWc(), mode: 0o755 },
  };
}

/** Exits are counted while the guest is silent before and after; its serial ports, which the agent uses, are left out. */
async function workIn(guest: LinuxGuest, { name }: DeviceCase): Promise<Turn> {
  const part = (what: string) => guest.must(`matrix ${name} ${what}`, { timeoutMs: PART_MS });
  const exits = () => kvmExits(process.pid) - guest.vm.exits().console;
  const ready = await part('ready');
  const before = exits();
  const operations = Number(await part('work'));
  return { ready, operations, exits: exits() - before, check: await part('check') };
}

/** The same by the marks on a console. What the silence between two of them costs is no work. */
function turnOf({ name }: DeviceCase, marks: readonly Mark[]): Turn {
  const find = (whose: string, word: string) => marks.find((mark) => mark.name === whose && mark.word === word);
  const exitsOf = (whose: string) => (find(whose, 'counted')?.exits ?? 0) - (find(whose, 'ready')?.exits ?? 0);
  const failed = find(name, 'failed');
  if (failed) throw new Error(failed.value);
  const done = find(name, 'done');
  if (!done) throw new Error('the guest never came to it');
  return {
    ready: find(name, 'ready')!.value,
    operations: Number(find(name, 'counted')!.value),
    exits: Math.max(0, exitsOf(name) - exitsOf(NOTHING)),
    check: done.value,
  };
}

function tell({ log, measure }: Pick<Fixtures, 'log' | 'measure'>, { name, interrupts }: DeviceCase, turn: Turn): void {
  const [from, to] = turn.ready.split(' ').map(Number) as [number, number];
  measure(readyMetric(name), to - from, { unit: 's', better: 'lower' });
  measure(exitsMetric(name), turn.exits / turn.operations, { unit: 'exits', better: 'lower' });
  log(`${name}: ${turn.operations} operations, interrupts: ${turn.check || 'none'}`);
  if (interrupts) assert.match(turn.check, new RegExp(`^[1-9]\\d* ${interrupts}$`));
}
