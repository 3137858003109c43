/** Messages in the body of a gRPC call: a flag, a length of four bytes, the message. */
import { STATUS, StatusError } from './status.ts';

const PREFIX_BYTES = 5;
/** As other implementations have it. */
export const MAX_MESSAGE_BYTES: number = 4 * 1024 * 1024;

export function frame(message: Uint8Array): Buffer {
  const bytes = Buffer.alloc(PREFIX_BYTES + message.length);
  bytes.writeUInt32BE(message.length, 1);
  bytes.set(message, PREFIX_BYTES);
  return bytes;
}

/**
 * The messages in a body that arrives in pieces of any size.
 * @throws StatusError for a compressed or oversized message, or a body that ends within one
 */
export async function* unframe(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let pending = Buffer.alloc(0);
  for await (const piece of body) {
    pending = pending.length === 0 ? Buffer.from(piece) : Buffer.concat([pending, piece]);
    while (pending.length >= PREFIX_BYTES) {
      if (pending[0] !== 0) throw new StatusError(STATUS.unimplemented, 'compressed messages are not supported');
      const length = pending.readUInt32BE(1);
      if (length > MAX_MESSAGE_BYTES) {
        throw new StatusError(
          STATUS.resourceExhausted,
          `a message of ${length} bytes; ${MAX_MESSAGE_BYTES} are allowed`,
        );
      }
      if (pending.length < PREFIX_BYTES + length) break;
      yield pending.subarray(PREFIX_BYTES, PREFIX_BYTES + length);
      pending = pending.subarray(PREFIX_BYTES + length);
    }
  }
  if (pending.length > 0) throw new StatusError(STATUS.internal, 'the body ends within a message');
}
