/** `causeway test --lab`: a file of tests that go wrong on purpose, one run, a verdict for each. */
import { existsSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { guestKernel } from '../lab/index.ts';
import { brokenModule } from './guest/broken-module.ts';
import type { RunRecord } from './harness/model.ts';
import { causewayTest } from './support/harness-run.ts';
import { insideProgram } from './support/programs.ts';

const folder = mkdtempSync(join(tmpdir(), 'causeway-harness-'));
let run: RunRecord;
let ktap: string;
let code: number;

beforeAll(async () => {
  const kernel = await guestKernel('6.1');
  for (const fault of ['oops', 'hang', 'spin'] as const)
    writeFileSync(join(folder, `${fault}.ko`), await brokenModule(kernel, fault));
  const args = [insideProgram('harness-cases'), '--lab', 'e1000e', '--lab', 'bind=host', '--lab-cpus', '1'];
  ({ run, ktap, code } = await causewayTest(args, { folder, env: { CAUSEWAY_BROKEN_MODULES: folder } }));
});

test('each test has the verdict that its name tells', () => {
  expect(run.tests.map(({ name, verdict }) => `${verdict}: ${name.replace(/^\w+: /, '')}`)).toEqual(
    run.tests.map(({ name }) => name),
  );
  expect(run.tests).toHaveLength(17);
  expect(code, 'the worst of them').toBe(3);
});

/** The reason of the test of this name. */
function reasonOf(name: string): string | undefined {
  return run.tests.find((each) => each.name.endsWith(`: ${name}`))!.reason;
}

test.each([
  ['a driver oopses', /^NULL pointer dereference in (dummy_init_module|init_module) < do_one_initcall/],
  ['a panic', /^panic: sysrq triggered crash in sysrq_handle_crash/],
  ['interrupts are off for ever', /^no answer to SysRq in .*init_module/],
  ['a CPU serves nothing but interrupts', /^agent silent in .*init_module/],
  ['a guest resets itself', /^the guest reset itself/],
  ['the host gives up while a payload runs', /^enough\n/],
  ['it never gets ready', /^the guest's agent was not ready after 15000 ms; the console ends with:/],
])('%s: the reason says where', (name, reason) => {
  expect(reasonOf(name)).toMatch(reason);
});

test('a crash has its report, a console and a dump', () => {
  const crash = run.tests.find(({ verdict }) => verdict === 'CRASH')!;
  expect(crash.attempts[0]!.crash!.text).toContain('Call Trace:');
  const files = crash.attempts[0]!.artifacts;
  for (const file of files) expect(existsSync(join(folder, file)), file).toBe(true);
  expect(files.map((file) => file.split('/').at(-1))).toEqual(
    expect.arrayContaining(['console-1.log', 'crash-1.registers.txt', 'crash-1.core', 'crash.txt']),
  );
});

test('the device is back with its driver, and KTAP tells of every test once', () => {
  expect(run.devices[0]).toMatchObject({ label: 'e1000e', driver: 'e1000e', givenBack: true });
  for (const { name } of run.tests) {
    expect(
      ktap.split('\n').filter((line) => / ok \d+ |^ {2}(not )?ok/.test(line) && line.includes(name)),
      name,
    ).toHaveLength(1);
  }
  expect(existsSync(join(folder, 'report.html'))).toBe(true);
});
