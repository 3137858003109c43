/** Bare-metal payloads in one lab: the machine, and what a device is from inside a guest, without an operating system. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Lab, LabOptions } from '../lab/index.ts';
import { buildPayloads, type Payloads } from './bare/build.ts';
import type { JobRun, PayloadJob, PayloadRuns } from './bare/job.ts';
import { protectedChanges } from './support/host-config.ts';
import { aliveLab, openTestLab, runInside, say } from './support/test-lab.ts';

const LAB: LabOptions = { kernel: '6.1', devices: ['edu', 'nvme', 'e1000e'] };
const MEMORY_BYTES = 32 * 2 ** 20;
const LOOPS = 300;
const REBOOTS = 1;
const RESETS_AT_WORK = 5;
/** What takes longer is named. */
const SLOW_US = 300_000;
/** What it says before it hangs may take seconds in a lab that shares its processors. */
const HANG_MS = 15_000;
/** Random accesses of each processor. */
const OPERATIONS = 2000;
const STRESS = {
  args: { cpus: 2, operations: OPERATIONS },
  vm: { cpus: 2 },
  timeoutMs: 5 * 60_000,
} as const;

/** Jobs that a device makes possible, without the place of the payload and the device's address. */
type JobSpec = Omit<PayloadJob, 'kernel' | 'name'> & {
  readonly payload: string;
  readonly on?: 'edu' | 'nvme' | 'e1000e';
};

const WITHOUT_DEVICE: Readonly<Record<string, JobSpec>> = {
  'basics, 1 vCPU': { payload: 'basics', args: { cpus: 1, memory: MEMORY_BYTES } },
  'basics, 2 vCPUs': { payload: 'basics', args: { cpus: 2, memory: MEMORY_BYTES }, vm: { cpus: 2 } },
};
const WITH_DEVICE: Readonly<Record<string, JobSpec>> = {
  'pci of edu': { payload: 'pci', on: 'edu', args: { caps: '05' } },
  'pci of nvme': { payload: 'pci', on: 'nvme', args: { caps: '11,10,01' } },
  // STATUS does not change by itself, and this device has I/O ports, a ROM and the loss of its state in D3hot besides.
  'pci of e1000e': { payload: 'pci', on: 'e1000e', args: { caps: '01,05,10,11', probe: 8 } },
  'stress of edu': { payload: 'pci-stress', on: 'edu', ...STRESS },
  'edu-irq': { payload: 'edu-irq', on: 'edu', args: { loops: LOOPS } },
  'edu-dma': { payload: 'edu-dma', on: 'edu' },
  'edu-mmio': { payload: 'edu-mmio', on: 'edu' },
  'resets of nvme at work': {
    payload: 'nvme-reset',
    on: 'nvme',
    args: { cpus: 2, resets: RESETS_AT_WORK },
    vm: { cpus: 2 },
    timeoutMs: 60_000,
  },
  'nvme-msix': { payload: 'nvme-msix', on: 'nvme', args: { loops: LOOPS } },
};
const RESETS = ['triple-fault', 'reset-register'] as const;

let lab: Lab;
let runs: PayloadRuns;

beforeAll(async () => {
  const payloads = await buildPayloads();
  lab = await openTestLab(LAB);
  runs = await runAll(payloads).catch(async (error: unknown) => {
    const stalled = lab;
    lab = await aliveLab(stalled, LAB);
    if (lab === stalled) throw error;
    return runAll(payloads);
  });
});

afterAll(async () => {
  await lab?.close();
});

function runAll(payloads: Payloads): Promise<PayloadRuns> {
  // No payload has more than half of that.
  return runInside<PayloadRuns>(lab, '../bare/inside', jobs(payloads), { silenceMs: 60_000, timeoutMs: 9 * 60_000 });
}

function jobs(payloads: Payloads): PayloadJob[] {
  const ends = [...RESETS, 'power-off'].map((how): [string, JobSpec] => [
    how,
    { payload: 'reset', args: { how }, vm: { rebootLimit: REBOOTS } },
  ]);
  const faults = ['exception', 'hang'].map((how): [string, JobSpec] => [
    how,
    { payload: 'harness', args: { how }, ...(how === 'hang' ? { timeoutMs: HANG_MS } : {}) },
  ]);
  return [...Object.entries({ ...WITHOUT_DEVICE, ...WITH_DEVICE }), ...ends, ...faults].map(
    ([name, { payload, on, ...job }]) => {
      const bdf = lab.devices.find(({ model }) => model === on)?.bdf;
      return { name, kernel: payloads.get(payload)!, ...job, ...(bdf ? { device: bdf } : {}) };
    },
  );
}

function runOf(name: string): JobRun {
  const run = runs[name];
  if (!run || 'error' in run) throw new Error(run ? run.error : `${name} was not run`);
  return run;
}

test.each(Object.keys({ ...WITHOUT_DEVICE, ...WITH_DEVICE }))('%s: every test passes', (name) => {
  const { planned, results, metrics, distributions, exit, warnings, runMs, totalMs } = runOf(name);
  const measured = [
    ...Object.entries(metrics).map(([metric, { value, unit }]) => `${metric} ${value} ${unit}`),
    ...Object.entries(distributions).map(
      ([what, { unit, percentiles: at }]) => `${what} p50 ${at[50]}, p99 ${at[99]}, max ${at[100]} ${unit}`,
    ),
  ];
  const skipped = results.filter(({ verdict }) => verdict === 'skip');
  say(`${name}: ${results.length} tests in ${Math.round(runMs)} of ${Math.round(totalMs)} ms; ${measured.join(', ')}`);
  for (const { name: slow, tookUs = 0 } of results) {
    if (tookUs > SLOW_US) say(`  ${Math.round(tookUs / 1000)} ms: ${slow}`);
  }
  for (const skip of skipped) say(`  skipped: ${skip.name}: ${skip.reason}`);
  expect(results.filter(({ verdict }) => verdict === 'fail')).toEqual([]);
  expect(results).toHaveLength(planned!);
  expect(exit).toEqual({ reason: 'debug-exit', value: 0 });
  expect(warnings).toEqual([]);
});

// Enforces C23, I87.
test('stress of edu changed no bit of the host that is not the guest’s', () => {
  const { before, after } = runOf('stress of edu').hostConfig!;
  expect(protectedChanges(before, after)).toEqual([]);
});

test('an exception fails its test, and names its vector and place', () => {
  const { results, value } = runOf('exception');
  expect(value).toBe(0x80);
  expect(results.map(({ name, verdict }) => `${verdict} ${name}`)).toEqual([
    'pass first',
    'fail second',
    'fail (1 more)',
  ]);
  expect(results[1]!.reason).toMatch(/^exception 14 \(error 0x2\) at rip 0x2\w+, cr2 0x7f0000002000/);
});

test('a payload that hangs is stopped, and told as it was', () => {
  const { results, exit } = runOf('hang');
  expect(exit).toBeUndefined();
  expect(results.map(({ name, verdict }) => `${verdict} ${name}`)).toEqual([
    'pass first',
    'fail test 2 of 3',
    'fail (1 more)',
  ]);
  expect(results[1]!.reason).toBe(`no end within ${HANG_MS} ms`);
});

test.each(RESETS)('%s reboots, and the limit ends the run', (how) => {
  const { exit, console } = runOf(how);
  expect(exit).toEqual({ reason: 'reboot-limit', reboots: REBOOTS });
  expect(console.match(/^# boot$/gm)).toHaveLength(REBOOTS + 1);
});

test('ACPI power-off ends the run at once', () => {
  const { exit, console } = runOf('power-off');
  expect(exit).toEqual({ reason: 'shutdown' });
  expect(console).not.toContain('still here');
});

// Enforces D37.
test('a thousand accesses to a direct BAR cause no exit', () => {
  const { metrics, exits } = runOf('edu-mmio');
  expect(metrics['bar-accesses']!.value).toBeGreaterThan(1000);
  expect(exits.mmio).toBe(0);
});

test('interrupts and DMA of edu cause no exit either', () => {
  expect(runOf('edu-irq').exits.mmio).toBe(0);
  expect(runOf('edu-dma').exits.mmio).toBe(0);
});

// Enforces F63.
test('the IOMMU refused what edu sent astray, and the host says where', async () => {
  const { stdout } = await lab.exec('dmesg');
  const bdf = lab.devices.find(({ model }) => model === 'edu')!.bdf.slice('0000:'.length);
  const faults = stdout.split('\n').filter((line) => line.includes('DMAR:') && line.includes(bdf));
  // The first page after RAM.
  expect(faults.join('\n')).toContain(`fault addr 0x${MEMORY_BYTES.toString(16)} `);
});

// Enforces P13.
test('each access to the MSI-X table and its pending bits is one exit, and nothing else is', () => {
  const { metrics, exits } = runOf('nvme-msix');
  expect(exits.mmio).toBe(metrics['trapped-accesses']!.value);
});
