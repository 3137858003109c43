/**
 * Tests for `causeway test` that go wrong on purpose, run by guest-tests/harness.test.ts in the lab. Their names tell the
 * verdict.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { hasReset, test } from '../harness/index.ts';

const MINUTE_MS = 60_000;
/** Folder of `oops.ko` and `hang.ko`, made before the lab was opened. */
const MODULES = process.env.CAUSEWAY_BROKEN_MODULES ?? '';
const CACHE_LINE_SIZE = 0x0c;
/** The low half of BAR 0. */
const BAR0 = 0x10;

test('PASS: a guest, two floods, a reset, the host driver and back', async ({ device, boot, log, step }) => {
  const ids = device.readConfig(0, 4);
  const guest = await boot({ modules: [] });
  const seen = await guest.must("cat /sys/bus/pci/devices/*/vendor /sys/bus/pci/devices/*/device | tr -d '\\n'");
  assert.ok(seen.includes((ids & 0xffff).toString(16)) && seen.includes((ids >>> 16).toString(16)), seen);
  await step('the console is flooded', async () => {
    assert.equal(await guest.must('for i in $(seq 300); do echo "<1>flood $i" > /dev/kmsg; done; echo whole'), 'whole');
  });
  await step('somebody writes into the line of the results', async () => {
    const torn = 'for i in $(seq 40); do printf "[ 1.0] torn" > /dev/ttyS1; done & seq 1000; wait';
    assert.equal((await guest.must(torn)).split('\n').length, 1000);
  });
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

test('FAIL: a result is torn', async ({ foreign, host }) => {
  const text = 'TAP version 13\n1..2\nok 1 - whole\no[   12.345678] usb 1-1: new device\nk 2 - torn\n';
  await foreign({ run: () => host.exec(['printf', '%s', text]) }, 'torn');
});

test('HANG: interrupts are off for ever', { timeoutMs: 4 * MINUTE_MS }, async ({ boot }) => {
  const files = { '/broken.ko': { from: join(MODULES, 'hang.ko') } };
  const guest = await boot({ modules: [], silenceMs: 20_000, files });
  await guest.run('insmod /broken.ko', { timeoutMs: 3 * MINUTE_MS });
});

test('TIMEOUT: it never gets ready', async ({ boot }) => {
  await boot({ modules: [], cmdline: 'rdinit=/bin/cat', readyTimeoutMs: 15_000 });
});

test('INFRA: the device goes away', ({ device }) => {
  writeFileSync(`/sys/bus/pci/devices/${device.bdf}/remove`, '1');
});

test('PASS: the device is found again', async ({ device }) => {
  assert.ok(device.isAlive());
  assert.equal(device.driver(), 'vfio-pci');
});

let clean: Uint8Array | undefined;

test('PASS: it leaves the device dirty', ({ device }) => {
  clean = device.config();
  const config = openSync(`/sys/bus/pci/devices/${device.bdf}/config`, 'r+');
  for (const at of [CACHE_LINE_SIZE, BAR0 + 3]) writeSync(config, Uint8Array.of(clean[at]! ^ 0x10), 0, 1, at);
  closeSync(config);
  assert.notEqual(device.readConfig(CACHE_LINE_SIZE, 1), clean[CACHE_LINE_SIZE]);
});

let holder: number | undefined;

test('INFRA: the reset fails', async ({ device, host }) => {
  assert.deepEqual(device.config().subarray(0, 64), clean?.subarray(0, 64), 'cleaned before this test began');
  // Nobody else can open it then, and what cannot be opened cannot be reset.
  const group = `/dev/vfio/${device.facts.group?.number}`;
  holder = spawn('sh', ['-c', `exec 3<> ${group}; sleep 600`], { stdio: 'ignore', detached: true }).pid;
  await host.exec(['sh', '-c', `while ! readlink /proc/${holder}/fd/3; do sleep 0.1; done`]);
});

// Asked before the device is made ready, which is when whoever had it lets go.
const released = (): undefined => {
  if (holder === undefined) return;
  execFileSync('sh', ['-c', `kill -9 -${holder}; while [ -e /proc/${holder}/fd/3 ]; do sleep 0.1; done`]);
  holder = undefined;
};

test('PASS: the device is reset again', { needs: released }, ({ device }) => {
  assert.ok(device.reset().ok);
});

// The harness itself, not a guest: the run is taken up after it.
test('INFRA: the harness is killed', { device: false }, () => {
  process.kill(process.pid, 'SIGKILL');
});
