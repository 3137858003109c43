/**
 * A gRPC server on Node's own HTTP/2: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md. No compression, no
 * TLS; a Unix socket's permissions say who may call.
 */
import { constants, createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import { CODEC, type MessageTypes, type MethodSchema } from '../../../proto/index.ts';
import { frame, unframe } from './frames.ts';
import type { CallContext, Handlers } from './service.ts';
import { OK, STATUS, StatusError, type Trailers, trailersOf } from './status.ts';
import { inOwnTurn } from './turn.ts';

/** Any handler, its types left to the codec. */
type AnyHandler = (request: unknown, context: CallContext) => Promise<unknown> | AsyncIterable<unknown>;

const CONTENT_TYPE = 'application/grpc';
/** When the server closes, calls get so long to send what they have. */
const CLOSE_GRACE_MS = 1000;
const TIMEOUT_UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };
/** A longer timer would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export class RpcServer {
  /** To be made listening by the caller. */
  readonly http: Http2Server;
  readonly #methods = new Map<string, { readonly schema: MethodSchema; readonly handler: AnyHandler }>();
  readonly #sessions = new Set<ServerHttp2Session>();

  constructor() {
    this.http = createServer();
    this.http.on('session', (session) => {
      this.#sessions.add(session);
      session.on('close', () => this.#sessions.delete(session));
      // What a client does wrong ends its session and nothing else.
      session.on('error', () => inOwnTurn(() => session.destroy()));
    });
    this.http.on('stream', (stream, headers) => void this.#serve(stream, headers));
    this.http.on('sessionError', () => {});
  }

  /** Adds the methods of one service. */
  serve<Methods extends Record<string, MethodSchema>>(methods: Methods, handlers: Handlers<Methods>): void {
    for (const [name, schema] of Object.entries(methods)) {
      this.#methods.set(schema.path, { schema, handler: handlers[name]!.bind(handlers) as AnyHandler });
    }
  }

  /** Takes no call any more, lets those under way finish for a moment, then cuts them off. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.http.close(() => resolve()));
    inOwnTurn(() => {
      for (const session of this.#sessions) session.close();
    });
    const cut = setTimeout(() => {
      for (const session of this.#sessions) session.destroy();
    }, CLOSE_GRACE_MS);
    await closed;
    clearTimeout(cut);
  }

  /** One call, to its end. Never rejects. */
  async #serve(stream: ServerHttp2Stream, headers: Readonly<Record<string, unknown>>): Promise<void> {
    const abort = new AbortController();
    stream.on('error', () => abort.abort());
    stream.on('close', () => abort.abort());
    if (headers[':method'] !== 'POST' || !String(headers['content-type'] ?? '').startsWith(CONTENT_TYPE)) {
      stream.respond({ ':status': 415 }, { endStream: true });
      return;
    }
    let late: NodeJS.Timeout | undefined;
    let end: Trailers = OK;
    try {
      const expired = new Promise<never>((_, reject) => {
        const timeoutMs = parseTimeout(headers['grpc-timeout']);
        if (timeoutMs === undefined) return;
        late = setTimeout(() => {
          reject(new StatusError(STATUS.deadlineExceeded, 'the time that the client allowed ran out'));
          abort.abort();
        }, timeoutMs);
      });
      stream.respond({ ':status': 200, 'content-type': `${CONTENT_TYPE}+proto` }, { waitForTrailers: true });
      await Promise.race([this.#call(stream, String(headers[':path']), abort.signal), expired]);
    } catch (error) {
      end = trailersOf(error);
    } finally {
      clearTimeout(late);
    }
    finish(stream, end);
  }

  async #call(stream: ServerHttp2Stream, path: string, signal: AbortSignal): Promise<void> {
    const method = this.#methods.get(path);
    if (!method) throw new StatusError(STATUS.unimplemented, `there is no method ${path}`);
    const { schema, handler } = method;
    const requests = readRequests(stream, schema.request as keyof MessageTypes);
    const request = schema.requestStream ? requests : await onlyOne(requests);
    const result = handler(request, { signal });
    if (result instanceof Promise) await send(stream, schema, await result, signal);
    else for await (const response of result) await send(stream, schema, response, signal);
  }
}

async function* readRequests(stream: ServerHttp2Stream, name: keyof MessageTypes): AsyncGenerator<unknown> {
  // `destroyOnReturn: false`: a handler that has read enough still wants to answer.
  for await (const bytes of unframe(stream.iterator({ destroyOnReturn: false }))) yield CODEC.decode(name, bytes);
}

async function onlyOne(requests: AsyncIterable<unknown>): Promise<unknown> {
  const found: unknown[] = [];
  for await (const request of requests) {
    found.push(request);
    if (found.length > 1) break;
  }
  if (found.length !== 1) throw new StatusError(STATUS.invalidArgument, 'this method takes exactly one message');
  return found[0];
}

/** Waits while the client does not read: the next response is asked for only when there is room. */
async function send(
  stream: ServerHttp2Stream,
  { response }: MethodSchema,
  message: unknown,
  signal: AbortSignal,
): Promise<void> {
  if (signal.aborted || stream.destroyed) return;
  if (stream.write(frame(CODEC.encode(response as keyof MessageTypes, message as never)))) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      stream.off('drain', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    stream.once('drain', done);
    signal.addEventListener('abort', done, { once: true });
  });
}

function finish(stream: ServerHttp2Stream, trailers: Trailers): void {
  if (stream.destroyed || stream.closed) return;
  stream.once('wantTrailers', () => {
    try {
      stream.sendTrailers(trailers);
    } catch {
      // The client went in this very moment.
      inOwnTurn(() => stream.close(constants.NGHTTP2_INTERNAL_ERROR));
    }
  });
  // What the client still sends is read and dropped, so that the stream can end.
  stream.resume();
  stream.end();
}

/** `100m` is 100 milliseconds. @throws StatusError */
function parseTimeout(header: unknown): number | undefined {
  if (header === undefined) return undefined;
  const match = /^(\d{1,8})([HMSmun])$/.exec(String(header));
  if (!match) throw new StatusError(STATUS.invalidArgument, `grpc-timeout: "${String(header)}" is not understood`);
  return Math.min(MAX_TIMER_MS, Math.ceil(Number(match[1]) * TIMEOUT_UNIT_MS[match[2]!]!));
}
