/**
 * Tests for `causeway test` that go wrong on purpose, run by guest-tests/harness.test.ts in the lab. Their names tell the
 * verdict.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hasReset, test } from '../harness/index.ts';

const MINUTE_MS = 60_000;
/** Folder of `oops.ko` and `hang.ko`, made before the lab was opened. */
const MODULES = process.env.CAUSEWAY_BROKEN_MODULES ?? '';

test('PASS: config space from both sides, a reset, the host driver and back', async ({ device, boot, log }) => {
  const ids = device.readConfig(0, 4);
  const guest = await boot({ modules: [] });
  const seen = await guest.must("cat /sys/bus/pci/devices/*/vendor /sys/bus/pci/devices/*/device | tr -d '\\n'");
  assert.ok(seen.includes((ids & 0xffff).toString(16)) && seen.includes((ids >>> 16).toString(16)), seen);
  await guest.shutdown();
  log(device.reset().method);
  device.detach();
  assert.equal(device.driver(), 'e1000e');
  device.reattach();
  assert.equal(device.driver(), 'vfio-pci');
});

test('PASS: the reset that the kernel prefers', { needs: hasReset() }, ({ device }) => {
  assert.deepEqual(device.reset({ method: device.facts.resetMethods[0]! }).changed, []);
});

test('CRASH: a driver oopses', async ({ boot }) => {
  const guest = await boot({ modules: [], files: { '/broken.ko': { from: join(MODULES, 'oops.ko') } } });
  await guest.must('insmod /broken.ko');
});

test('PASS: the console is flooded', async ({ boot }) => {
  const guest = await boot({ modules: [] });
  assert.equal(await guest.must('for i in $(seq 300); do echo "<1>flood $i" > /dev/kmsg; done; echo whole'), 'whole');
});

test('HANG: interrupts are off for ever', { timeoutMs: 4 * MINUTE_MS }, async ({ boot }) => {
  const guest = await boot({ modules: [], files: { '/broken.ko': { from: join(MODULES, 'hang.ko') } } });
  await guest.run('insmod /broken.ko', { timeoutMs: 3 * MINUTE_MS });
});

test('TIMEOUT: it never gets ready', async ({ boot }) => {
  await boot({ modules: [], cmdline: 'rdinit=/bin/cat', readyTimeoutMs: 30_000 });
});

test('INFRA: the device goes away', ({ device }) => {
  writeFileSync(`/sys/bus/pci/devices/${device.bdf}/remove`, '1');
});

test('PASS: the device is found again', async ({ device }) => {
  assert.ok(device.isAlive());
  assert.equal(device.driver(), 'vfio-pci');
});

// The harness itself, not a guest: the run is taken up after it.
test('INFRA: the harness is killed', { device: false }, () => {
  process.kill(process.pid, 'SIGKILL');
});
