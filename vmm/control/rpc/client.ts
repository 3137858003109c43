/** A gRPC client on Node's own HTTP/2, over a connection that is open already. */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';
import type { Socket } from 'node:net';
import { CODEC, type MessageTypes, type MethodSchema } from '../../../proto/index.ts';
import { CausewayError, isCausewayError } from '../../base/errors.ts';
import { frame, unframe } from './frames.ts';
import type { CallOptions, Stub } from './service.ts';
import { errorOf } from './status.ts';
import { inOwnTurn } from './turn.ts';

export class RpcClient {
  readonly #session: ClientHttp2Session;
  #closed = false;

  constructor(socket: Socket) {
    this.#session = connect('http://localhost', { createConnection: () => socket });
    // Every call of the session reports it.
    this.#session.on('error', () => {});
  }

  /** One function for each method of a service. */
  stub<Methods extends Record<string, MethodSchema>>(methods: Methods): Stub<Methods> {
    const calls = Object.entries(methods).map(([name, schema]) => {
      const call = (request: unknown, options: CallOptions = {}): unknown => {
        const requests = schema.requestStream ? (request as AsyncIterable<unknown>) : [request];
        const responses = this.#call(schema, requests, options);
        return schema.responseStream ? responses : onlyOne(responses);
      };
      return [name, call] as const;
    });
    return Object.fromEntries(calls) as Stub<Methods>;
  }

  /** Ends every call and the connection, in a moment. */
  close(): void {
    this.#closed = true;
    inOwnTurn(() => this.#session.destroy());
  }

  async *#call(
    schema: MethodSchema,
    requests: AsyncIterable<unknown> | Iterable<unknown>,
    { signal, timeoutMs }: CallOptions,
  ): AsyncGenerator<unknown> {
    if (signal?.aborted) throw aborted();
    if (this.#closed || this.#session.destroyed || this.#session.closed) throw gone();
    const stream = this.#session.request({
      ':method': 'POST',
      ':path': schema.path,
      'content-type': 'application/grpc+proto',
      te: 'trailers',
      ...(timeoutMs === undefined ? {} : { 'grpc-timeout': `${Math.min(99_999_999, Math.ceil(timeoutMs))}m` }),
    });
    const call = new Call(stream, signal);
    try {
      void call.send(schema.request as keyof MessageTypes, requests);
      // `destroyOnReturn: false`: `end` does that, in its own turn.
      for await (const bytes of unframe(stream.iterator({ destroyOnReturn: false })))
        yield CODEC.decode(schema.response as keyof MessageTypes, bytes);
      call.check();
    } catch (error) {
      throw call.explain(error);
    } finally {
      call.end();
    }
  }
}

/** The state of one call. */
class Call {
  readonly #stream: ClientHttp2Stream;
  readonly #signal: AbortSignal | undefined;
  #headers: Readonly<Record<string, unknown>> = {};
  #sendError: unknown;

  constructor(stream: ClientHttp2Stream, signal: AbortSignal | undefined) {
    this.#stream = stream;
    this.#signal = signal;
    signal?.addEventListener('abort', this.#cancel, { once: true });
    stream.on('response', (headers) => {
      this.#headers = { ...headers };
    });
    stream.on('trailers', (headers) => {
      this.#headers = { ...this.#headers, ...headers };
    });
    stream.on('error', () => {});
  }

  /** Never rejects. */
  async send(name: keyof MessageTypes, requests: AsyncIterable<unknown> | Iterable<unknown>): Promise<void> {
    try {
      for await (const request of requests) {
        if (this.#stream.closed || this.#stream.destroyed) return;
        if (!this.#stream.write(frame(CODEC.encode(name, request as never)))) await roomIn(this.#stream);
      }
      this.#stream.end();
    } catch (error) {
      this.#sendError = error;
      this.#cancel();
    }
  }

  /** @throws CausewayError when the call did not end well */
  check(): void {
    if (this.#sendError !== undefined) throw this.#sendError;
    if (this.#signal?.aborted) throw aborted();
    if (this.#headers['grpc-status'] === undefined) throw gone();
    const error = errorOf(this.#headers);
    if (error) throw error;
  }

  /** The reason behind what a stream threw. */
  explain(error: unknown): unknown {
    if (isCausewayError(error)) return error;
    if (this.#sendError !== undefined) return this.#sendError;
    if (this.#signal?.aborted) return aborted();
    return errorOf({ 'grpc-status': 0, ...this.#headers }) ?? gone(error);
  }

  /** A call that its reader left is cancelled. */
  end(): void {
    this.#signal?.removeEventListener('abort', this.#cancel);
    this.#cancel();
  }

  readonly #cancel = (): void => {
    inOwnTurn(() => {
      if (!this.#stream.closed) this.#stream.close(constants.NGHTTP2_CANCEL);
      this.#stream.destroy();
    });
  };
}

function roomIn(stream: ClientHttp2Stream): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off('drain', done);
      stream.off('close', done);
      resolve();
    };
    stream.once('drain', done);
    stream.once('close', done);
  });
}

async function onlyOne(responses: AsyncIterable<unknown>): Promise<unknown> {
  let found: unknown;
  for await (const response of responses) found ??= response;
  if (found === undefined) throw new CausewayError('INTERNAL', 'the VM answered with nothing');
  return found;
}

function aborted(): CausewayError {
  return new CausewayError('ABORTED', 'the call was aborted');
}

function gone(cause?: unknown): CausewayError {
  return new CausewayError('CONTROL_UNAVAILABLE', 'the VM has gone', { cause });
}
