/** The main job, end to end: a stock guest works through a card that Causeway assigned to it. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Lab, LabOptions } from '../lab/index.ts';
import { prepareLinux } from './guest/index.ts';
import { aliveLab, openTestLab } from './support/test-lab.ts';
import { passTraffic } from './support/traffic-run.ts';

const HOST: LabOptions = { kernel: '6.1', devices: ['e1000e'] };

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

// Enforces D37.
test('Linux 6.1 with 2 vCPUs: lease, pings, transfers, no exit to user space', async () => {
  expect(await passTraffic(lab, 'Linux 6.1, vCPUs: 2, 512M')).toContain('none of it is an exit');
});

test('Linux 6.12 with 1 vCPU on the same host, which got its card back', async () => {
  await passTraffic(lab, 'Linux 6.12, vCPUs: 1, 512M');
});
