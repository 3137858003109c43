/**
 * Tests for `causeway test` that go wrong on purpose, run by guest-tests/harness.test.ts in the lab. Their names tell the
 * verdict.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasReset, test } from '../harness/index.ts';

const MINUTE_MS = 60_000;
/** Folder of `oops.ko`, `hang.ko` and `spin.ko`, made before the lab was opened. */
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

test('PASS: the verbs of a guest', async ({ device, boot, step }) => {
  const guest = await boot({ cpus: 2, memory: '128M', modules: ['e1000e'], files: { '/hello/there': 'file\n' } });
  await step('code, output and errors come apart; input is empty', async () => {
    const { code, stdout, stderr } = await guest.run('cat; cat /hello/there; echo oops >&2; exit 3');
    assert.deepEqual([code, stdout, stderr], [3, 'file\n', 'oops\n']);
  });
  await step('its processors, and the card with its driver', async () => {
    assert.equal(await guest.must('nproc; ls /sys/class/net'), '2\neth0\nlo');
    assert.equal(device.driver(), 'vfio-pci');
  });
  await step('a command whose time is up is killed, and the next one runs', async () => {
    const late = guest.run('echo begun; sleep 1000', { timeoutMs: 3000 });
    await assert.rejects(late, /"echo begun; sleep 1000" had not ended after 3000 ms; it wrote:\nbegun/);
    assert.equal(await guest.must('echo alive'), 'alive');
  });
  await step('SysRq', async () => {
    guest.sysrq('h');
    await guest.expect(/sysrq: HELP :/i);
  });
  await step('a dump has the memory, and the guest goes on', async () => {
    const release = await guest.must('uname -r');
    const path = join(tmpdir(), 'guest-dump');
    const [, registers, core] = (await guest.dump(path)) as [string, string, string];
    assert.match(readFileSync(registers, 'utf8'), /^vCPU 0: cs \w+ ss \w+ CPL \d\n(.*\n)*vCPU 1: /);
    const { size, blocks } = statSync(core);
    assert.ok(size > 127 * 2 ** 20 && blocks * 512 < size, `${size} bytes in ${blocks} blocks`);
    execFileSync('grep', ['-qa', `Linux version ${release}`, core]);
    rmSync(core);
    assert.equal(await guest.must('echo still alive'), 'still alive');
  });
});

test('PASS: the reset that the kernel prefers', { needs: hasReset() }, ({ device }) => {
  assert.deepEqual(device.reset({ method: device.facts.resetMethods[0]! }).changed, []);
});

test('CRASH: a driver oopses', async ({ boot }) => {
  const guest = await boot({
    modules: [],
    memory: '128M',
    files: { '/broken.ko': { from: join(MODULES, 'oops.ko') } },
  });
  await guest.must('insmod /broken.ko');
});

test('CRASH: a panic', async ({ boot }) => {
  const guest = await boot({ modules: [], memory: '128M' });
  await guest.run('echo c > /proc/sysrq-trigger');
});

test('FAIL: a guest resets itself', async ({ boot }) => {
  const guest = await boot({ modules: [], memory: '128M' });
  await guest.run('reboot -f');
});

test('FAIL: the host gives up while a payload runs', async ({ payload }) => {
  await payload('harness', {
    meanwhile: async (vm) => {
      assert.equal(vm.state, 'running');
      throw new Error('enough');
    },
  });
});

test('FAIL: a result is torn', async ({ foreign, host }) => {
  const text = 'TAP version 13\n1..2\nok 1 - whole\no[   12.345678] usb 1-1: new device\nk 2 - torn\n';
  await foreign({ run: () => host.exec(['printf', '%s', text]) }, 'torn');
});

for (const [how, fault] of [
  ['interrupts are off for ever', 'hang'],
  ['a CPU serves nothing but interrupts', 'spin'],
] as const) {
  test(`HANG: ${how}`, { timeoutMs: 4 * MINUTE_MS }, async ({ boot }) => {
    const files = { '/broken.ko': { from: join(MODULES, `${fault}.ko`) } };
    const guest = await boot({ modules: [], memory: '128M', silenceMs: 20_000, files });
    await guest.run('insmod /broken.ko', { timeoutMs: 3 * MINUTE_MS });
  });
}

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
