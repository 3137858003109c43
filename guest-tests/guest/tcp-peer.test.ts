import { createHash } from 'node:crypto';
import { connect } from 'node:net';
import { text as readText } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { peerBytes, TcpPeer } from './tcp-peer.ts';

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

async function ask(port: number, ...pieces: (string | Uint8Array)[]): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  socket.setEncoding('latin1');
  for (const piece of pieces) socket.write(piece);
  return readText(socket);
}

test('both ways, several at once, in pieces, and nothing', async () => {
  await using peer = await TcpPeer.listen();
  const bytes = peerBytes(300_000);
  const [down, wanted, up, empty] = await Promise.all([
    ask(peer.port, 'GET 300', '000\n'),
    ask(peer.port, 'SUM 300000\n'),
    ask(peer.port, 'PUT 300000\n', bytes.subarray(0, 1000), bytes.subarray(1000), 'more than was said'),
    ask(peer.port, 'PUT 0\n'),
  ]);
  expect(digest(Buffer.from(down, 'latin1'))).toBe(digest(bytes));
  for (const sum of [wanted, up]) expect(sum).toBe(`${digest(bytes)}\n`);
  expect(empty).toBe(`${digest(new Uint8Array())}\n`);
});

test.each(['HELO\n', 'GET 99999999999\n', 'x'.repeat(1000), 'PUT -1\n'])('%j is cut off', async (request) => {
  await using peer = await TcpPeer.listen();
  expect(await ask(peer.port, request).catch(() => '')).toBe('');
});
