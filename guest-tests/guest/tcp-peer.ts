/**
 * The other end of a guest's TCP transfers. A client sends one line: `GET n`, and is sent n bytes, always the same; `SUM n`,
 * and is sent the SHA-256 of those in a line; or `PUT n` and n bytes, and is sent the SHA-256 of what came in a line.
 */
import { createCipheriv, createHash } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';

/** Where tests find a peer, as `address:port` of the guest's network. Set by `causeway test --lab`. */
export const PEER_VARIABLE = 'CAUSEWAY_TEST_PEER';
/** This host as the guests behind QEMU's user-mode network see it. */
export const LAB_PEER_ADDRESS = '10.0.2.2';

const MOST_BYTES = 1024 * 1024 * 1024;
const LONGEST_LINE = 64;

/** The same bytes each time, without any pattern that a broken transfer could hide in. */
export function peerBytes(count: number): Buffer {
  return createCipheriv('aes-128-ctr', Buffer.alloc(16, 7), Buffer.alloc(16)).update(Buffer.alloc(count));
}

export class TcpPeer implements AsyncDisposable {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets: Set<Socket>;

  private constructor(server: Server, sockets: Set<Socket>, port: number) {
    this.#server = server;
    this.#sockets = sockets;
    this.port = port;
  }

  /** @param address to listen on; the default reaches labs of this machine, and nobody else */
  static async listen(address = '127.0.0.1'): Promise<TcpPeer> {
    const sockets = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
      // A guest that dies in the middle is seen by what it then misses.
      socket.on('error', () => {});
      serve(socket);
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject).listen(0, address, resolve);
    });
    // Nobody waits for a peer to end.
    server.unref();
    const at = server.address();
    if (at === null || typeof at === 'string') throw new Error('the peer has no port');
    return new TcpPeer(server, sockets, at.port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function serve(socket: Socket): void {
  let head = Buffer.alloc(0);
  const onHead = (chunk: Buffer): void => {
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf('\n');
    if (end < 0 && head.length < LONGEST_LINE) return;
    socket.off('data', onHead);
    const [, verb, text] = /^(GET|SUM|PUT) (\d{1,10})\r?$/.exec(head.toString('latin1', 0, Math.max(0, end))) ?? [];
    const count = Number(text);
    if (verb === undefined || count > MOST_BYTES) socket.destroy();
    else if (verb === 'GET') socket.resume().end(peerBytes(count));
    else if (verb === 'SUM') socket.resume().end(`${createHash('sha256').update(peerBytes(count)).digest('hex')}\n`);
    else receive(socket, head.subarray(end + 1), count);
  };
  socket.on('data', onHead);
}

function receive(socket: Socket, first: Buffer, count: number): void {
  const hash = createHash('sha256');
  let left = count;
  const take = (chunk: Buffer): void => {
    hash.update(chunk.subarray(0, left));
    left -= Math.min(left, chunk.length);
    if (left > 0) return;
    socket.off('data', take);
    socket.resume().end(`${hash.digest('hex')}\n`);
  };
  socket.on('data', take);
  take(first);
}
