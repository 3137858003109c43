/** Tests that take all devices of the run at once. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { HostBdf } from '../../../native/types.ts';
import { e1000e } from '../../../passthrough/fixtures/devices.ts';
import { fakeGuests } from '../fakes/fake-guests.ts';
import { BDF, SECOND, spec, TestBench, verdicts } from '../fakes/test-bench.ts';
import type { BootOptions } from '../guests.ts';
import { hasCapability, isDevice } from '../needs.ts';

// Against hangs only: what waits for disks may take long on a busy machine.
vi.setConfig({ testTimeout: 60_000 });

/** In the same IOMMU group as {@link BDF}. */
const SIBLING = '0000:03:00.1' as HostBdf;
const ALL = { device: 'all' } as const;

let bench: TestBench;
beforeEach(() => {
  bench = new TestBench();
});
afterEach(() => {
  expect(bench.driver, 'the device is back on its host driver').toBe('e1000e');
  expect(bench.kernel.openFds()).toEqual([]);
  bench[Symbol.dispose]();
});

function driverOf(bdf: HostBdf): string | undefined {
  return bench.kernel.devices.get(bdf)!.driver;
}

test('it is run once, after the tests of each device, and guests have all of them in their order', async () => {
  const booted: BootOptions[] = [];
  const seen: string[][] = [];
  const run = await bench.run(
    [
      spec(
        'both',
        async ({ boot, devices }) => {
          seen.push(devices.map(({ bdf }) => bdf));
          await boot();
        },
        ALL,
      ),
      spec('each', ({ device, devices }) => void seen.push([device.bdf, ...devices.map(({ bdf }) => bdf)])),
      spec('none', ({ devices }) => void seen.push(devices.map(({ bdf }) => bdf)), { device: false }),
    ],
    {
      devices: bench.devices(SECOND, BDF),
      guests: fakeGuests([{ boot: (_, options) => void booted.push(options) }]),
    },
  );
  expect(run.tests.map(({ id, device, verdict }) => `${verdict} ${id}, ${device}`)).toEqual([
    'PASS suite/none, undefined',
    'PASS suite/each @ 8086:10d3, nic',
    'PASS suite/each @ 8086:10d3#2, nic-2',
    'PASS suite/both @ all, all devices',
  ]);
  expect(seen).toEqual([[], [SECOND, SECOND], [BDF, BDF], [SECOND, BDF]]);
  expect(booted.map(({ devices }) => devices)).toEqual([[SECOND, BDF]]);
});

test('the host checks each of them, and says which one', async () => {
  bench.kernel.files.addCommand(`/sys/bus/pci/devices/${SECOND}/reset`, () => {});
  const fault = 'DMAR: [DMA Write NO_PASID] Request device [09:00.0] fault addr 0x10000000 [fault reason 0x05]';
  const run = await bench.run([spec('wild', () => void bench.kernelLog.push(fault), ALL), spec('next', () => {})], {
    devices: bench.devices(BDF, SECOND),
  });
  const [record] = run.tests.filter(({ name }) => name === 'wild');
  expect(record).toMatchObject({ verdict: 'INFRA', reason: `nic-2: no IOMMU faults: ${fault}` });
  const names = record!.attempts[0]!.invariants.map(({ name }) => name);
  expect(names).toContain('nic: device answers');
  expect(names).toContain('nic-2: device answers');
});

test('one that cannot be used keeps it from being run', async () => {
  const gone = spec(
    'one leaves',
    ({ devices }) => {
      expect(devices[1]!.isAlive()).toBe(true);
      bench.kernel.devices.get(SECOND)!.config.hardware.fill(0xff);
    },
    ALL,
  );
  const run = await bench.run([gone, spec('next', () => {}, ALL), spec('last', () => {}, ALL)], {
    devices: bench.devices(BDF, SECOND),
  });
  expect(verdicts(run)).toEqual([
    expect.stringMatching(/^INFRA: nic-2: device answers/),
    expect.stringMatching(/^SKIP: not run: nic-2 is in quarantine since an earlier test/),
    expect.stringMatching(/^SKIP: not run: nic-2 is in quarantine since an earlier test/),
  ]);
  expect(run.devices.map(({ quarantine }) => quarantine !== undefined)).toEqual([false, true]);
});

test('needs hold for each, `device` is none, and without any device it is skipped', async () => {
  const tests = [
    spec('unmet', () => {}, { ...ALL, needs: [hasCapability('MSI-X'), isDevice('1b36:0010')] }),
    spec('asks for one', ({ device }) => void device.isAlive(), ALL),
  ];
  const run = await bench.run(tests, { devices: bench.devices(BDF, SECOND) });
  expect(verdicts(run)).toEqual([
    'SKIP: nic: the device is 8086:10d3, not 1b36:0010',
    "FAIL: this test was declared with { device: 'all' }: it has `devices`",
  ]);
  const without = await bench.run(tests, { devices: [] });
  expect(new Set(verdicts(without))).toEqual(new Set(['SKIP: no device was given (--device, --match, --lab)']));
  // For what is looked at after each test.
  bench.device().release();
});

test('a whole IOMMU group: none can be had alone, together they can, also after the test gave one back', async () => {
  bench.kernel.addPciDevice({ ...e1000e(SIBLING, 12), driver: 'e1000e' });
  expect(() => bench.devices(BDF)).toThrow(/IOMMU group 12/);
  expect(driverOf(BDF)).toBe('e1000e');
  const run = await bench.run(
    [spec('gives back', ({ devices }) => devices[1]!.detach(), ALL), spec('next', () => {})],
    {
      devices: bench.devices(BDF, SIBLING),
    },
  );
  expect(verdicts(run)).toEqual(['PASS', 'PASS', 'PASS']);
  expect(run.devices.map(({ givenBack }) => givenBack)).toEqual([true, true]);
  expect(driverOf(SIBLING)).toBe('e1000e');
});

test('a device that was reset after a test is not reset again before the next', async () => {
  const run = await bench.run([spec('one', () => {}), spec('two', ({ device }) => void device.reset())]);
  expect(run.devices[0]!.resets.map(({ when }) => when)).toEqual([
    ...['calibration', 'calibration'],
    'after test',
    ...['test', 'after test'],
  ]);
});
