/** The main job on a newer host: both kernels as guests, more vCPUs, and memory above 4 GiB. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Lab, LabOptions } from '../lab/index.ts';
import { prepareLinux } from './guest/index.ts';
import { aliveLab, openTestLab } from './support/test-lab.ts';
import { passTraffic } from './support/traffic-run.ts';

const HOST: LabOptions = { kernel: '6.12', devices: ['e1000e'], memoryMib: 9216 };

let lab: Lab;

beforeAll(async () => {
  await prepareLinux(['6.1', '6.12']);
  lab = await openTestLab(HOST);
});

beforeEach(async () => {
  lab = await aliveLab(lab, HOST);
});

afterAll(async () => {
  await lab?.close();
});

test('the host is 6.12 or newer', () => {
  const [major, minor] = lab.kernelVersion.split('.').map(Number);
  expect(major! * 1000 + minor!).toBeGreaterThanOrEqual(6012);
});

// Enforces F64.
test('Linux 6.12 with 4 vCPUs and 6 GiB, and DMA above 4 GiB', async () => {
  // The rings themselves lie there; so do the packets.
  expect(await passTraffic(lab, 'Linux 6.12, vCPUs: 4, 6GiB')).toContain('the card’s rings are above 4 GiB');
});

test('Linux 6.1 with 2 vCPUs', async () => {
  expect(await passTraffic(lab, 'Linux 6.1, vCPUs: 2, 512M')).toContain('the card’s rings are below 4 GiB');
});
