/** Every suite that comes with Causeway, on three devices of one emulated host: what applies to a device passes on it. */
import { beforeAll, expect, test } from 'vitest';
import { GREEN, type RunRecord, type TestRecord } from './harness/model.ts';
import { causewayTest, describeTest } from './support/harness-run.ts';
import { say } from './support/test-lab.ts';

/** By their keys in the run. */
const DEVICE = { edu: '1234:11e8', nvme: '1b36:0010', e1000e: '8086:10d3' } as const;
const MODELS = Object.keys(DEVICE) as (keyof typeof DEVICE)[];
/** One emulated processor; see ONE_PROCESSOR of test-lab.ts. */
const LAB_WORDS = [...MODELS.flatMap((model) => ['--lab', model]), '--lab-cpus', '1', '--retries', '1'];
/** Suites that have something for each device. */
const FOR_ALL = ['pci', 'reset', 'stress'] as const;
/** And those that have something of its own for it. */
const OWN: Readonly<Record<keyof typeof DEVICE, readonly string[]>> = {
  edu: ['dma', 'irq', 'mmio'],
  nvme: ['dma', 'irq', 'mmio', 'nvme'],
  e1000e: ['irq', 'mmio', 'nic'],
};

/** Five minutes or six on a quiet machine. */
const LIMIT_MS = 25 * 60_000;

let run: RunRecord;
let code: number;

beforeAll(async () => {
  ({ run, code } = await causewayTest(LAB_WORDS));
  for (const one of run.tests) say(`${describeTest(one).slice(0, 160)} (${Math.round(one.durationMs / 1000)} s)`);
}, LIMIT_MS);

function passed(suite: string, device?: string): readonly TestRecord[] {
  return run.tests.filter(
    (one) =>
      one.suite === suite &&
      (one.verdict === 'PASS' || one.verdict === 'FLAKY') &&
      (device === undefined || one.id.includes(device)),
  );
}

/** The step of this name was carried out, and passed. */
function expectStep(suite: string, device: string, name: string): void {
  const steps = passed(suite, device).flatMap(({ attempts }) => attempts.at(-1)!.subtests);
  expect(steps.find((step) => step.name === name)?.verdict, `${suite}: ${name}`).toBe('PASS');
}

test('nothing is red', () => {
  expect(run.tests.filter(({ verdict }) => !GREEN.includes(verdict)).map(describeTest)).toEqual([]);
  expect(code).toBe(0);
  expect(run.devices.map(({ givenBack }) => givenBack)).toEqual([true, true, true]);
});

test('the machine without a device', () => {
  expect(passed('machine')).toHaveLength(7);
});

test.each(MODELS)('what is made for it passes: %s', (model) => {
  const suites = [...FOR_ALL, ...OWN[model]];
  expect(suites.filter((suite) => passed(suite, DEVICE[model]).length === 0)).toEqual([]);
});

// Enforces C23, I87.
test.each(MODELS)('random accesses change no bit of the host that is not the guest’s: %s', (model) => {
  expectStep('pci', DEVICE[model], 'no bit of the hardware changed that is not the guest’s');
});

// Enforces D37.
test('a thousand accesses to a direct BAR cause no exit, nor do interrupts and DMA', () => {
  expectStep('mmio', DEVICE.edu, 'a BAR that is mapped costs no exit');
  expectStep('irq', DEVICE.edu, 'none of them costs an exit');
  expectStep('dma', DEVICE.edu, 'none of it costs an exit');
});

// Enforces F63.
test('the IOMMU refused what edu sent astray, and the host says where', () => {
  expectStep('dma', DEVICE.edu, 'the IOMMU refused what went astray, and the host names device and address');
});

// Enforces P13.
test('each access to the MSI-X table and its pending bits is one exit, and nothing else is', () => {
  expectStep('irq', DEVICE.nvme, 'each access to table and pending bits is one exit, and nothing else is');
});
