/** The last MiB of a byte stream, each byte with its offset from the beginning. Readers are positions, as in the journal. */
import { KIB, MIB } from '../base/bits.ts';
import { Bell } from './bell.ts';

const FIRST_CAPACITY = 16 * KIB;
/** At most so much goes into one piece. */
const PIECE_BYTES = 16 * KIB;

export interface LogPiece {
  /** Offset of the first byte of `data`. */
  readonly offset: number;
  readonly data: Uint8Array;
  /** Bytes right before `data` that the reader wanted and that are gone. */
  readonly droppedBytes: number;
}

export class ByteLog {
  readonly #limit: number;
  readonly #bell = new Bell();
  /** A ring: the byte with offset `n` lies at `n % length`. It grows up to the limit. */
  #ring: Uint8Array;
  #end = 0;
  #ended = false;

  constructor(limitBytes: number = MIB) {
    this.#limit = limitBytes;
    this.#ring = new Uint8Array(Math.min(FIRST_CAPACITY, limitBytes));
  }

  /** Offset of the byte that comes next. */
  get end(): number {
    return this.#end;
  }

  /** Offset of the oldest byte kept. */
  get start(): number {
    return Math.max(0, this.#end - this.#ring.length);
  }

  append(bytes: Uint8Array): void {
    if (this.#end + bytes.length > this.#ring.length && this.#ring.length < this.#limit) this.#grow(bytes.length);
    const kept = bytes.subarray(Math.max(0, bytes.length - this.#ring.length));
    const at = (this.#end + bytes.length - kept.length) % this.#ring.length;
    const head = kept.subarray(0, this.#ring.length - at);
    this.#ring.set(head, at);
    this.#ring.set(kept.subarray(head.length), 0);
    this.#end += bytes.length;
    this.#bell.ring();
  }

  /** Nothing comes any more: readers end when they have read all. */
  finish(): void {
    this.#ended = true;
    this.#bell.ring();
  }

  /** Bytes from `offset` on, then, with `follow`, those to come. Ends with the log or with `signal`. */
  async *read(offset: number, follow: boolean, signal: AbortSignal): AsyncGenerator<LogPiece> {
    let position = Math.min(offset, this.#end);
    while (!signal.aborted) {
      if (position < this.#end) {
        const from = Math.max(position, this.start);
        const data = this.#copy(from, Math.min(PIECE_BYTES, this.#end - from));
        const droppedBytes = from - position;
        position = from + data.length;
        yield { offset: from, data, droppedBytes };
      } else if (this.#ended || !follow) return;
      else await this.#bell.wait(signal);
    }
  }

  #copy(offset: number, count: number): Uint8Array {
    const copy = new Uint8Array(count);
    const at = offset % this.#ring.length;
    const head = this.#ring.subarray(at, at + count);
    copy.set(head);
    copy.set(this.#ring.subarray(0, count - head.length), head.length);
    return copy;
  }

  /** Only while nothing is lost yet: all bytes so far then lie in order from 0. */
  #grow(more: number): void {
    if (this.#end > this.#ring.length) return;
    let capacity = this.#ring.length;
    while (capacity < this.#end + more && capacity < this.#limit) capacity = Math.min(this.#limit, capacity * 2);
    const larger = new Uint8Array(capacity);
    larger.set(this.#ring.subarray(0, this.#end));
    this.#ring = larger;
  }
}
