/**
 * Posted writes of all vCPUs in one queue, so that they arrive in the order in which the guest made them, also when
 * its program moved from one vCPU to another in between. Many vCPU threads put in, the machine thread takes out.
 */

const CAPACITY = 1024;
/** Positions count modulo 2^30, a multiple of the capacity. */
const MASK = 0x3fff_ffff;
const HEADER_WORDS = 2;
const HEAD = 0;
const TAIL = 1;

/** Bytes of shared memory that a ring needs. */
export const POST_RING_BYTES: number = 4 * (HEADER_WORDS + 4 * CAPACITY);

export class PostRing {
  readonly #header: Int32Array;
  /** Position + 1 of the entry that was written last into a slot; tells the reader that it is complete. */
  readonly #written: Int32Array;
  readonly #ports: Int32Array;
  readonly #widths: Int32Array;
  readonly #values: Int32Array;

  constructor(memory: SharedArrayBuffer, byteOffset: number) {
    const array = (index: number) =>
      new Int32Array(memory, byteOffset + 4 * (HEADER_WORDS + index * CAPACITY), CAPACITY);
    this.#header = new Int32Array(memory, byteOffset, HEADER_WORDS);
    this.#written = array(0);
    this.#ports = array(1);
    this.#widths = array(2);
    this.#values = array(3);
  }

  /** From a vCPU thread. False when the ring is full: make a call instead, it empties the ring. */
  put(port: number, width: number, value: number): boolean {
    for (;;) {
      const head = Atomics.load(this.#header, HEAD);
      if (((head - Atomics.load(this.#header, TAIL)) & MASK) >= CAPACITY) return false;
      if (Atomics.compareExchange(this.#header, HEAD, head, (head + 1) & MASK) !== head) continue;
      const slot = head % CAPACITY;
      this.#ports[slot] = port;
      this.#widths[slot] = width;
      this.#values[slot] = value;
      Atomics.store(this.#written, slot, head + 1);
      return true;
    }
  }

  /** From the machine thread: hands over what is there by now and complete, oldest first; what comes meanwhile waits. */
  drain(handle: (port: number, width: number, value: number) => void): void {
    const end = Atomics.load(this.#header, HEAD);
    for (let tail = this.#header[TAIL]!; tail !== end; tail = (tail + 1) & MASK) {
      const slot = tail % CAPACITY;
      if (Atomics.load(this.#written, slot) !== tail + 1) return;
      const port = this.#ports[slot]!;
      const width = this.#widths[slot]!;
      const value = this.#values[slot]! >>> 0;
      Atomics.store(this.#header, TAIL, (tail + 1) & MASK);
      handle(port, width, value);
    }
  }
}
