/** Types of a service's handlers and of its client, derived from the generated table of methods. */
import type { MessageTypes, MethodSchema } from '../../../proto/index.ts';

export interface CallContext {
  /** Aborted when the client has gone, the deadline has passed, or the server closes. */
  readonly signal: AbortSignal;
}

type Message<Name> = Name extends keyof MessageTypes ? MessageTypes[Name] : never;

export type RequestOf<M extends MethodSchema> = M['requestStream'] extends true
  ? AsyncIterable<Message<M['request']>>
  : Message<M['request']>;

export type ResponseOf<M extends MethodSchema> = M['responseStream'] extends true
  ? AsyncIterable<Message<M['response']>>
  : Promise<Message<M['response']>>;

/** What a server implements: one function a method. */
export type Handlers<Methods extends Record<string, MethodSchema>> = {
  readonly [Name in keyof Methods]: (
    request: RequestOf<Methods[Name]>,
    context: CallContext,
  ) => ResponseOf<Methods[Name]>;
};

/** The same as the client sees it. */
export type Stub<Methods extends Record<string, MethodSchema>> = {
  readonly [Name in keyof Methods]: (
    request: RequestOf<Methods[Name]>,
    options?: CallOptions,
  ) => ResponseOf<Methods[Name]>;
};

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** The server gives up after so long; no limit when left out. */
  readonly timeoutMs?: number | undefined;
}
