/** What may reset a stream waits for a turn of its own; see turn.ts for what happens otherwise. */
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, expect, test, vi } from 'vitest';
import { Served } from '../../cli/controlled-vm.test-util.ts';

afterEach(() => void vi.restoreAllMocks());

/** The calls of session.destroy and stream.close that the client makes from now on, in order; Node makes its own. */
async function watchResets(path: string): Promise<string[]> {
  const session = connectHttp2('http://localhost', { createConnection: () => connect(path) });
  const stream = session.request();
  stream.on('error', () => {});
  const resets: string[] = [];
  const note = (object: object, method: string, name: string): void => {
    const owner = Object.getPrototypeOf(Object.getPrototypeOf(object)) as Record<string, (...args: never[]) => unknown>;
    const original = owner[method]!;
    vi.spyOn(owner, method).mockImplementation(function (this: unknown, ...args: never[]) {
      if (new Error('who').stack!.includes('rpc/client.ts')) resets.push(name);
      return original.apply(this, args);
    });
  };
  note(session, 'destroy', 'session.destroy');
  note(stream, 'close', 'stream.close');
  session.destroy();
  return resets;
}

test('a client that closes with an answer in its hand', async () => {
  await using served = await Served.open();
  const resets = await watchResets(served.path);
  const client = await served.connect();
  await client.info();
  client.close();
  await new Promise((resolve) => process.nextTick(resolve));
  expect(resets).toEqual([]);
  await expect(client.info()).rejects.toMatchObject({ code: 'CONTROL_UNAVAILABLE' });
  await turn();
  expect(resets).toContain('session.destroy');
});

test('a reader that leaves a stream, and one whose call is aborted', async () => {
  await using served = await Served.open();
  const resets = await watchResets(served.path);
  const client = await served.connect();
  served.vm.emit({ type: 'warning', message: 'x' });
  const abort = new AbortController();
  const waiting = client.wait({ signal: abort.signal }).catch((error: unknown) => error);
  for await (const _ of client.events({ sinceEventId: 0 })) {
    abort.abort();
    break;
  }
  await new Promise((resolve) => process.nextTick(resolve));
  expect(resets).toEqual([]);
  await turn();
  expect(resets).toEqual(['stream.close', 'stream.close']);
  expect(await waiting).toMatchObject({ code: 'ABORTED' });
});
