/** A guest's verbs and troubles over a VM that does what the test says. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { SerialConsole, Vm, VmExit, VmState } from '../../index.ts';
import { LinuxGuest, type LinuxGuestOptions } from './linux-guest.ts';

class ScriptedPort {
  readonly written: string[] = [];
  onWrite: (text: string) => void = () => {};
  readonly #listeners = new Set<(bytes: Uint8Array) => void>();

  say(text: string): void {
    for (const listener of this.#listeners) listener(Buffer.from(text));
  }

  readonly console = {
    onData: (listener: (bytes: Uint8Array) => void) => {
      this.#listeners.add(listener);
      return () => this.#listeners.delete(listener);
    },
    write: (input: string | Uint8Array) => {
      const text = Buffer.from(input).toString();
      this.written.push(text);
      this.onWrite(text);
    },
    sendBreak: () => void this.written.push('(break)'),
  } as unknown as SerialConsole;
}

/** What a guest uses of a VM. */
class ScriptedVm {
  state: VmState = 'created';
  readonly com1 = new ScriptedPort();
  readonly com2 = new ScriptedPort();
  readonly serial = this.com1.console;
  readonly channel = this.com2.console;
  exit: (exit: VmExit) => void = () => {};
  readonly exited: Promise<VmExit> = new Promise((resolve) => {
    this.exit = (exit) => {
      this.state = 'stopped';
      resolve(exit);
    };
  });
  nmis = 0;
  closed = 0;

  async start(): Promise<void> {
    this.state = 'running';
  }

  nmi(): void {
    this.nmis++;
    this.com1.say('Kernel panic - not syncing: NMI: Not continuing\nRIP: 0010:stuck_here+0x5/0x10\n');
  }

  async registers(): Promise<unknown[]> {
    const segment = { base: 0n, selector: 0x10 };
    const system = { cr0: 1n, cr2: 0n, cr3: 0n, cr4: 0n, efer: 0n, cs: segment, ss: segment, fs: segment, gs: segment };
    return [{ index: 0, general: { rip: 0x1234n }, system }];
  }

  async dump(path: string): Promise<void> {
    writeFileSync(path, 'core');
  }

  async close(): Promise<void> {
    this.closed++;
    this.exit({ reason: 'stopped' });
  }
}

const OOPS = `BUG: kernel NULL pointer dereference, address: 0000000000000000
RIP: 0010:frob_open+0x12/0x40 [frob]
Call Trace:
 do_open+0x1/0x2
---[ end trace 0000000000000000 ]---
`;
const LONG_MS = 30_000;

let vm: ScriptedVm;
let guest: LinuxGuest;

function make(options: LinuxGuestOptions = {}): void {
  vm = new ScriptedVm();
  guest = new LinuxGuest(vm as unknown as Vm, options);
}

async function started(options: LinuxGuestOptions = {}): Promise<void> {
  make(options);
  const ready = guest.start(LONG_MS);
  vm.com2.say('\n@H 6.1.0\n');
  await ready;
}

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(async () => {
  await guest.kill();
  vi.useRealTimers();
});

/** The agent answers each command with code 0 and nothing. */
function answering(): void {
  vm.com2.onWrite = (text) => {
    const [kind, sequence] = text.trim().split(' ');
    if (kind === 'R') vm.com2.say(`\n@R ${sequence} 0 0 0 0 ${Number(sequence) % 65521} - -\n`);
  };
}

test('it is ready when its agent is, and closing gives everything back, once', async () => {
  let released = 0;
  const resource = {
    async [Symbol.asyncDispose]() {
      released++;
    },
  };
  await started({ resources: [resource] });
  answering();
  expect(await guest.must('true')).toBe('');
  await guest.kill();
  await guest.kill();
  expect([vm.closed, released]).toEqual([1, 1]);
  await expect(guest.run('true')).rejects.toMatchObject({ code: 'STATE' });
});

test('one that does not get ready says how far it got', async () => {
  make();
  const ready = guest.start(5000);
  ready.catch(() => {});
  vm.com1.say('Freeing unused kernel memory\n');
  await vi.advanceTimersByTimeAsync(6000);
  await expect(ready).rejects.toMatchObject({ code: 'TIMEOUT', message: expect.stringContaining('Freeing unused') });
});

test('one that crashes before it is ready says so at once', async () => {
  make();
  const ready = guest.start(LONG_MS);
  ready.catch(() => {});
  vm.com1.say(
    'Kernel panic - not syncing: No working init found.\n---[ end Kernel panic - not syncing: No working init',
  );
  await vi.advanceTimersByTimeAsync(5000);
  await expect(ready).rejects.toMatchObject({
    code: 'GUEST_CRASHED',
    message: expect.stringContaining('No working init'),
  });
});

test('an oops is trouble, and commands go on', async () => {
  await started();
  vm.com1.say(OOPS);
  await vi.advanceTimersByTimeAsync(5000);
  expect(await guest.trouble).toMatchObject({
    kind: 'crash',
    fingerprint: 'NULL pointer dereference in frob_open < do_open',
  });
  answering();
  expect(await guest.run('true')).toMatchObject({ code: 0 });
});

test('a panic is trouble, and what waits fails', async () => {
  await started();
  const command = guest.run('sleep 100', { timeoutMs: LONG_MS });
  command.catch(() => {});
  vm.com1.say(
    'Kernel panic - not syncing: Fatal exception\n---[ end Kernel panic - not syncing: Fatal exception ]---\n',
  );
  expect(await guest.trouble).toMatchObject({ kind: 'crash', what: 'panic: Fatal exception' });
  await expect(command).rejects.toMatchObject({ code: 'GUEST_CRASHED' });
  await expect(guest.expect('more')).rejects.toMatchObject({ code: 'GUEST_CRASHED' });
});

test('a warning is kept, and is a crash only where that is wanted', async () => {
  const warning = 'WARNING: CPU: 0 PID: 1 at drivers/frob.c:7 frob+0x1/0x2\n';
  await started();
  vm.com1.say(warning);
  await vi.advanceTimersByTimeAsync(5000);
  expect(guest.warnings).toHaveLength(1);
  await guest.kill();
  await started({ warningsAreCrashes: true });
  vm.com1.say(warning);
  await vi.advanceTimersByTimeAsync(5000);
  expect(await guest.trouble).toMatchObject({ kind: 'crash', what: 'WARNING at drivers/frob.c' });
});

test('a silent guest is asked by SysRq, then by NMI', async () => {
  await started({ silenceMs: 10_000 });
  const command = guest.run('frob', { timeoutMs: 100_000 });
  command.catch(() => {});
  await vi.advanceTimersByTimeAsync(30_000);
  expect(vm.com1.written).toEqual(['(break)', 'l']);
  expect(vm.nmis).toBe(1);
  expect(await guest.trouble).toMatchObject({ kind: 'hang', fingerprint: 'no answer to SysRq in stuck_here' });
  await expect(command).rejects.toMatchObject({ code: 'GUEST_CRASHED', message: expect.stringContaining('hangs') });
});

test('one that answers SysRq gets no NMI; one that answers pings is not asked', async () => {
  await started({ silenceMs: 20_000 });
  vm.com2.onWrite = (text) => {
    if (text.startsWith('P ')) vm.com2.say(`\n@P ${text.slice(2)}`);
  };
  const slow = guest.run('sleep 60', { timeoutMs: 300_000 });
  slow.catch(() => {});
  await vi.advanceTimersByTimeAsync(120_000);
  expect(vm.com1.written).toEqual([]);
  vm.com2.onWrite = () => {};
  vm.com1.console.sendBreak = () => {
    vm.com1.say('sysrq: Show backtrace of all active CPUs\nCall Trace:\n frob_wait+0x1/0x2\n');
  };
  await vi.advanceTimersByTimeAsync(60_000);
  expect(vm.nmis).toBe(0);
  expect(await guest.trouble).toMatchObject({ kind: 'hang', fingerprint: 'agent silent in frob_wait' });
});

test('an end that nobody asked for is trouble; one that was asked for is none', async () => {
  await started();
  vm.exit({ reason: 'crash', detail: 'KVM could not emulate an instruction' });
  expect(await guest.trouble).toMatchObject({ kind: 'crash', what: 'KVM could not emulate an instruction' });

  await started();
  vm.com2.onWrite = (text) => {
    if (text === 'Q\n') vm.exit({ reason: 'shutdown' });
  };
  const trouble = vi.fn();
  void guest.trouble.then(trouble);
  await guest.shutdown();
  await vi.advanceTimersByTimeAsync(1000);
  expect(trouble).not.toHaveBeenCalled();
  expect(vm.closed).toBe(1);
});

test('one that does not power off is ended', async () => {
  await started();
  const down = guest.shutdown();
  await vi.advanceTimersByTimeAsync(60_000);
  await down;
  expect([vm.com2.written, vm.closed]).toEqual([['Q\n'], 1]);
});

test('a dump has console, registers and memory; of an ended guest only the console', async () => {
  await started();
  vm.com1.say('last words\n');
  const folder = mkdtempSync(join(tmpdir(), 'dump-test-'));
  try {
    const files = await guest.dump(join(folder, 'crash'));
    expect(files.map((file) => readFileSync(file, 'utf8').split('\n')[0])).toEqual([
      'last words',
      'vCPU 0: cs 10 ss 10 CPL 0',
      'core',
    ]);
    vm.exit({ reason: 'shutdown' });
    expect(await guest.dump(join(folder, 'late'))).toHaveLength(1);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
