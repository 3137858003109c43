import { EventEmitter } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test, vi } from 'vitest';
import { CausewayError } from '../base/errors.ts';
import { listenAt } from '../control/socket.ts';
import { Served } from './controlled-vm.test-util.ts';
import { vmCommand } from './vm.ts';

class Screen extends Writable {
  text = '';
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString('latin1');
    done();
  }
}

class World {
  readonly stdin = Object.assign(new PassThrough(), { isTTY: false, raw: [] as boolean[] });
  readonly stdout = new Screen();
  readonly stderr = new Screen();
  readonly signals = new EventEmitter();
  readonly process = {
    on: (signal: string, listener: (signal: NodeJS.Signals) => void) => this.signals.on(signal, listener),
    off: (signal: string, listener: (signal: NodeJS.Signals) => void) => this.signals.off(signal, listener),
    exit: () => {},
  };

  run(...args: string[]): Promise<number> {
    return vmCommand(args, this);
  }

  terminal(): this {
    this.stdin.isTTY = true;
    Object.assign(this.stdin, { setRawMode: (raw: boolean) => this.stdin.raw.push(raw) });
    return this;
  }

  async shows(text: string): Promise<void> {
    await vi.waitFor(() => expect(this.stdout.text).toContain(text));
  }
}

afterEach(() => {
  vi.unstubAllEnvs();
});

test('info, for people and as JSON', async () => {
  await using served = await Served.open();
  const world = new World();
  expect(await world.run('info', served.path)).toBe(0);
  expect(world.stdout.text).toMatch(
    /^running, process \d+\nvm: 2 vCPUs, 1 GiB, 1 reboot\n0000:01:00\.0 8086:10d3 at guest 00:01\.0/,
  );
  const json = new World();
  await json.run('info', served.path, '--json');
  expect(JSON.parse(json.stdout.text)).toMatchObject({ state: 'running', report: served.vm.report() });
});

test('list shows the living, and only those', async () => {
  const world = new World();
  await using served = await Served.open();
  vi.stubEnv('XDG_RUNTIME_DIR', served.folder);
  expect(await world.run('list')).toBe(0);
  expect(world.stdout.text).toContain('no VM');
  mkdirSync(join(served.folder, 'causeway'));
  const { createServer } = await import('node:net');
  const dead = createServer();
  await listenAt(dead, join(served.folder, 'causeway', 'dead.sock'));
  await new Promise((resolve) => dead.close(resolve));
  const { serveControl } = await import('../control/serve-control.ts');
  await using _named = await serveControl(served.vm, 'web');
  await world.run('list', '--json');
  expect(JSON.parse(world.stdout.text.split('\n').at(-2)!)).toMatchObject([{ name: 'web', state: 'running' }]);
  await world.run('list');
  expect(world.stdout.text).toMatch(/\nweb {2}running, process \d+\n$/);
  await world.run('pause', 'web');
  expect(served.vm.state).toBe('paused');
});

test('pause, resume, power-button, nmi, stop', async () => {
  await using served = await Served.open();
  const world = new World();
  for (const verb of ['pause', 'resume', 'power-button', 'nmi']) expect(await world.run(verb, served.path)).toBe(0);
  expect([served.vm.state, served.vm.calls, served.vm.nmis]).toEqual(['running', ['powerButton'], 1]);
  expect(await world.run('stop', served.path)).toBe(0);
  expect(world.stdout.text).toBe('the run was stopped\n');
});

test('attach and detach', async () => {
  await using served = await Served.open();
  const world = new World();
  expect(await world.run('attach', served.path, '01:00.0', '--port', 'left', '--on-error', 'pause')).toBe(0);
  expect(world.stdout.text).toBe('0000:01:00.0 is behind hotplug1\n');
  expect(await world.run('detach', served.path, '0000:01:00.0', '--detach-timeout', '3', '--force', '--json')).toBe(0);
  expect(world.stdout.text).toContain('{"bdfs":["0000:01:00.0"],"how":"forced"}');
  expect(served.vm.calls).toEqual([
    'attach [{"bdf":"0000:01:00.0","port":"left","onError":"pause"}]',
    'detach 0000:01:00.0 {"force":true,"timeoutMs":3000}',
  ]);
  await expect(world.run('attach', served.path, 'nonsense')).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  await expect(world.run('attach', served.path)).rejects.toThrow(/BDF is missing/);
  await expect(world.run('info', served.path, '--port', 'x')).rejects.toThrow(/--port belongs to vm attach/);
});

test('wait exits as the run does', async () => {
  await using served = await Served.open();
  const world = new World();
  const waiting = world.run('wait', served.path, '--json');
  served.vm.exitWith({ reason: 'debug-exit', value: 3 });
  expect(await waiting).toBe(64);
  expect(JSON.parse(world.stdout.text)).toEqual({ exit: { reason: 'debug-exit', value: 3 }, exitCode: 64 });
});

test('a time limit', async () => {
  await using served = await Served.open();
  await expect(new World().run('wait', served.path, '--timeout', '0.03')).rejects.toMatchObject({
    code: 'TIMEOUT',
    exitCode: 124,
  });
});

test('events: one object a line', async () => {
  await using served = await Served.open();
  served.vm.emit({ type: 'state', state: 'running' });
  served.vm.emit({ type: 'warning', message: 'BAR 3 shares a page' });
  served.vm.exitWith({ reason: 'shutdown' });
  await sleep(5);
  served.vm.hub.end();
  const world = new World();
  expect(await world.run('events', served.path, '--since', '0', '--json')).toBe(0);
  const events = world.stdout.text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
  expect(events).toMatchObject([
    { id: 1, type: 'state', state: 'running' },
    { id: 2, type: 'warning', message: 'BAR 3 shares a page' },
    { id: 3, type: 'exit', exit: { reason: 'shutdown' } },
  ]);
  const people = new World();
  await people.run('events', served.path, '--since', '1', '--kind', 'warning,exit');
  expect(people.stdout.text).toMatch(/^2 \d{4}-.*Z warning: BAR 3 shares a page\n3 .*Z the guest powered off\n$/);
});

test('events to a reader that has gone', async () => {
  await using served = await Served.open();
  const world = new World();
  const running = world.run('events', served.path, '--since', '0');
  served.vm.emit({ type: 'warning', message: 'one' });
  await world.shows('one');
  world.stdout.destroy(new Error('EPIPE'));
  expect(await running).toBe(0);
});

test('console: keys to the guest, output here, Ctrl-A x leaves', async () => {
  await using served = await Served.open();
  const world = new World().terminal();
  const running = world.run('console', served.path);
  world.stdin.write('ls\r');
  await vi.waitFor(() => expect(served.vm.typed.join('')).toBe('ls\r'));
  served.vm.print('vmlinuz\r\n');
  await world.shows('vmlinuz');
  world.stdin.write('\x01p');
  await vi.waitFor(() => expect(served.vm.calls).toEqual(['powerButton']));
  world.stdin.write('\x01x');
  expect(await running).toBe(0);
  expect(world.stdin.raw).toEqual([true, false]);
  expect(world.stderr.text).toContain('Ctrl-A x leaves');
  expect(served.vm.state).toBe('running');
});

test('console ends with the run', async () => {
  await using served = await Served.open();
  const world = new World();
  const running = world.run('console', served.path);
  world.stdin.write('x');
  await vi.waitFor(() => expect(served.vm.typed).toEqual(['x']));
  served.vm.exitWith({ reason: 'shutdown' });
  expect(await running).toBe(0);
  expect(world.signals.listenerCount('SIGINT')).toBe(0);
});

test('console --log prints what there is', async () => {
  await using served = await Served.open({ keepConsoleBytes: 8 });
  served.vm.print('0123456789');
  const world = new World();
  expect(await world.run('console', served.path, '--log')).toBe(0);
  expect(world.stdout.text).toBe('\n[2 bytes are lost]\n23456789');
});

test('config-permit', async () => {
  const asked: unknown[] = [];
  await using served = await Served.open({
    permitConfig: (request) => {
      asked.push(request);
      return request.configPermit === undefined ? [] : [{ offset: 0x40, readBits: 1, writeBits: 3, writeOnly: true }];
    },
  });
  const world = new World();
  await world.run('config-permit', served.path, '01:00.0', '--grant', '40 1 3 wo', '--force');
  await world.run('config-permit', served.path, '01:00.0');
  expect(world.stdout.text).toBe('40 00000001 00000003 wo\nno grant is open\n');
  expect(asked).toEqual([
    { bdf: '01:00.0', configPermit: ['40 1 3 wo'], configPermitForce: true },
    { bdf: '01:00.0', configPermitForce: false },
  ]);
});

test('what the VM throws is thrown here, with its exit code', async () => {
  await using served = await Served.open();
  served.vm.failure = new CausewayError('DEVICE_LOST', 'the device is gone', { hint: 'look at dmesg' });
  const error: unknown = await new World().run('pause', served.path).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: 'DEVICE_LOST', exitCode: 7, hint: 'look at dmesg' });
});

test.each<[string[], string]>([
  [[], 'what to do is missing'],
  [['infoo', 'x'], 'did you mean "info"?'],
  [['info'], 'NAME is missing'],
  [['config-permit'], 'NAME is missing\nBDF is missing'],
  [['info', 'a', 'b'], 'unexpected word "b"'],
  [['info', 'a', '--since', '1'], '--since belongs to vm events'],
  [['events', 'a', '--kind', 'odd'], 'there is no "odd"'],
  [['config-permit', 'a', 'b', '--file', 'f', '--grant', '0 0 0'], 'exclude each other'],
])('%j is a fault', async (args, message) => {
  const error: unknown = await new World().run(...args).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: 'USAGE', exitCode: 2 });
  expect((error as Error).message).toContain(message);
});

test('a VM that does not run', async () => {
  await expect(new World().run('info', '/nowhere/vm.sock')).rejects.toMatchObject({
    code: 'CONTROL_UNAVAILABLE',
    exitCode: 3,
  });
});
