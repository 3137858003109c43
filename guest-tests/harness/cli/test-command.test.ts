/** The command as a user calls it, on a scripted host. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { fakeGuests } from '../fakes/fake-guests.ts';
import { BDF, TestBench } from '../fakes/test-bench.ts';
import { readRun } from '../report/compare.ts';
import { joinModels, ResumedLines } from './lab-run.ts';
import { uniqueNames } from './select-devices.ts';
import { testCommand } from './test-command.ts';

// Against hangs only: what waits for disks may take long on a busy machine.
vi.setConfig({ testTimeout: 60_000 });

let bench: TestBench;
beforeEach(() => {
  bench = new TestBench();
});
afterEach(() => bench[Symbol.dispose]());

class Text extends Writable {
  text = '';
  override _write(chunk: Buffer, _: unknown, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

function file(name: string, content: string): string {
  const path = join(bench.folder, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, content);
  return path;
}

async function causewayTest(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const [stdout, stderr] = [new Text(), new Text()];
  const code = await testCommand(args, {
    stdout,
    stderr,
    process: { on: () => {}, off: () => {}, exit: () => {} },
    native: bench.kernel,
    guests: fakeGuests(),
    stateDirectory: join(bench.folder, 'state'),
  });
  return { code, stdout: stdout.text, stderr: stderr.text };
}

const SUITE = `
import assert from 'node:assert/strict';
import { hasCapability, test } from 'causeway/test';
const offset: number = 0;
test('identifies itself', { needs: hasCapability('MSI-X') }, async ({ device, boot, log }) => {
  assert.equal(device.readConfig(offset, 2), 0x8086);
  const guest = await boot();
  log((await guest.run('true')).code.toString());
});
test('fails', () => assert.equal(1, 2));
test('host only', { device: false }, () => {});
test('together', { device: 'all' }, ({ devices }) => assert.equal(devices.length, 1));
`;

test('a TypeScript file that lies anywhere: KTAP, JSON, JUnit, HTML, run folder', async () => {
  const suite = file('mine/frob.ts', SUITE);
  const output = join(bench.folder, 'out');
  const [json, junit] = [join(output, 'x.json'), join(output, 'x.xml')];
  const result = await causewayTest(
    suite,
    '--device',
    `${BDF}=nic`,
    '--output',
    output,
    '--json',
    json,
    '--junit',
    junit,
  );
  expect(result.stderr).toContain('[1/4] PASS');
  expect(result.code).toBe(1);
  expect(result.stdout).toContain('  ok 1 identifies itself');
  expect(result.stdout).toMatch(/not ok 2 fails # FAIL Expected values to be strictly equal/);
  const run = readRun(readFileSync(json, 'utf8'));
  expect(run.tests.map(({ id, verdict }) => `${verdict} ${id}`)).toEqual([
    'PASS frob/host only',
    'PASS frob/identifies itself @ 8086:10d3',
    'FAIL frob/fails @ 8086:10d3',
    'PASS frob/together @ all',
  ]);
  expect(run.tests[2]!.reason, 'the place in the file').toMatch(/frob\.ts:\d+/);
  expect(run.devices[0]).toMatchObject({ label: 'nic', driver: 'e1000e', givenBack: true });
  for (const name of ['run.json', 'results.ktap', 'report.html', 'journal.jsonl', 'devices/nic-before.txt']) {
    expect(existsSync(join(output, name)), name).toBe(true);
  }
  expect(readFileSync(join(output, 'results.ktap'), 'utf8')).toBe(result.stdout);
  expect(bench.driver).toBe('e1000e');
});

test('--json - is JSON and nothing else', async () => {
  const suite = file('frob.ts', SUITE);
  const { stdout } = await causewayTest(
    suite,
    '--match',
    '8086:10d3',
    '--filter',
    'host',
    '--json',
    '-',
    '--output',
    join(bench.folder, 'o'),
  );
  expect(readRun(stdout).tests.map(({ name }) => name)).toEqual(['host only']);
});

test('what is wrong with the command line or a file is told all at once, with exit code 2', async () => {
  const broken = file(
    'broken.ts',
    "import { test } from 'causeway/test'; test('x', () => {}); throw new Error('at load');",
  );
  const empty = file('empty.ts', 'export {};');
  expect(await causewayTest(broken, empty, 'nosuch')).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(
      /broken\.ts: at load[\s\S]*empty\.ts: it declares no test[\s\S]*nosuch: no suite has that name/,
    ),
  });
  const suite = file('frob.ts', SUITE);
  for (const args of [
    ['--nonsense'],
    ['--device', '0000:77:00.0'],
    ['--match', '1234'],
    ['--match', 'dead:beef'],
    ['--filter', 'matches nothing'],
    ['--filter', '('],
    ['--resume', bench.folder],
    ['--lab', 'e1000e', '--device', BDF],
    ['--lab', 'e1000e', '--lab-memory', 'much'],
    ['--lab', 'e1000e', '--lab-memory', '64M'],
  ]) {
    expect((await causewayTest(suite, ...args)).code, args.join(' ')).toBe(2);
  }
  expect((await causewayTest('compare', 'only-one')).code).toBe(2);
});

test('a device that cannot be had is infrastructure, and those taken before it are given back', async () => {
  const suite = file('frob.ts', SUITE);
  const other = '0000:09:00.0';
  bench.kernel.files.addFile('/proc/net/route', 'Iface Destination Gateway Flags RefCnt Use Metric Mask\n');
  bench.kernel.failNext('writeFile', 'EIO', ([path]) => String(path).includes(BDF));
  const result = await causewayTest(suite, '--device', other, '--device', BDF, '--output', join(bench.folder, 'o'));
  expect(result.code).toBe(3);
  expect(result.stderr).toContain(`${BDF} cannot be bound to vfio-pci`);
  expect(existsSync(join(bench.folder, 'state/leases', other))).toBe(false);
});

test('list and help touch nothing', async () => {
  const suite = file('frob.ts', SUITE);
  expect((await causewayTest(suite, '--list')).stdout).toBe(
    'frob/identifies itself  (per device)\nfrob/fails  (per device)\nfrob/host only\nfrob/together  (all devices)\n',
  );
  expect((await causewayTest('--help')).stdout).toContain('Exit codes: 0 green');
  expect(bench.kernel.calls('writeFile')).toEqual([]);
});

test('compare exits with 1 only when something is broken', async () => {
  const suite = file('frob.ts', SUITE);
  const run = async (name: string, ...args: string[]): Promise<string> => {
    await causewayTest(suite, '--device', BDF, '--output', join(bench.folder, name), ...args);
    return join(bench.folder, name, 'run.json');
  };
  const [all, some] = [await run('all'), await run('some', '--filter', 'itself')];
  expect(await causewayTest('compare', all, some)).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('gone: 3'),
  });
  const worse = file('worse.json', readFileSync(some, 'utf8').replace('"verdict": "PASS"', '"verdict": "HANG"'));
  expect(await causewayTest('compare', some, worse)).toMatchObject({
    code: 1,
    stdout: expect.stringContaining('broken: 1'),
  });
});

test('names of devices, and models with options', () => {
  expect(uniqueNames(['edu', 'nvme', 'edu'])).toEqual(['edu', 'nvme', 'edu-2']);
  expect(joinModels(['e1000e', 'bind=host', 'nvme', 'edu'])).toEqual(['e1000e,bind=host', 'nvme', 'edu']);
});

test('the KTAP of a run that is taken up goes on where it was cut off', () => {
  const output = new Text();
  const lines = new ResumedLines(output);
  lines.write('KTAP version 1\n1..2\nok 1 a\nok 2');
  lines.restart();
  lines.write('KTAP version 1\n1..2\nok 1 a\nnot ok 2 b # INFRA\n');
  expect(output.text).toBe('KTAP version 1\n1..2\nok 1 a\nnot ok 2 b # INFRA\n');
});
