/** The same thing very often: `inside/endurance.ts`, by the harness, on devices of one lab. */
import { afterAll, beforeAll, beforeEach, test } from 'vitest';
import type { Lab, LabOptions } from '../lab/index.ts';
import { passTests } from './support/harness-run.ts';
import { aliveLab, ONE_PROCESSOR, openTestLab } from './support/test-lab.ts';

const LAB: LabOptions = { ...ONE_PROCESSOR, kernel: '6.1', devices: ['edu', 'nvme'] };
const [EDU, NVME] = [0, 1];
const LONG_MS = 20 * 60_000;

let lab: Lab;

beforeAll(async () => {
  lab = await openTestLab(LAB);
});

beforeEach(async () => {
  lab = await aliveLab(lab, LAB);
});

afterAll(async () => {
  await lab?.close();
});

async function passTest(name: string, device: number): Promise<void> {
  await passTests(lab, 'endurance', name, { bdfs: [lab.devices[device]!.bdf], timeoutMs: LONG_MS });
}

test('a hundred times a card comes, works and goes', () => passTest('a hundred times', NVME), LONG_MS);

test(
  'a hundred resets of a controller at work, while another processor accesses it',
  () => passTest('a hundred resets', NVME),
  LONG_MS,
);

// Enforces I87.
test('a hundred thousand random operations of all processors', () => passTest('a hundred thousand', EDU), LONG_MS);
