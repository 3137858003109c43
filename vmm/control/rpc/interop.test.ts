/** The server with the reference implementation of gRPC as its client, and with clients that misbehave. */
import { connect as connectHttp2, constants } from 'node:http2';
import { connect } from 'node:net';
import { text as readText } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Client, credentials, type Metadata, makeGenericClientConstructor } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import { CODEC, type MessageTypes, VmService } from '../../../proto/index.ts';
import { CausewayError } from '../../base/errors.ts';
import { Served } from '../../cli/controlled-vm.test-util.ts';
import { frame, MAX_MESSAGE_BYTES } from './frames.ts';
import { STATUS } from './status.ts';
import { inOwnTurn } from './turn.ts';

type Name = keyof MessageTypes;

const DEFINITION = Object.fromEntries(
  Object.entries(VmService).map(([name, method]) => [
    name,
    {
      ...method,
      requestSerialize: (message: unknown) => Buffer.from(CODEC.encode(method.request as Name, message as never)),
      requestDeserialize: (bytes: Buffer) => CODEC.decode(method.request as Name, bytes),
      responseSerialize: (message: unknown) => Buffer.from(CODEC.encode(method.response as Name, message as never)),
      responseDeserialize: (bytes: Buffer) => CODEC.decode(method.response as Name, bytes),
    },
  ]),
);

/** grpc-js's methods for our table, with just the types that the tests need. */
interface Reference extends Client {
  getVm(request: object, done: (error: Failure | null, response: MessageTypes['GetVmResponse']) => void): void;
  pauseVm(request: object, done: (error: Failure | null) => void): void;
  waitVm(request: object, options: object, done: (error: Failure | null) => void): void;
  subscribeEvents(request: object): AsyncIterable<MessageTypes['VmEvent']> & { cancel(): void };
  attachConsole(): AsyncIterable<MessageTypes['ConsoleOutput']> & { write(message: object): void; end(): void };
}
interface Failure extends Error {
  readonly code: number;
  readonly details: string;
  readonly metadata: Metadata;
}

function reference(path: string): Reference {
  const Constructor = makeGenericClientConstructor(DEFINITION, 'VmService');
  return new Constructor(`unix:${path}`, credentials.createInsecure()) as unknown as Reference;
}

test('grpc-js: a call, an error with details, a deadline, streams both ways', async () => {
  await using served = await Served.open();
  const client = reference(served.path);
  try {
    const vm = await new Promise<MessageTypes['GetVmResponse']>((resolve, reject) =>
      client.getVm({}, (error, response) => (error ? reject(error) : resolve(response))),
    );
    expect(vm.vm).toMatchObject({ state: 'VM_STATE_RUNNING', pid: process.pid });

    served.vm.failure = new CausewayError('STATE', 'pause() passt nicht: schon „paused“', { hint: 'resume first' });
    const failure = await new Promise<Failure>((resolve) => client.pauseVm({}, (error) => resolve(error!)));
    expect(failure).toMatchObject({ code: STATUS.failedPrecondition, details: 'pause() passt nicht: schon „paused“' });
    const status = CODEC.decode('Status', failure.metadata.get('grpc-status-details-bin')[0] as Buffer);
    expect(status.details[0]!.typeUrl).toBe('type.googleapis.com/causeway.v1.Error');
    const error = CODEC.decode('Error', status.details[0]!.value);
    expect(error).toMatchObject({ code: 'ERROR_CODE_STATE', hint: 'resume first' });

    const late = await new Promise<Failure>((resolve) =>
      client.waitVm({}, { deadline: Date.now() + 50 }, (failed) => resolve(failed!)),
    );
    expect(late.code).toBe(STATUS.deadlineExceeded);

    served.vm.emit({ type: 'reboot', count: 1 });
    const events = client.subscribeEvents({ sinceEventId: 0n, kinds: [] });
    for await (const event of events) {
      expect(event).toMatchObject({ id: 1n, reboot: { count: 1n } });
      break;
    }

    const console = client.attachConsole();
    console.write({ start: { offset: 0n } });
    console.write({ data: Buffer.from('ls\r') });
    while (served.vm.typed.length === 0) await sleep(1);
    console.end();
    served.vm.print('file');
    served.vm.exitWith({ reason: 'shutdown' });
    const pieces: string[] = [];
    for await (const { data } of console) pieces.push(Buffer.from(data).toString());
    expect(pieces.join('')).toBe('file');
  } finally {
    client.close();
  }
});

/** One call by hand. @returns what came back, headers and trailers in one */
async function raw(
  path: string,
  { body, headers = {} }: { readonly body: Uint8Array; readonly headers?: Record<string, string> },
): Promise<Record<string, unknown>> {
  const session = connectHttp2('http://localhost', { createConnection: () => connect(path) });
  try {
    const stream = session.request({
      ':method': 'POST',
      ':path': VmService.getVm.path,
      'content-type': 'application/grpc',
      ...headers,
    });
    let got: Record<string, unknown> = {};
    stream.on('response', (response) => void Object.assign(got, response));
    stream.on('trailers', (trailers) => {
      got = { ...got, ...trailers };
    });
    stream.on('error', () => {});
    stream.end(body);
    stream.resume();
    await new Promise((resolve) => stream.once('close', resolve));
    return got;
  } finally {
    inOwnTurn(() => session.destroy());
  }
}

const GET = frame(new Uint8Array(0));

test.each<[string, Parameters<typeof raw>[1], Record<string, unknown>]>([
  ['a call', { body: GET }, { 'grpc-status': '0' }],
  ['an unknown method', { body: GET, headers: { ':path': '/causeway.v1.VmService/Explode' } }, { 'grpc-status': '12' }],
  ['no message', { body: Buffer.alloc(0) }, { 'grpc-status': '3' }],
  ['two messages', { body: Buffer.concat([GET, GET]) }, { 'grpc-status': '3' }],
  ['half a message', { body: Buffer.from([0, 0, 0, 0, 9, 1]) }, { 'grpc-status': '13' }],
  ['half a prefix', { body: Buffer.from([0, 0]) }, { 'grpc-status': '13' }],
  ['a compressed message', { body: Buffer.from([1, 0, 0, 0, 0]) }, { 'grpc-status': '12' }],
  ['a huge message', { body: Buffer.from([0, 0xff, 0xff, 0xff, 0xff]) }, { 'grpc-status': '8' }],
  ['bytes that are no message', { body: frame(Uint8Array.of(0x0a, 0x7f)) }, { 'grpc-status': '3' }],
  ['a bad time limit', { body: GET, headers: { 'grpc-timeout': 'soon' } }, { 'grpc-status': '3' }],
  ['another content', { body: GET, headers: { 'content-type': 'text/html' } }, { ':status': 415 }],
  ['another verb', { body: Buffer.alloc(0), headers: { ':method': 'GET' } }, { ':status': 415 }],
])('%s is answered', async (_, call, answer) => {
  await using served = await Served.open();
  expect(await raw(served.path, call)).toMatchObject(answer);
  expect(await raw(served.path, { body: GET })).toMatchObject({ 'grpc-status': '0' });
});

test('a message as large as allowed, in pieces', async () => {
  await using served = await Served.open();
  const body = frame(
    Buffer.concat([Buffer.from([0xa2, 0x06, 0xf9, 0xff, 0xff, 0x01]), Buffer.alloc(MAX_MESSAGE_BYTES - 7)]),
  );
  expect(await raw(served.path, { body })).toHaveProperty('grpc-status');
});

test.each([
  ['HTTP/1', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
  ['noise', Buffer.from(Array.from({ length: 4096 }, (_, i) => (i * 31) & 0xff))],
  ['a preface and noise', Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), Buffer.alloc(999, 0x81)])],
])('%s ends its own connection and nothing else', async (_, bytes) => {
  await using served = await Served.open();
  const socket = connect(served.path);
  socket.on('error', () => {});
  socket.end(bytes);
  await readText(socket).catch(() => {});
  socket.destroy();
  expect(await raw(served.path, { body: GET })).toMatchObject({ 'grpc-status': '0' });
});

test('calls that are cancelled at once leave nothing behind', async () => {
  await using served = await Served.open();
  const session = connectHttp2('http://localhost', { createConnection: () => connect(served.path) });
  session.on('error', () => {});
  for (let i = 0; i < 50; i++) {
    const stream = session.request({
      ':method': 'POST',
      ':path': VmService.subscribeEvents.path,
      'content-type': 'application/grpc',
    });
    stream.on('error', () => {});
    stream.write(GET);
    if (i % 3 === 0) await sleep(0);
    stream.close(constants.NGHTTP2_CANCEL);
  }
  await sleep(20);
  session.destroy();
  served.vm.emit({ type: 'warning', message: 'x' });
  expect(await raw(served.path, { body: GET })).toMatchObject({ 'grpc-status': '0' });
});
