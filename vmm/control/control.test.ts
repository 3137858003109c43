import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { CausewayError } from '../base/errors.ts';
import { Served, take } from '../cli/controlled-vm.test-util.ts';
import { normaliseVmConfig } from '../config/normalise.ts';
import type { ConfigPermitRequest } from './control-service.ts';
import type { VmEvent, VmExit } from './vm.ts';

const text = (pieces: readonly { readonly data: Uint8Array }[]): string =>
  Buffer.concat(pieces.map(({ data }) => data)).toString();

async function* nothing(): AsyncGenerator<Uint8Array> {}

async function caught(promise: Promise<unknown>): Promise<CausewayError> {
  const error: unknown = await promise.then(
    () => expect.fail('it did not throw'),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(CausewayError);
  return error as CausewayError;
}

test('info is the report, the state, the process and the configuration', async () => {
  const config = normaliseVmConfig({ kernel: '/boot/vmlinuz', devices: ['01:00.0'], memory: '6GiB' });
  await using served = await Served.open({ config });
  const info = await (await served.connect()).info();
  expect(info).toEqual({
    state: 'running',
    pid: process.pid,
    report: served.vm.report(),
    config: expect.objectContaining({ kernel: '/boot/vmlinuz' }) as unknown,
  });
  expect(normaliseVmConfig(info.config)).toEqual(config);
});

test('pause, resume, power button, NMI, stop', async () => {
  await using served = await Served.open();
  const client = await served.connect();
  await client.pause();
  expect((await client.info()).state).toBe('paused');
  await client.resume();
  expect(served.vm.state).toBe('running');
  await client.powerButton();
  expect(served.vm.calls).toEqual(['powerButton']);
  await client.nmi();
  expect(served.vm.nmis).toBe(1);
  expect(await client.stop()).toEqual({ reason: 'stopped' });
});

test.each<VmExit>([
  { reason: 'shutdown' },
  { reason: 'reboot-limit', reboots: 3 },
  { reason: 'debug-exit', value: 0xffff_ffff },
  { reason: 'crash', detail: 'triple fault at 0x1000' },
  { reason: 'stopped' },
])('wait tells of $reason', async (exit) => {
  await using served = await Served.open();
  const client = await served.connect();
  const waiting = client.wait();
  served.vm.exitWith(exit);
  expect(await waiting).toEqual(exit);
  expect(await client.wait()).toEqual(exit);
  expect((await client.info()).exit).toEqual(exit);
});

test('an error arrives as it was thrown', async () => {
  await using served = await Served.open();
  const cause = Object.assign(new Error('busy'), { name: 'KernelError', code: 'EBUSY', errno: 16, syscall: 'open' });
  served.vm.failure = new CausewayError('DEVICE_BUSY', 'Gruppe 14 ist belegt – 100 %', {
    hint: 'end the other VM',
    path: '/dev/vfio/14',
    bdf: '0000:01:00.0' as never,
    issues: [{ path: 'devices[0]', message: 'busy' }],
    cause,
  });
  const error = await caught((await served.connect()).pause());
  expect(error.toJSON()).toEqual((served.vm.failure as CausewayError).toJSON());
  expect(error.exitCode).toBe(7);
  expect(error.errno).toBe(16);
});

test('what is no error of Causeway arrives as INTERNAL', async () => {
  await using served = await Served.open();
  served.vm.failure = new TypeError('boom');
  expect(await caught((await served.connect()).pause())).toMatchObject({
    code: 'INTERNAL',
    message: 'TypeError: boom',
  });
});

test('a time limit on a call', async () => {
  await using served = await Served.open();
  const client = await served.connect();
  expect(await caught(client.wait({ timeoutMs: 30 }))).toMatchObject({ code: 'TIMEOUT' });
  expect(await caught(client.wait({ signal: AbortSignal.timeout(30) }))).toMatchObject({ code: 'ABORTED' });
  expect((await client.info()).state).toBe('running');
});

test('events are numbered, replayed and go on', async () => {
  await using served = await Served.open();
  const events: VmEvent[] = [
    { type: 'warning', message: 'BAR 3 shares a page' },
    { type: 'state', state: 'running' },
    { type: 'reboot', count: 1 },
    { type: 'device', bdf: '0000:01:00.0', label: '0000:01:00.0 8086:10d3', what: 'error' },
  ];
  for (const event of events) served.vm.emit(event);
  const client = await served.connect();
  const before = await take(client.events({ sinceEventId: 0 }), 4);
  expect(before.map(({ id, timeMs: _, ...event }) => [id, event])).toEqual(events.map((event, i) => [i + 1, event]));
  expect(Math.abs(before[0]!.timeMs - Date.now())).toBeLessThan(60_000);

  const resumed = client.events({ sinceEventId: before[2]!.id });
  expect((await resumed.next()).value).toMatchObject({ id: 4, type: 'device' });
  const next = resumed.next();
  served.vm.emit({ type: 'warning', message: 'new' });
  expect((await next).value).toMatchObject({ id: 5, message: 'new' });
  served.vm.exitWith({ reason: 'shutdown' });
  expect((await resumed.next()).value).toMatchObject({ type: 'exit', exit: { reason: 'shutdown' } });
  served.vm.hub.end();
  expect((await resumed.next()).done).toBe(true);
});

test('without an id only what is to come; only the kinds asked for', async () => {
  await using served = await Served.open();
  served.vm.emit({ type: 'warning', message: 'old' });
  const client = await served.connect();
  const all = client.events();
  const reboots = client.events({ kinds: ['reboot'] });
  const first = [all.next(), reboots.next()];
  await client.info();
  served.vm.emit({ type: 'warning', message: 'new' });
  served.vm.emit({ type: 'reboot', count: 2 });
  const [one, two] = await Promise.all(first);
  expect(one!.value).toMatchObject({ message: 'new' });
  expect(two!.value).toMatchObject({ type: 'reboot', count: 2 });
});

test('who comes too late is told how much is gone, and can resume from there', async () => {
  await using served = await Served.open({ keepEvents: 8 });
  for (let count = 1; count <= 20; count++) served.vm.emit({ type: 'reboot', count });
  const client = await served.connect();
  const [gap, first] = await take(client.events({ sinceEventId: 2, kinds: ['reboot'] }), 2);
  expect(gap).toMatchObject({ type: 'dropped', id: 12, count: 10 });
  expect(first).toMatchObject({ id: 13, count: 13 });
  const [again] = await take(client.events({ sinceEventId: gap!.id }), 1);
  expect(again).toMatchObject({ id: 13 });
});

test('a reader that does not read costs neither time nor memory; it is told what it missed', async () => {
  await using served = await Served.open({ keepEvents: 16, keepConsoleBytes: 32 * 1024 });
  const client = await served.connect();
  const lazyEvents = client.events({ sinceEventId: 0 });
  const lazyLog = client.consoleLog({ follow: true });
  served.vm.emit({ type: 'warning', message: 'first' });
  served.vm.print('x');
  expect((await lazyEvents.next()).value).toMatchObject({ message: 'first' });
  expect((await lazyLog.next()).value).toMatchObject({ offset: 0 });
  const began = performance.now();
  const long = 'y'.repeat(4096);
  for (let i = 0; i < 2000; i++) {
    served.vm.emit({ type: 'warning', message: long });
    served.vm.print(long);
    if (i % 100 === 0) await sleep(0);
  }
  // 8 MB each: had anybody waited for the reader, this would not end at all.
  expect(performance.now() - began).toBeLessThan(5000);
  const other = await (await served.connect()).info();
  expect(other.state).toBe('running');
  served.vm.hub.end();
  served.server.close().catch(() => {});
  let dropped = 0;
  let got = 1;
  for await (const event of lazyEvents) {
    if (event.type === 'dropped') dropped += event.count;
    else got++;
  }
  expect(dropped).toBeGreaterThan(1000);
  expect(dropped + got).toBe(2001);
});

test('the console goes both ways', async () => {
  await using served = await Served.open();
  served.vm.print('before ');
  const client = await served.connect();
  const input = new TransformStream<Uint8Array, Uint8Array>();
  const keys = input.writable.getWriter();
  const console = client.console(input.readable as unknown as AsyncIterable<Uint8Array>, { offset: 0 });
  expect(text(await take({ [Symbol.asyncIterator]: () => ({ next: () => console.next() }) }, 1))).toBe('before ');
  await keys.write(Buffer.from('root\r'));
  await keys.write(Uint8Array.of(0, 0xff));
  const next = console.next();
  served.vm.print('login: ');
  expect((await next).value).toMatchObject({ offset: 7, droppedBytes: 0 });
  while (served.vm.typed.join('').length < 7) await sleep(1);
  expect(served.vm.typed.join('')).toBe('root\r\0\xff');
  served.vm.exitWith({ reason: 'shutdown' });
  expect((await console.next()).done).toBe(true);
});

test('output goes on when nobody types; two clients both get it', async () => {
  await using served = await Served.open();
  const [one, two] = [await served.connect(), await served.connect()];
  const consoles = [one.console(nothing()), two.console(nothing())];
  const first = consoles.map((console) => console.next());
  await Promise.all([one.info(), two.info()]);
  await sleep(5);
  served.vm.print('hello');
  for (const piece of await Promise.all(first)) expect(text([piece.value!])).toBe('hello');
});

test('the log: all of it, from an offset, cut where it is gone', async () => {
  await using served = await Served.open({ keepConsoleBytes: 1024 });
  const client = await served.connect();
  served.vm.print('0123456789');
  const pieces = [];
  for await (const piece of client.consoleLog()) pieces.push(piece);
  expect(text(pieces)).toBe('0123456789');
  expect(text(await take(client.consoleLog({ offset: 7 }), 1))).toBe('789');
  served.vm.print('z'.repeat(2000));
  expect(await take(client.consoleLog({ offset: 5 }), 1)).toMatchObject([{ offset: 986, droppedBytes: 981 }]);
});

test('grants on config space', async () => {
  const asked: ConfigPermitRequest[] = [];
  const grant = { offset: 0x40, readBits: 0xffff_ffff, writeBits: 1, writeOnly: false };
  await using served = await Served.open({
    permitConfig: (request) => {
      asked.push(request);
      if (request.bdf !== '0000:01:00.0') throw new CausewayError('DEVICE_NOT_FOUND', 'not of this VM');
      return [grant];
    },
  });
  const client = await served.connect();
  const lines = { bdf: '0000:01:00.0', configPermit: ['40 ffffffff 1'], configPermitForce: true };
  expect(await client.permitConfig(lines)).toEqual([grant]);
  const none = { bdf: '0000:01:00.0', configPermitForce: false };
  await client.permitConfig(none);
  await client.permitConfig({ ...none, configPermit: '/etc/causeway/permit' });
  expect(asked).toEqual([lines, none, { ...none, configPermit: '/etc/causeway/permit' }]);
  expect(await caught(client.permitConfig({ ...none, bdf: '0000:02:00.0' }))).toMatchObject({
    code: 'DEVICE_NOT_FOUND',
  });
});

test('a client that goes in the middle of everything leaves the others and the VM alone', async () => {
  await using served = await Served.open();
  const [goes, stays] = [await served.connect(), await served.connect()];
  const calls = [goes.events().next(), goes.console(nothing()).next(), goes.wait()].map((call) => caught(call));
  await goes.info();
  goes.close();
  for (const error of await Promise.all(calls)) expect(error.code).toBe('CONTROL_UNAVAILABLE');
  expect(await caught(goes.info())).toMatchObject({ code: 'CONTROL_UNAVAILABLE' });
  served.vm.emit({ type: 'warning', message: 'still here' });
  served.vm.print('output');
  expect(await take(stays.events({ sinceEventId: 0 }), 1)).toMatchObject([{ message: 'still here' }]);
});

test('when the server closes, streams end in order and waiting calls fail', async () => {
  const served = await Served.open();
  const client = await served.connect();
  const events = client.events({ sinceEventId: 0 });
  const waiting = caught(client.wait());
  served.vm.emit({ type: 'state', state: 'closed' });
  expect((await events.next()).value).toMatchObject({ state: 'closed' });
  const ended = events.next();
  await served.server.close();
  expect((await ended).done).toBe(true);
  expect((await waiting).code).toBe('CONTROL_UNAVAILABLE');
  await served[Symbol.asyncDispose]();
});
