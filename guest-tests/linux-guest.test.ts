/** Linux guests as tests use them, in health and in every kind of trouble: each is told apart, and the next one boots. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { guestKernel, type Lab, type LabOptions } from '../lab/index.ts';
import { brokenModule, prepareLinux } from './guest/index.ts';
import type { GuestPart, HealthyGuest, TroubledGuest } from './inside/linux-guests.ts';
import { aliveLab, openTestLab, runInside } from './support/test-lab.ts';

const LAB: LabOptions = { kernel: '6.1', devices: ['e1000e'] };

let lab: Lab;
/** Made here: the lab reads a kernel's folder slowly. */
let modules: string;

beforeAll(async () => {
  await prepareLinux(['6.1']);
  modules = mkdtempSync(join(tmpdir(), 'causeway-modules-'));
  const kernel = await guestKernel('6.1');
  for (const fault of ['oops', 'hang', 'spin'] as const) {
    writeFileSync(join(modules, `${fault}.ko`), await brokenModule(kernel, fault));
  }
  lab = await openTestLab(LAB);
});

beforeEach(async () => {
  lab = await aliveLab(lab, LAB);
});

afterAll(async () => {
  await lab?.close();
  rmSync(modules, { recursive: true, force: true });
});

function inLab<T>(part: GuestPart): Promise<T> {
  return runInside<T>(lab, 'linux-guests', { part, device: lab.devices[0]!.bdf, modules });
}

test('in health: commands, bytes, a flood, a command that is killed, SysRq, a dump', async () => {
  const found = await inLab<HealthyGuest>('verbs');
  const { commands, digests, memory } = found;
  expect(commands[0]).toMatchObject({ code: 3, stdout: 'file\n', stderr: 'oops\n' });
  expect(commands[1]).toMatchObject({ code: 0, stdout: 'eth0\nlo\n' });
  expect(commands[2]).toMatchObject({ code: 0, stdout: '2\n' });
  expect(digests[0]).toBe(digests[1]);
  // seq 1 200 | md5sum
  expect(found.flooded).toBe('304f7b9574921ad21a2bc72f200483d7  -');
  expect(found.timeout).toMatch(/"echo begun; sleep 1000" had not ended after 3000 ms; it wrote:\nbegun/);
  expect(found.afterTimeout).toBe('alive');
  expect(found.sysrq).toMatch(/HELP/);
  const kinds = memory.files.map((file) => file.replace(/^.*guest-dump/, ''));
  expect(kinds).toEqual(['.console.log', '.registers.txt', '.core']);
  expect(memory.coreBytes).toBeGreaterThan(127 * 2 ** 20);
  expect(memory.coreBlocks * 512).toBeLessThan(memory.coreBytes);
  expect(found.hasBanner).toBe(true);
  expect(found.registers).toMatch(/^vCPU 0: cs \w+ ss \w+ CPL \d\n(.*\n)*vCPU 1: /);
  expect(found.afterDump).toBe('still alive');
});

test('an oops of a driver is a crash with the function in its fingerprint', async () => {
  const { trouble, error } = await inLab<TroubledGuest>('oops');
  expect(trouble).toMatchObject({ kind: 'crash', what: 'NULL pointer dereference' });
  expect(trouble.fingerprint).toMatch(/ in (dummy_init_module|init_module) < do_one_initcall/);
  expect(trouble.text).toContain('Call Trace:');
  // The program that loaded it was killed, the guest was not.
  expect(error).toBe('');
});

test('a CPU with interrupts off hangs, and the NMI says where', async () => {
  const { trouble, error } = await inLab<TroubledGuest>('hang');
  expect(trouble).toMatchObject({ kind: 'hang', what: 'no answer to SysRq' });
  expect(trouble.fingerprint).toMatch(/init_module/);
  expect(error).toMatch(/^the guest hangs: /);
});

test('a CPU that only serves interrupts hangs, and SysRq says where', async () => {
  const { trouble } = await inLab<TroubledGuest>('spin');
  expect(trouble.kind).toBe('hang');
  expect(trouble.fingerprint).toMatch(/init_module/);
});

test('a panic is a crash and ends what waits', async () => {
  const { trouble, error } = await inLab<TroubledGuest>('panic');
  expect(trouble).toMatchObject({ kind: 'crash', what: 'panic: sysrq triggered crash' });
  expect(trouble.fingerprint).toMatch(/in sysrq_handle_crash/);
  expect(error).toMatch(/^the guest crashed: panic/);
});

test('a guest that resets itself has ended', async () => {
  const { trouble, error } = await inLab<TroubledGuest>('reset');
  expect(trouble).toMatchObject({ kind: 'exit', what: 'the guest reset itself' });
  expect(error).toMatch(/^the guest reset itself/);
});

test('a guest that never gets ready is given up with its console', async () => {
  const message = await inLab<string>('never ready');
  expect(message).toMatch(/^the guest's agent was not ready after 20000 ms; the console ends with:/);
});
