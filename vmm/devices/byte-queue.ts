/** A bounded first-in-first-out queue of bytes. */
export class ByteQueue {
  readonly capacity: number;
  #bytes: Uint8Array;
  #start = 0;
  #length = 0;

  /** @param capacity bytes; memory is taken as it fills */
  constructor(capacity: number) {
    this.capacity = capacity;
    this.#bytes = new Uint8Array(Math.min(capacity, 64));
  }

  get length(): number {
    return this.#length;
  }

  /** False when the queue is full; the byte is then dropped. */
  push(byte: number): boolean {
    if (this.#length === this.capacity) return false;
    if (this.#length === this.#bytes.length) this.#grow();
    this.#bytes[(this.#start + this.#length) % this.#bytes.length] = byte;
    this.#length++;
    return true;
  }

  /** The oldest byte; undefined when there is none. */
  shift(): number | undefined {
    if (this.#length === 0) return undefined;
    const byte = this.#bytes[this.#start]!;
    this.#start = (this.#start + 1) % this.#bytes.length;
    this.#length--;
    return byte;
  }

  clear(): void {
    this.#start = 0;
    this.#length = 0;
  }

  #grow(): void {
    const bigger = new Uint8Array(Math.min(this.capacity, this.#bytes.length * 2));
    bigger.set(this.#bytes.subarray(this.#start));
    bigger.set(this.#bytes.subarray(0, this.#start), this.#bytes.length - this.#start);
    this.#bytes = bigger;
    this.#start = 0;
  }
}
