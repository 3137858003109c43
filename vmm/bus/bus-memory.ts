/**
 * The shared memory of the bus: trap tables, bytes of registers, the map from PCI address to config window. The
 * machine thread writes it, vCPU threads read it. Plain layout, no behaviour.
 */
import { Doorbell } from './doorbell.ts';
import { POST_RING_BYTES, PostRing } from './post-ring.ts';

/** One table of traps, sorted by start. Readers use the version as a sequence lock: odd while it is being changed. */
export interface TrapTableMemory {
  /** [version, count] */
  readonly header: Int32Array;
  readonly starts: Float64Array;
  /** Exclusive. */
  readonly ends: Float64Array;
  readonly kinds: Int32Array;
  /** fd of `file`, position in {@link BusMemory.shared} of traps that have bytes. */
  readonly args: Int32Array;
  /** File offset that answers to the trap's start. */
  readonly offsets: Float64Array;
  /** First of the trap's counters in {@link BusMemory.counts}; -1 for a trap that is not counted. */
  readonly counters: Int32Array;
  /** Bytes that one of its counters stands for: a page or more. */
  readonly granules: Float64Array;
}

/** Numbers of the trap kinds as vCPU threads see them. */
export const TRAP_KIND = {
  call: 1,
  callPost: 2,
  shared: 3,
  latch: 4,
  file: 5,
  ecam: 6,
  addressPort: 7,
  dataPort: 8,
  msixTable: 9,
} as const;

const CAPACITY = 256;
const SHARED_BYTES = 16 * 1024;
const BUS_ADDRESSES = 65536;
const TABLE_BYTES = 16 + CAPACITY * (4 * 8 + 4 * 4);
/** Counters of trapped pages, two words each. */
const COUNTERS = 4096;

const WORDS_AT = 2 * TABLE_BYTES + SHARED_BYTES + BUS_ADDRESSES;
const BELL_AT = WORDS_AT + 64;
const POSTS_AT = BELL_AT + 64;
const COUNTS_AT = POSTS_AT + POST_RING_BYTES;
const TOTAL_BYTES = COUNTS_AT + 8 * COUNTERS;

export const TRAP_CAPACITY: number = CAPACITY;

export class BusMemory {
  readonly memory: SharedArrayBuffer;
  readonly ports: TrapTableMemory;
  readonly mmio: TrapTableMemory;
  /** Bytes of registers that vCPU threads answer for. */
  readonly shared: Uint8Array;
  /** Index of a function's config window plus one, by bus << 8 | device << 3 | function; 0 where there is none. */
  readonly windowOf: Uint8Array;
  /** [latch of port 0xcf8] */
  readonly words: Int32Array;
  /** Of the machine thread. */
  readonly bell: Doorbell;
  readonly posts: PostRing;
  /** Accesses to trapped pages: low and high word of each counter, which vCPU threads add to. */
  readonly counts: Int32Array;

  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(TOTAL_BYTES)) {
    this.memory = memory;
    this.ports = tableAt(memory, 0);
    this.mmio = tableAt(memory, TABLE_BYTES);
    this.shared = new Uint8Array(memory, 2 * TABLE_BYTES, SHARED_BYTES);
    this.windowOf = new Uint8Array(memory, 2 * TABLE_BYTES + SHARED_BYTES, BUS_ADDRESSES);
    this.words = new Int32Array(memory, WORDS_AT, 1);
    this.bell = new Doorbell(memory, BELL_AT);
    this.posts = new PostRing(memory, POSTS_AT);
    this.counts = new Int32Array(memory, COUNTS_AT, 2 * COUNTERS);
  }
}

export const LATCH_WORD = 0;

function tableAt(memory: SharedArrayBuffer, base: number): TrapTableMemory {
  const doubles = base + 16;
  const ints = doubles + 4 * 8 * CAPACITY;
  return {
    header: new Int32Array(memory, base, 2),
    starts: new Float64Array(memory, doubles, CAPACITY),
    ends: new Float64Array(memory, doubles + 8 * CAPACITY, CAPACITY),
    offsets: new Float64Array(memory, doubles + 16 * CAPACITY, CAPACITY),
    granules: new Float64Array(memory, doubles + 24 * CAPACITY, CAPACITY),
    kinds: new Int32Array(memory, ints, CAPACITY),
    args: new Int32Array(memory, ints + 4 * CAPACITY, CAPACITY),
    counters: new Int32Array(memory, ints + 8 * CAPACITY, CAPACITY),
  };
}
