/**
 * Wakes the machine thread. Every ring is seen, but only one that finds it asleep pays for waking it: a guest that prints
 * rings for each character, and to wake a thread costs many times what the character does.
 */

/** How often it was rung, modulo 2^32. */
const RINGS = 0;
const ASLEEP = 1;

export class Doorbell {
  readonly #words: Int32Array;

  constructor(memory: SharedArrayBuffer, byteOffset: number) {
    this.#words = new Int32Array(memory, byteOffset, 2);
  }

  /**
   * From any thread. The ring comes before the look at the sleeper, who says that he sleeps before he looks at the rings:
   * whichever order they meet in, one of the two sees the other. Only the sleeper takes back what he said: a ringer who did
   * it, late with a ring that has long been seen, would have him sleep on with nobody knowing.
   */
  readonly ring: () => void = () => {
    const words = this.#words;
    Atomics.add(words, RINGS, 1);
    if (Atomics.load(words, ASLEEP) === 1) Atomics.notify(words, RINGS);
  };

  /** For the machine thread: what {@link sleep} is to be told, asked for before looking at what there is to do. */
  get rings(): number {
    return Atomics.load(this.#words, RINGS);
  }

  /** Resolves with the next ring after those; undefined when it has come already. Then the thread is {@link awake}. */
  sleep(rings: number): Promise<unknown> | undefined {
    const words = this.#words;
    Atomics.store(words, ASLEEP, 1);
    const wait = Atomics.waitAsync(words, RINGS, rings);
    if (wait.async) return wait.value;
    this.awake();
    return undefined;
  }

  /** The machine thread looks at what there is by itself again: rings need not wake it. */
  awake(): void {
    Atomics.store(this.#words, ASLEEP, 0);
  }
}
