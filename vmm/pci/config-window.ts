/**
 * The part of a function's config space that vCPU threads read by themselves. It lies in shared memory; only the machine
 * thread writes it. A guest's read is `(image & ~deviceBits) | (device & deviceBits)`; the device is asked only where
 * `deviceBits` has a bit set in the bytes read.
 */
import type { Fd } from '../../native/types.ts';

export const CONFIG_SPACE_SIZE = 4096;
/** Of a window: Int32 words for state, fd, and the address register of vital product data; then the fd's offset. */
const HEADER_BYTES = 64;
const STRIDE = HEADER_BYTES + 2 * CONFIG_SPACE_SIZE;
const ABSENT = 0;
const PRESENT = 1;

/** One function's window. */
export class ConfigWindow {
  readonly index: number;
  /** What the guest sees where `deviceBits` is 0. */
  readonly image: Uint8Array;
  /** Bits that are read from the device. */
  readonly deviceBits: Uint8Array;
  readonly #header: Int32Array;
  readonly #offset: Float64Array;

  constructor(memory: SharedArrayBuffer, index: number) {
    const base = index * STRIDE;
    this.index = index;
    this.#header = new Int32Array(memory, base, 4);
    this.#offset = new Float64Array(memory, base + 16, 1);
    this.image = new Uint8Array(memory, base + HEADER_BYTES, CONFIG_SPACE_SIZE);
    this.deviceBits = new Uint8Array(memory, base + HEADER_BYTES + CONFIG_SPACE_SIZE, CONFIG_SPACE_SIZE);
  }

  /** Where device bits are read: config byte n is at `offset + n` of `fd`. */
  setDevice(fd: Fd, offset: number): void {
    this.#offset[0] = offset;
    Atomics.store(this.#header, 1, fd);
  }

  get fd(): Fd {
    return Atomics.load(this.#header, 1) as Fd;
  }

  get fdOffset(): number {
    return this.#offset[0]!;
  }

  /**
   * Offset of the address register of vital product data; 0 for none. To start a read of that keeps the kernel's config
   * write busy for milliseconds (drivers/pci/vpd.c), so vCPU threads do it by themselves and hold up nobody else.
   */
  get vpdAddress(): number {
    return Atomics.load(this.#header, 2);
  }

  set vpdAddress(offset: number) {
    Atomics.store(this.#header, 2, offset);
  }

  get inUse(): boolean {
    return Atomics.load(this.#header, 0) === PRESENT;
  }

  set inUse(value: boolean) {
    Atomics.store(this.#header, 0, value ? PRESENT : ABSENT);
  }
}

/** Shared memory for the windows of one VM, made once and given to every vCPU thread. */
export class ConfigStore {
  readonly memory: SharedArrayBuffer;
  readonly windows: readonly ConfigWindow[];

  constructor(capacity: number, memory: SharedArrayBuffer = new SharedArrayBuffer(capacity * STRIDE)) {
    this.memory = memory;
    this.windows = Array.from({ length: capacity }, (_, index) => new ConfigWindow(memory, index));
  }

  /** A zeroed window. @throws RangeError when all are in use */
  allocate(): ConfigWindow {
    const window = this.windows.find((candidate) => !candidate.inUse);
    if (!window) throw new RangeError('no free config window');
    window.image.fill(0);
    window.deviceBits.fill(0);
    window.vpdAddress = 0;
    window.inUse = true;
    return window;
  }
}
