/** What a guest without an operating system can do to the machine, against the real KVM: each ends as documented. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { VmExit, VmReport } from '../index.ts';
import type { Lab } from '../lab/index.ts';
import {
  HALT,
  INVALID_OPCODE,
  inEax,
  jumpTo,
  loadEax,
  outByte,
  outEax,
  outString,
  pvhElf,
  SPIN,
  setEax,
  storeEax,
  WAIT_FOR_KEY,
} from './support/payload.ts';
import { causeway, openTestLab } from './support/test-lab.ts';

const DEBUG_EXIT = 0xf4;
const COM1 = 0x3f8;
/** In the PCI hole; nothing is there without devices. */
const UNCLAIMED_ADDRESS = 0xd800_0000;
const UNCLAIMED_PORT = 0x5550;

interface Outcome {
  readonly code: number;
  readonly exit: VmExit;
  readonly report: VmReport;
  /** With --json the console is here, and so are messages. */
  readonly stderr: string;
  readonly seconds: number;
}

let lab: Lab;

beforeAll(async () => {
  lab = await openTestLab({ kernel: '6.1' });
});

afterAll(async () => {
  await lab?.close();
});

let payloads = 0;

async function runPayload(
  code: readonly (readonly number[])[],
  options: readonly string[] = [],
  stdin = '',
): Promise<Outcome> {
  const kernel = join(lab.shareDir, `payload-${payloads++}.elf`);
  await writeFile(kernel, pvhElf(...code));
  const began = Date.now();
  const args = ['run', '--json', '--memory', '32M', '--timeout', '30', '--kernel', kernel, ...options];
  const result = await causeway(lab, args, { stdin });
  const seconds = (Date.now() - began) / 1000;
  const { exit, exitCode, report } = JSON.parse(result.stdout || '{}') as Outcome & { exitCode: number };
  expect(exitCode, result.stderr).toBe(result.code);
  return { code: result.code, exit, report, stderr: result.stderr, seconds };
}

test.each([
  [0, 0],
  [7, 64],
  [0xdead_beef, 64],
])('the debug-exit port with %i ends the run with exit code %i', async (value, code) => {
  const outcome = await runPayload([setEax(value), outEax(DEBUG_EXIT), HALT]);
  expect(outcome).toMatchObject({ code, exit: { reason: 'debug-exit', value }, report: { reboots: 0 } });
  // One instruction, one exit.
  expect(outcome.report.exits).toMatchObject({ port: 1, mmio: 0, config: 0 });
});

test.each([
  ['a triple fault', [INVALID_OPCODE]],
  ['the keyboard controller', [outByte(0x64, 0xfe), HALT]],
  ['the reset control register', [outByte(0xcf9, 0x02), outByte(0xcf9, 0x06), HALT]],
])('%s resets; the limit ends the run', async (_name, code) => {
  const outcome = await runPayload([outString(COM1, 'again '), ...code], ['--reboot-limit', '3']);
  expect(outcome).toMatchObject({ code: 6, exit: { reason: 'reboot-limit', reboots: 3 }, report: { reboots: 3 } });
  expect(outcome.stderr).toContain('again again again again ');
});

test('a reset starts from fresh memory', async () => {
  // Adds one to a word far from the code; a second boot must find zero again, or it would exit with 2.
  const word = 0x180_0000;
  const addOne = [0xff, 0x05, 0x00, 0x00, 0x80, 0x01];
  const outcome = await runPayload(
    [loadEax(word), [0x85, 0xc0, 0x75, 0x08], addOne, INVALID_OPCODE, outEax(DEBUG_EXIT), HALT],
    ['--reboot-limit', '1'],
  );
  expect(outcome.exit).toEqual({ reason: 'reboot-limit', reboots: 1 });
});

test('what nothing answers reads as ones, and writes to it are lost', async () => {
  const port = await runPayload([outEax(UNCLAIMED_PORT), inEax(UNCLAIMED_PORT), outEax(DEBUG_EXIT), HALT]);
  expect(port.exit).toEqual({ reason: 'debug-exit', value: 0xffff_ffff });
  const code = [setEax(1), storeEax(UNCLAIMED_ADDRESS), loadEax(UNCLAIMED_ADDRESS), outEax(DEBUG_EXIT), HALT];
  const memory = await runPayload(code);
  expect(memory.exit).toEqual({ reason: 'debug-exit', value: 0xffff_ffff });
  expect(memory.report.exits).toMatchObject({ mmio: 2, port: 1 });
});

test('code that KVM cannot run is a crash that says where', async () => {
  const outcome = await runPayload([jumpTo(UNCLAIMED_ADDRESS)]);
  expect(outcome).toMatchObject({ code: 5, exit: { reason: 'crash' } });
  expect(outcome.exit).toHaveProperty('detail', expect.stringMatching(/vCPU 0 at rip 0xd8000000/));
});

test('a string instruction is one console write after the other, in order', async () => {
  const text = 'The quick brown fox jumps over the lazy dog.';
  const outcome = await runPayload([outString(COM1, text), setEax(0), outEax(DEBUG_EXIT), HALT]);
  expect(outcome.code).toBe(0);
  expect(outcome.stderr).toContain(text);
  expect(outcome.report.exits.console).toBeGreaterThan(0);
});

test('what is typed reaches the guest', async () => {
  const echo = [...inEax(COM1).slice(0, 4), 0xec, 0x0f, 0xb6, 0xc0];
  const outcome = await runPayload([WAIT_FOR_KEY, echo, outEax(DEBUG_EXIT), HALT], [], 'K');
  expect(outcome.exit).toEqual({ reason: 'debug-exit', value: 'K'.charCodeAt(0) });
});

test.each([
  ['halts for ever', HALT],
  ['never leaves the guest', SPIN],
])('a guest that %s is stopped by the time limit at once', async (_name, code) => {
  const { code: exitCode, exit, seconds } = await runPayload([code], ['--timeout', '2', '--cpus', '2']);
  expect(exitCode).toBe(124);
  expect(exit).toEqual({ reason: 'stopped' });
  expect(seconds).toBeLessThan(15);
});
