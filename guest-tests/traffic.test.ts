/** The main job, end to end: a stock guest with two vCPUs works through a card that Causeway assigned to it. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Lab, LabOptions } from '../lab/index.ts';
import { TcpPeer } from './support/peer.ts';
import { aliveLab, openTestLab } from './support/test-lab.ts';
import { checkTraffic, TRANSFER_BYTES } from './support/traffic-case.ts';

const HOST: LabOptions = { kernel: '6.1', devices: ['e1000e'] };

let lab: Lab;
let peer: TcpPeer;

beforeAll(async () => {
  peer = await TcpPeer.listen(TRANSFER_BYTES);
  lab = await openTestLab(HOST);
});

beforeEach(async () => {
  lab = await aliveLab(lab, HOST);
});

afterAll(async () => {
  await lab?.close();
  await peer?.[Symbol.asyncDispose]();
});

// Enforces D37.
test('Linux 6.1 with 2 vCPUs: lease, pings, transfers, no exit to user space', async () => {
  const { report } = await checkTraffic(lab, lab.devices[0]!.bdf, peer, { guest: '6.1', cpus: 2, memory: '512M' });
  expect(report.devices[0]?.bars.every(({ areas }) => areas.length > 0)).toBe(true);
});

test('Linux 6.12 with 1 vCPU on the same host, which got its card back', async () => {
  await checkTraffic(lab, lab.devices[0]!.bdf, peer, { guest: '6.12', cpus: 1, memory: '512M' });
});
