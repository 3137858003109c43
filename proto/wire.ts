/** The protobuf wire format: varints, tags and length-delimited pieces. Knows nothing of messages. */

/** Wire types that proto3 uses. Groups (3 and 4) are not among them. */
export const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

const MAX_FIELD = 2 ** 29 - 1;
const U64 = 0xffff_ffff_ffff_ffffn;

/** What cannot be read. The message says where. */
export class WireError extends Error {
  override readonly name = 'WireError';
}

export class WireWriter {
  #bytes = new Uint8Array(128);
  #length = 0;
  readonly #encoder = new TextEncoder();

  tag(field: number, wireType: number): this {
    return this.varint(field * 8 + wireType);
  }

  /** A whole number from 0 to 2^53 - 1. */
  varint(value: number): this {
    this.#reserve(10);
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) this.#bytes[this.#length++] = (rest & 0x7f) | 0x80;
    this.#bytes[this.#length++] = rest;
    return this;
  }

  /** 64 bits; a negative number goes out as its two's complement, ten bytes long. */
  varint64(value: bigint): this {
    this.#reserve(10);
    let rest = value & U64;
    for (; rest >= 0x80n; rest >>= 7n) this.#bytes[this.#length++] = Number(rest & 0x7fn) | 0x80;
    this.#bytes[this.#length++] = Number(rest);
    return this;
  }

  /** A length, then the bytes. */
  bytes(bytes: Uint8Array): this {
    this.varint(bytes.length);
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
    return this;
  }

  text(text: string): this {
    return this.bytes(this.#encoder.encode(text));
  }

  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + count));
    larger.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = larger;
  }
}

/** Reads from foreign bytes: every method throws a {@link WireError} rather than read past the end. */
export class WireReader {
  readonly #bytes: Uint8Array;
  #at = 0;
  static readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

  constructor(bytes: Uint8Array) {
    // Not as a Buffer, whose slice() would be a view.
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get atEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  tag(): { readonly field: number; readonly wireType: number } {
    const at = this.#at;
    const tag = this.varint64();
    const field = Number(tag >> 3n);
    if (field === 0 || field > MAX_FIELD) throw new WireError(`field number ${field} at byte ${at}`);
    return { field, wireType: Number(tag & 7n) };
  }

  /** 64 bits, unsigned. */
  varint64(): bigint {
    const start = this.#at;
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#byte();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value & U64;
    }
    throw new WireError(`a varint of more than ten bytes at byte ${start}`);
  }

  /** A length, then so many bytes; a view of the input. */
  bytes(): Uint8Array {
    const start = this.#at;
    const length = this.varint64();
    if (length > BigInt(this.#bytes.length - this.#at)) {
      throw new WireError(`${length} bytes are announced at byte ${start}; the message ends before`);
    }
    this.#at += Number(length);
    return this.#bytes.subarray(this.#at - Number(length), this.#at);
  }

  text(): string {
    const start = this.#at;
    try {
      return WireReader.#decoder.decode(this.bytes());
    } catch (error) {
      if (error instanceof WireError) throw error;
      throw new WireError(`text at byte ${start} is not UTF-8`);
    }
  }

  /** Passes over a value that nobody knows. */
  skip(wireType: number): void {
    if (wireType === WIRE.varint) this.varint64();
    else if (wireType === WIRE.bytes) this.bytes();
    else if (wireType === WIRE.fixed64 || wireType === WIRE.fixed32) this.#advance(wireType === WIRE.fixed64 ? 8 : 4);
    else throw new WireError(`wire type ${wireType} before byte ${this.#at}`);
  }

  #advance(count: number): void {
    if (this.#at + count > this.#bytes.length) throw new WireError(`the message ends within byte ${this.#at}`);
    this.#at += count;
  }

  #byte(): number {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw new WireError('the message ends within a number');
    return byte;
  }
}
