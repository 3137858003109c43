/**
 * Every kind of device, assigned to a stock Linux guest whose driver does real work on it. One lab and one guest a batch.
 * With CAUSEWAY_MATRIX=FILE in the environment QEMU does the same beside, and both are written to that file.
 */
import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { guestKernel, type Lab, openLab, qemu } from '../lab/index.ts';
import { BATCHES, type Batch, guestAddresses } from './device-matrix/cases.ts';
import { type MatrixFacts, type MatrixResults, matrixDocument } from './device-matrix/document.ts';
import { COMMON_MODULES, MATRIX_CMDLINE, matrixScript } from './device-matrix/guest-script.ts';
import { mapWc } from './device-matrix/map-wc.ts';
import { MONITORS, type Monitor, monitorRun } from './device-matrix/monitors.ts';
import { type MatrixRunResult, type Outcome, outcomes } from './inside/matrix-observation.ts';
import { buildGuest } from './support/guests.ts';
import { TcpPeer } from './support/peer.ts';
import { ONE_PROCESSOR, runInside, say, tail } from './support/test-lab.ts';

const SERIES = '6.1';
const LARGE_BYTES = 4 * 1024 * 1024;
const SMALL_BYTES = 64 * 1024;
/** What slips through KVM's counters between two marks, an operation: an interrupt of the console's here and there. */
const NOISE_EXITS = 1;
const documentFile = process.env.CAUSEWAY_MATRIX;
const monitors: readonly Monitor[] = documentFile ? MONITORS : ['causeway'];

interface Peers {
  readonly large: TcpPeer;
  readonly small: TcpPeer;
}

const results: Record<string, Record<Monitor, Record<string, Outcome>>> = {};
let facts: MatrixFacts | undefined;

async function runBatch(lab: Lab, monitor: Monitor, batch: Batch, peers: Peers): Promise<Record<string, Outcome>> {
  const modules = new Set([...COMMON_MODULES, ...batch.cases.flatMap(({ driver }) => driver?.module ?? [])]);
  const script = matrixScript(batch, peers);
  const guest = await buildGuest(
    SERIES,
    { modules: [], spareModules: [...modules], files: { '/bin/map-wc': { data: await mapWc(), mode: 0o755 } }, script },
    MATRIX_CMDLINE,
  );
  const bdfs = lab.devices.flatMap(({ functions }) => functions);
  const placed = guestAddresses(batch.cases).map((address, i) => ({ address, bdf: bdfs[i]! }));
  const run = monitorRun(monitor, await qemu(batch.qemu), guest, placed);
  const { moments, console, complaints } = await runInside<MatrixRunResult>(lab, 'device-matrix', run, {
    timeoutMs: 10 * 60_000,
  });
  const found = outcomes(
    batch.cases.map(({ name }) => name),
    moments,
  );
  for (const [name, outcome] of Object.entries(found)) say(`${monitor}: ${name}: ${JSON.stringify(outcome)}`);
  if (moments.at(-1)?.word !== 'end') say(tail(`${console}\n${complaints}`));
  return found;
}

/** Which devices are not what their cases are about. */
async function impostors(lab: Lab, { cases }: Batch): Promise<string[]> {
  const bdfs = lab.devices.flatMap(({ functions }) => functions);
  const found: string[] = [];
  for (const [i, { name, isReally }] of cases.entries()) {
    if (!isReally) continue;
    const { code } = await lab.exec(`cd /sys/bus/pci/devices/${bdfs[i]} && ${isReally}`, { timeoutMs: 30_000 });
    if (code !== 0) found.push(name);
  }
  return found;
}

describe.each(BATCHES)('$name', (batch) => {
  let peers: Peers;
  const found = { causeway: {}, qemu: {} } as Record<Monitor, Record<string, Outcome>>;
  let uploads: TcpPeer['uploads'] = [];
  let wrong: readonly string[] = [];

  beforeAll(async () => {
    peers = { large: await TcpPeer.listen(LARGE_BYTES), small: await TcpPeer.listen(SMALL_BYTES) };
    await using lab = await openLab({
      ...ONE_PROCESSOR,
      devices: batch.cases.flatMap(({ device }) => device ?? []),
      log: say,
      ...(batch.qemu ? { qemu: batch.qemu } : {}),
    });
    wrong = await impostors(lab, batch);
    for (const monitor of monitors) {
      found[monitor] = await runBatch(lab, monitor, batch, peers);
      if (monitor === 'causeway') uploads = [...peers.small.uploads, ...peers.large.uploads];
    }
    results[batch.name] = found;
    facts = {
      host: `Linux ${lab.kernelVersion}`,
      guest: `Linux ${(await guestKernel(SERIES)).version}`,
      qemu: (await qemu(batch.qemu)).version,
    };
  });

  afterAll(async () => {
    for (const peer of Object.values(peers ?? {})) await peer[Symbol.asyncDispose]();
  });

  test.each(batch.cases.map((one) => [one.name, one.about, one] as const))('%s: %s', (name, _about, one) => {
    const outcome = found.causeway[name]!;
    expect(outcome).toMatchObject({ works: true });
    if (one.interrupts) expect(outcome.interrupts).toContain(one.interrupts);
  });

  const combining = batch.cases.filter(({ work }) => work === 'memory' || work === 'screen').map(({ name }) => name);
  // Enforces H77.
  test.each(combining)('%s: the guest has its BAR write-combining, and its stores cost no exit', (name) => {
    // The guest works only if it finds the BAR in its kernel's list of memory types as it asked for it.
    expect(found.causeway[name]).toMatchObject({ works: true });
    expect(found.causeway[name]!.exitsPerOperation).toBeLessThanOrEqual(NOISE_EXITS);
  });

  test('each device is what its case is about', () => expect(wrong).toEqual([]));

  test('what the cards sent arrived whole', () => {
    const cards = batch.cases.filter(({ work }) => work === 'nic').sort((a, b) => Number(!!b.slow) - Number(!!a.slow));
    expect(uploads).toEqual(
      cards.map(({ slow }) => {
        const { sha256, bytes } = slow ? peers.small : peers.large;
        return { sha256, bytes: bytes.length };
      }),
    );
  });
});

afterAll(() => {
  if (documentFile && facts) writeFileSync(documentFile, matrixDocument(results as MatrixResults, facts));
});
