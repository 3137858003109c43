import { EventEmitter } from 'node:events';
import { PassThrough, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { CausewayError } from '../base/errors.ts';
import type { VmConfig } from '../config/model.ts';
import type { VmExit } from '../control/vm.ts';
import { runCli } from './cli.ts';
import { FakeVm } from './fake-vm.ts';

class Screen extends Writable {
  text = '';
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString('latin1');
    done();
  }
}

/** A world in which `causeway` runs over a fake VM. */
class World {
  readonly vm = new FakeVm();
  readonly stdin = Object.assign(new PassThrough(), { isTTY: false, raw: [] as boolean[] });
  readonly stdout = new Screen();
  readonly stderr = new Screen();
  readonly signals = new EventEmitter();
  readonly forced: number[] = [];
  config: VmConfig | undefined;
  createError: unknown;
  readonly process = {
    on: (signal: string, listener: (signal: NodeJS.Signals) => void) => this.signals.on(signal, listener),
    off: (signal: string, listener: (signal: NodeJS.Signals) => void) => this.signals.off(signal, listener),
    exit: (code: number) => void this.forced.push(code),
  };

  terminal(): this {
    this.stdin.isTTY = true;
    Object.assign(this.stdin, { setRawMode: (raw: boolean) => this.stdin.raw.push(raw) });
    return this;
  }

  createVm = async (config: VmConfig): Promise<FakeVm> => {
    if (this.createError) throw this.createError;
    this.config = config;
    return this.vm;
  };

  run(...args: string[]): Promise<number> {
    return runCli(['run', ...args], this);
  }

  /** Runs until the VM was started, then lets the test go on. */
  async started(...args: string[]): Promise<{ done: Promise<number> }> {
    const done = this.run(...args);
    while (!this.vm.calls.includes('start')) await sleep(1);
    return { done };
  }

  signal(name: NodeJS.Signals): void {
    this.signals.emit(name, name);
  }
}

test('every option reaches the configuration', async () => {
  const world = new World();
  const args = '--kernel k --initrd i --memory 6GiB --cpus 4 --device 0000:01:00.0 --device 02:00.0,03:00.0';
  const more = ['--cmdline', '--quiet x=1', '--huge-pages=2M', '--reboot-limit', '0', '--no-unpack'];
  const { done } = await world.started(...args.split(' '), ...more);
  world.vm.end({ reason: 'shutdown' });
  expect(await done).toBe(0);
  expect(world.config).toEqual({
    kernel: 'k',
    initrd: 'i',
    cmdline: '--quiet x=1',
    memory: '6GiB',
    cpus: 4,
    devices: ['0000:01:00.0', '02:00.0', '03:00.0'],
    hugePages: '2M',
    rebootLimit: 0,
    unpackKernel: false,
  });
  expect(world.stderr.text).toBe('');
});

test('every fault of the command line is told at once', async () => {
  const world = new World();
  expect(await world.run('--kernal', 'x', '--cpus', 'two', '--json=1', '--memory', '--summary', '--timeout')).toBe(2);
  // --json=1 asks for JSON badly; the faults are told in words.
  expect(world.stderr.text.split('\n')).toEqual([
    'causeway: unknown option --kernal (did you mean "kernel"?)',
    'unexpected word "x"',
    '--cpus: "two" is not a whole number',
    '--json takes no value',
    '--memory needs a value: SIZE',
    '--timeout needs a value: S',
    '  hint: causeway help run',
    '',
  ]);
});

test('no kernel and no configuration is a fault', async () => {
  const world = new World();
  expect(await world.run()).toBe(2);
  expect(world.stderr.text).toContain('--kernel FILE is missing');
});

test.each<[VmExit, number, string]>([
  [{ reason: 'shutdown' }, 0, ''],
  [{ reason: 'crash', detail: 'triple fault' }, 5, 'crashed: triple fault'],
  [{ reason: 'reboot-limit', reboots: 3 }, 6, '3 times allowed'],
  [{ reason: 'debug-exit', value: 0 }, 0, 'wrote 0 (0x0)'],
  [{ reason: 'debug-exit', value: 255 }, 64, 'wrote 255 (0xff)'],
])('%j exits with %d', async (exit, code, message) => {
  const world = new World();
  const { done } = await world.started('--kernel', 'k');
  world.vm.end(exit);
  expect(await done).toBe(code);
  expect(world.stderr.text).toContain(message);
  expect(world.vm.calls.at(-1)).toBe('close');
});

test('the console goes to stdout, piped input to the guest', async () => {
  const world = new World();
  const { done } = await world.started('--kernel', 'k');
  world.vm.print('login: ');
  world.stdin.write('root\x01x\n');
  await sleep(5);
  world.vm.end({ reason: 'shutdown' });
  await done;
  expect(world.stdout.text).toBe('login: ');
  expect(world.vm.typed.join('')).toBe('root\x01x\n');
});

test('on a terminal: raw mode, escape keys, terminal given back', async () => {
  const world = new World().terminal();
  const { done } = await world.started('--kernel', 'k');
  for (const keys of ['a\x03', '\x01', 'p\x01a', '\x01h', '\x01q', 'b', '\x01x']) world.stdin.write(keys);
  expect(await done).toBe(130);
  expect(world.vm.typed.join('')).toBe('a\x03\x01b');
  expect(world.vm.calls).toEqual(['start', 'powerButton', 'close']);
  expect(world.stdin.raw).toEqual([true, false]);
  expect(world.stderr.text.match(/Ctrl-A x quits/g)).toHaveLength(2);
});

test.each<[NodeJS.Signals, number]>([
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
])('%s gives everything back and exits with %d', async (signal, code) => {
  const world = new World();
  const { done } = await world.started('--kernel', 'k');
  world.signal(signal);
  world.signal(signal);
  expect(await done).toBe(code);
  expect(world.vm.calls).toEqual(['start', 'close']);
  expect(world.forced).toEqual([]);
  expect(world.stderr.text).toContain(signal);
  expect(world.signals.listenerCount(signal)).toBe(0);
});

test('a second signal, when the first did not help, ends at once', async () => {
  const world = new World();
  const { done } = await world.started('--kernel', 'k');
  world.vm.close = async () => void (await sleep(450));
  world.signal('SIGTERM');
  await sleep(350);
  world.signal('SIGTERM');
  expect(world.forced).toEqual([143]);
  world.vm.emit({ type: 'warning', message: 'x' });
  void done;
});

test('a signal while the VM is being made ends the command as a signal does', async () => {
  const world = new World();
  world.createVm = async () => {
    world.signal('SIGTERM');
    throw new Error('aborted');
  };
  expect(await world.run('--kernel', 'k')).toBe(143);
});

test('the time limit ends the run', async () => {
  const world = new World();
  expect(await world.run('--kernel', 'k', '--timeout', '0.02')).toBe(124);
  expect(world.vm.calls).toEqual(['start', 'close']);
  expect(world.stderr.text).toContain('the time allowed ran out (0.02 s)');
});

test('the summary tells devices, BARs, vectors, resets and exits', async () => {
  const world = new World();
  const { done } = await world.started('--kernel', 'k', '--summary');
  world.vm.emit({ type: 'warning', message: 'BAR 3 shares a page' });
  world.vm.end({ reason: 'shutdown' });
  await done;
  expect(world.stdout.text).toBe('');
  expect(world.stderr.text).toBe(`causeway: warning: BAR 3 shares a page
vm: 2 vCPUs, 1 GiB, 1 reboot
0000:01:00.0 8086:10d3 at guest 00:01.0: MSI-X, 3 of 5 vectors routed
  BAR 0: 128 KiB 32-bit at 0xfe000000: direct
  BAR 3: 16 KiB 32-bit: 0x0+4 KiB trapped (msix-table), 0x1000+12 KiB direct
  resets: boot flr, release flr
exits to user space: 1217: port 50, console 850, MMIO 12, config 300, kicks 5, other 0
`);
});

test('--json prints one object to stdout and moves the console to stderr', async () => {
  const world = new World();
  const { done } = await world.started('--kernel', 'k', '--json');
  world.vm.print('boot');
  world.vm.end({ reason: 'debug-exit', value: 3 });
  expect(await done).toBe(64);
  expect(JSON.parse(world.stdout.text)).toMatchObject({
    exit: { reason: 'debug-exit', value: 3 },
    exitCode: 64,
    report: { cpus: 2, exits: { total: 1217 } },
  });
  expect(world.stderr.text).toMatch(/^boot/);
});

test('an error brings message, hint and its exit code, or JSON', async () => {
  const error = new CausewayError('GROUP_NOT_VIABLE', 'group 14 also holds 0000:03:00.1', { hint: 'bind it' });
  const world = new World();
  world.createError = error;
  expect(await world.run('--kernel', 'k')).toBe(7);
  expect(world.stderr.text).toBe('causeway: group 14 also holds 0000:03:00.1\n  hint: bind it\n');
  expect(await world.run('--kernel', 'k', '--json')).toBe(7);
  expect(JSON.parse(world.stdout.text)).toEqual({
    code: 'GROUP_NOT_VIABLE',
    message: 'group 14 also holds 0000:03:00.1',
    hint: 'bind it',
  });
});

test('a failing start closes the VM; an unexpected error is told as a defect', async () => {
  const world = new World();
  world.vm.startError = new TypeError('boom');
  expect(await world.run('--kernel', 'k')).toBe(1);
  expect(world.vm.calls).toEqual(['start', 'close']);
  expect(world.stderr.text).toMatch(/TypeError: boom[\s\S]*please report/);
});

test('help and version', async () => {
  const world = new World();
  for (const args of [['help'], ['run', '--help'], ['help', 'exit-codes'], ['version']]) {
    expect(await runCli(args, world)).toBe(0);
  }
  expect(world.stdout.text).toContain('--reboot-limit N');
  expect(world.stdout.text).toContain(' 124  The time allowed ran out.');
  expect(world.stdout.text).toMatch(/causeway \d+\.\d+\.\d+ \(Node/);
  expect(await runCli([], world)).toBe(2);
  expect(await runCli(['help', 'nothing'], world)).toBe(2);
  expect(await runCli(['rum'], world)).toBe(2);
  expect(world.stderr.text).toContain('unknown command "rum" (did you mean "run"?)');
});
