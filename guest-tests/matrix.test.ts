/** The main job on a newer host: both kernels as guests, more vCPUs, and memory above 4 GiB. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Lab, LabOptions } from '../lab/index.ts';
import { TcpPeer } from './support/peer.ts';
import { aliveLab, openTestLab } from './support/test-lab.ts';
import { checkTraffic, ringsAbove4Gib, TRANSFER_BYTES } from './support/traffic-case.ts';

const HOST: LabOptions = { kernel: '6.12', devices: ['e1000e'], memoryMib: 9216 };

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

test('the host is 6.12 or newer', () => {
  const [major, minor] = lab.kernelVersion.split('.').map(Number);
  expect(major! * 1000 + minor!).toBeGreaterThanOrEqual(6012);
});

// Enforces F64.
test('Linux 6.12 with 4 vCPUs and 6 GiB, and DMA above 4 GiB', async () => {
  const { console } = await checkTraffic(lab, lab.devices[0]!.bdf, peer, { guest: '6.12', cpus: 4, memory: '6GiB' });
  // The rings themselves lie there; so do the packets, for Linux takes memory from the top first.
  const high = ringsAbove4Gib(console);
  expect(high).toHaveLength(2);
  for (const upperHalf of high) expect(upperHalf).toBeGreaterThan(0);
});

test('Linux 6.1 with 2 vCPUs', async () => {
  const { console } = await checkTraffic(lab, lab.devices[0]!.bdf, peer, { guest: '6.1', cpus: 2, memory: '512M' });
  expect(ringsAbove4Gib(console)).toEqual([0, 0]);
});
