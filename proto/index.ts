/**
 * Causeway's messages: their types, their encoding, the methods of the control service. Plain data: how it relates to
 * the machine's own objects is known to vmm/control.
 * @module
 */
import { type MessageTypes, SCHEMA } from './generated/causeway.ts';
import { MessageCodec } from './message-codec.ts';

export type * from './generated/causeway.ts';
export { SCHEMA, VmService } from './generated/causeway.ts';
export type { MethodSchema } from './schema.ts';
export { WireError } from './wire.ts';

/** Encodes and decodes every message of proto/causeway/v1. */
export const CODEC: MessageCodec<MessageTypes> = new MessageCodec<MessageTypes>(SCHEMA);
