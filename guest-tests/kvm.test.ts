/**
 * What a guest without an operating system can do to the machine, against the real KVM: each ends as documented. What the
 * suite `machine` tests is not here: triple fault, reset register, ACPI power-off, exceptions, hangs.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { VmConfig } from '../index.ts';
import type { Lab, LabOptions } from '../lab/index.ts';
import type { Outcome, Payload } from './inside/payloads.ts';
import type { X2apicResult } from './inside/x2apic.ts';
import {
  HALT,
  INVALID_OPCODE,
  inAl,
  inEax,
  jumpTo,
  loadEax,
  outByte,
  outEax,
  outString,
  PAYLOAD_AT,
  pvhElf,
  SPIN,
  setEax,
  storeEax,
  WAIT_FOR_KEY,
} from './support/payload.ts';
import { aliveLab, causeway, ONE_PROCESSOR, openTestLab, runInside } from './support/test-lab.ts';

const DEBUG_EXIT = 0xf4;
const COM1 = 0x3f8;
/** In the PCI hole; nothing is there without devices. */
const UNCLAIMED_ADDRESS = 0xd800_0000;
const UNCLAIMED_PORT = 0x5550;
const TEXT = 'The quick brown fox jumps over the lazy dog.';
const SEEN_BEFORE = 99;

/** Resets when it finds zero in a word, and leaves a mark there. */
function markAndReset(word: number): (readonly number[])[] {
  const skipIfMarked = [0x85, 0xc0, 0x75, 0x0c];
  return [loadEax(word), skipIfMarked, setEax(SEEN_BEFORE), storeEax(word), INVALID_OPCODE, outEax(DEBUG_EXIT), HALT];
}

interface Case extends Omit<Payload, 'config'> {
  readonly code: readonly (readonly number[])[];
  readonly config?: Partial<VmConfig>;
}

const CASES = {
  'debug exit 0': { code: [setEax(0), outEax(DEBUG_EXIT), HALT] },
  'debug exit 7': { code: [setEax(7), outEax(DEBUG_EXIT), HALT] },
  'debug exit 0xdeadbeef': { code: [setEax(0xdead_beef), outEax(DEBUG_EXIT), HALT] },
  'keyboard controller': {
    code: [outString(COM1, 'again '), outByte(0x64, 0xfe), HALT],
    config: { rebootLimit: 3 },
  },
  'word in its data': { code: markAndReset(PAYLOAD_AT + 0x40), config: { rebootLimit: 1 } },
  'word in its zeroed memory': { code: markAndReset(PAYLOAD_AT + 0x800), config: { rebootLimit: 1 } },
  'unclaimed port': { code: [outEax(UNCLAIMED_PORT), inEax(UNCLAIMED_PORT), outEax(DEBUG_EXIT), HALT] },
  'unclaimed address': {
    code: [setEax(1), storeEax(UNCLAIMED_ADDRESS), loadEax(UNCLAIMED_ADDRESS), outEax(DEBUG_EXIT), HALT],
  },
  'jump to nowhere': { code: [jumpTo(UNCLAIMED_ADDRESS)] },
  'string output': { code: [outString(COM1, TEXT), setEax(0), outEax(DEBUG_EXIT), HALT] },
  key: { code: [WAIT_FOR_KEY, inAl(COM1), outEax(DEBUG_EXIT), HALT], typed: 'K' },
  'halts for ever': { code: [HALT], stopAfterMs: 500, config: { cpus: 2 } },
  'never leaves the guest': { code: [SPIN], stopAfterMs: 500, config: { cpus: 2 } },
} satisfies Record<string, Case>;

type Name = keyof typeof CASES;

/** Beyond this it is not slow but stuck: times in an emulated host vary tenfold. */
const HANG_MS = 30_000;
const HOST: LabOptions = { ...ONE_PROCESSOR, kernel: '6.1' };

let lab: Lab;
let outcomes: Record<Name, Outcome>;

beforeAll(async () => {
  lab = await openTestLab(HOST);
  outcomes = await runAll().catch(async (error: unknown) => {
    const stalled = lab;
    lab = await aliveLab(stalled, HOST);
    if (lab === stalled) throw error;
    return runAll();
  });
});

async function runAll(): Promise<Record<Name, Outcome>> {
  const payloads: Record<string, Payload> = {};
  for (const [name, { code, config, ...rest }] of Object.entries<Case>(CASES)) {
    const kernel = kernelPath(name as Name);
    await writeFile(kernel, pvhElf(...code));
    payloads[name] = { ...rest, config: { kernel, memory: '32M', ...config } };
  }
  return runInside(lab, 'payloads', payloads, { silenceMs: 90_000 });
}

afterAll(async () => {
  await lab?.close();
});

function kernelPath(name: Name): string {
  return join(lab.shareDir, `${name.replaceAll(' ', '-')}.elf`);
}

test.each([
  ['debug exit 0', 0],
  ['debug exit 7', 7],
  ['debug exit 0xdeadbeef', 0xdead_beef],
] as const)('%s ends the run with that value, and costs one exit', (name, value) => {
  const { exit, report } = outcomes[name];
  expect(exit).toEqual({ reason: 'debug-exit', value });
  expect(report.exits).toMatchObject({ port: 1, mmio: 0, config: 0, other: 0 });
});

test('the command line tells the value and turns it into its exit code', async () => {
  const { code, stderr } = await causeway(lab, ['run', '--memory', '32M', '--kernel', kernelPath('debug exit 7')]);
  expect(stderr).toBe('causeway: the guest wrote 7 (0x7) to the debug-exit port\n');
  expect(code).toBe(64);
});

test('the keyboard controller resets, and the limit ends the run', () => {
  const { exit, report, console } = outcomes['keyboard controller'];
  expect(exit).toEqual({ reason: 'reboot-limit', reboots: 3 });
  expect(report.reboots).toBe(3);
  expect(console).toBe('again again again again ');
});

test.each(['word in its data', 'word in its zeroed memory'] as const)(
  'after a reset a kernel finds a %s as its file says',
  (name) => {
    expect(outcomes[name].exit).toEqual({ reason: 'reboot-limit', reboots: 1 });
  },
);

test('what nothing answers reads as ones, and writes to it are lost', () => {
  expect(outcomes['unclaimed port'].exit).toEqual({ reason: 'debug-exit', value: 0xffff_ffff });
  expect(outcomes['unclaimed address'].exit).toEqual({ reason: 'debug-exit', value: 0xffff_ffff });
  expect(outcomes['unclaimed address'].report.exits).toMatchObject({ mmio: 2, port: 1 });
});

test('code that KVM cannot run is a crash that says where', () => {
  const { exit } = outcomes['jump to nowhere'];
  expect(exit).toEqual({ reason: 'crash', detail: expect.stringMatching(/vCPU 0 at rip 0xd8000000/) });
});

test('a string instruction is one console write after the other, in order', () => {
  expect(outcomes['string output'].console).toBe(TEXT);
  expect(outcomes['string output'].report.exits.console).toBeGreaterThan(0);
});

test('what is typed reaches the guest', () => {
  expect(outcomes.key.exit).toEqual({ reason: 'debug-exit', value: 'K'.charCodeAt(0) });
});

test.each(['halts for ever', 'never leaves the guest'] as const)('a guest that %s is stopped at once', (name) => {
  expect(outcomes[name].exit).toEqual({ reason: 'stopped' });
  expect(outcomes[name].stopMs).toBeLessThan(HANG_MS);
});

// Enforces E59.
test('a message for a processor beyond 255 arrives in KVM’s x2APIC format, and is not sent without it', async () => {
  const { hasFormat, withFormat, withoutFormat } = await runInside<X2apicResult>(lab, 'x2apic', {});
  expect(hasFormat).toBe(true);
  expect(withFormat).toEqual({ isDeliverable: true, delivered: 1 });
  expect(withoutFormat).toEqual({ isDeliverable: false, delivered: 0 });
});
