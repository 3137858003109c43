/**
 * The shared memory between the machine thread and one vCPU thread: commands one way, calls the other way, counters. Layout and the few operations on it; who waits for what is said at each.
 */

/** What the machine thread wants of the vCPU thread. */
export const CONTROL = { run: 0, pause: 1, stop: 2 } as const;
/** What the vCPU thread is doing. */
export const VCPU_STATE = { starting: 0, running: 1, paused: 2, stopped: 3 } as const;

export const CALL = { read: 0, write: 1, notice: 2 } as const;
export const SPACE = { memory: 0, port: 1 } as const;
/**
 * Values of a `notice` call: KVM_RUN returned with something that only the machine thread can judge, or, for `burst`, the
 * counter of a trapped page has come so far again.
 */
export const NOTICE = {
  tripleFault: 1,
  emulationFailure: 2,
  entryFailure: 3,
  fault: 4,
  unknownExit: 5,
  burst: 6,
} as const;

const CALL_IDLE = 0;
const CALL_ASKED = 1;
const CALL_ANSWERED = 2;

const WORD = { control: 0, state: 1, call: 2, op: 3, space: 4, width: 5, value: 6 } as const;
const WORDS = 16;

/** Kinds of exits that are counted. Order is layout. */
export const COUNTERS = [
  'port',
  'console',
  'mmio',
  'config',
  'kick',
  'other',
  'posted',
  'called',
  'fileErrors',
] as const;
export type Counter = (typeof COUNTERS)[number];
export const COUNTER: Readonly<Record<Counter, number>> = Object.fromEntries(
  COUNTERS.map((name, index) => [name, index]),
) as Record<Counter, number>;

const BYTES = WORDS * 4 + 8 + COUNTERS.length * 8;

export class Mailbox {
  readonly memory: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #address: Float64Array;
  readonly counters: Float64Array;

  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(BYTES)) {
    this.memory = memory;
    this.#words = new Int32Array(memory, 0, WORDS);
    this.#address = new Float64Array(memory, WORDS * 4, 1);
    this.counters = new Float64Array(memory, WORDS * 4 + 8, COUNTERS.length);
  }

  // The machine thread's side.

  /** Forgets everything but the counters, for a new power cycle. */
  reset(): void {
    this.#words.fill(0);
  }

  get state(): number {
    return Atomics.load(this.#words, WORD.state);
  }

  setControl(control: number): void {
    Atomics.store(this.#words, WORD.control, control);
    Atomics.notify(this.#words, WORD.control);
  }

  /** Resolves when the vCPU thread has left `state`; undefined when it is in another one already. */
  leavesState(state: number): Promise<unknown> | undefined {
    const wait = Atomics.waitAsync(this.#words, WORD.state, state);
    return wait.async ? wait.value : undefined;
  }

  /** Serves the call that waits, if one does. The handler returns the value of a read. */
  serveCall(handle: (op: number, space: number, address: number, width: number, value: number) => number): void {
    const words = this.#words;
    if (Atomics.load(words, WORD.call) !== CALL_ASKED) return;
    words[WORD.value] = handle(
      words[WORD.op]!,
      words[WORD.space]!,
      this.#address[0]!,
      words[WORD.width]!,
      words[WORD.value]! >>> 0,
    );
    Atomics.store(words, WORD.call, CALL_ANSWERED);
    Atomics.notify(words, WORD.call);
  }

  // The vCPU thread's side.

  get control(): number {
    return Atomics.load(this.#words, WORD.control);
  }

  setState(state: number): void {
    Atomics.store(this.#words, WORD.state, state);
    Atomics.notify(this.#words, WORD.state);
  }

  /** Blocks while the machine thread wants a pause. */
  waitWhilePaused(): void {
    while (Atomics.load(this.#words, WORD.control) === CONTROL.pause)
      Atomics.wait(this.#words, WORD.control, CONTROL.pause);
  }

  /** Asks the machine thread, rings, and blocks until the answer is there. Returns the unsigned value of a read. */
  call(op: number, space: number, address: number, width: number, value: number, ring: () => void): number {
    const words = this.#words;
    words[WORD.op] = op;
    words[WORD.space] = space;
    words[WORD.width] = width;
    words[WORD.value] = value;
    this.#address[0] = address;
    Atomics.store(words, WORD.call, CALL_ASKED);
    ring();
    while (Atomics.load(words, WORD.call) === CALL_ASKED) Atomics.wait(words, WORD.call, CALL_ASKED);
    Atomics.store(words, WORD.call, CALL_IDLE);
    return words[WORD.value]! >>> 0;
  }
}
