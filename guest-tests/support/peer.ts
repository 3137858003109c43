/** The other end of a guest's TCP transfers: listens on this host, which guests of the lab reach as 10.0.2.2. */
import { createCipheriv, createHash } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';

/** How this host looks from behind the lab's user-mode network. */
export const PEER_ADDRESS = '10.0.2.2';

/** The same bytes each time, without any pattern that a broken transfer could hide in. */
function pseudoRandomBytes(count: number): Buffer {
  return createCipheriv('aes-128-ctr', Buffer.alloc(16, 7), Buffer.alloc(16)).update(Buffer.alloc(count));
}

export class TcpPeer implements AsyncDisposable {
  readonly bytes: Buffer;
  readonly sha256: string;
  /** SHA-256 and length of everything that was uploaded, in order. */
  readonly uploads: { readonly sha256: string; readonly bytes: number }[] = [];
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();
  /** A guest that connects here is sent {@link bytes}. */
  downloadPort = 0;
  /** What a guest sends here is hashed. */
  uploadPort = 0;

  private constructor(size: number) {
    this.bytes = pseudoRandomBytes(size);
    this.sha256 = createHash('sha256').update(this.bytes).digest('hex');
  }

  static async listen(size: number): Promise<TcpPeer> {
    const peer = new TcpPeer(size);
    peer.downloadPort = await peer.#serve((socket) => void socket.resume().end(peer.bytes));
    peer.uploadPort = await peer.#serve((socket) => peer.#receive(socket));
    return peer;
  }

  #receive(socket: Socket): void {
    const hash = createHash('sha256');
    let bytes = 0;
    socket.on('data', (chunk) => {
      hash.update(chunk);
      bytes += chunk.length;
    });
    socket.on('end', () => {
      this.uploads.push({ sha256: hash.digest('hex'), bytes });
      socket.end();
    });
  }

  async #serve(onConnection: (socket: Socket) => void): Promise<number> {
    // Half open: the guest's end of input must not cut off what is still to be sent.
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      // A guest that dies in the middle is seen by the checksum that is then missing.
      socket.on('error', () => {});
      onConnection(socket);
    });
    this.#servers.push(server);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject).listen(0, '127.0.0.1', resolve);
    });
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('the peer has no port');
    return address.port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(this.#servers.map((server) => new Promise((resolve) => server.close(resolve))));
  }
}
