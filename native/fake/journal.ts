/** What the code under test asked of the fake kernel, in order, and the faults that a test planted in it. */

import { errnoName, kernelError } from '../kernel-error.ts';

/** One call through the seam. */
export interface JournalEntry {
  /** Method of `Native`. */
  readonly call: string;
  /** Copies of the arguments; of `pread` and `pwrite` (fd, offset, width), and for `pwrite` also the value as a bigint. */
  readonly args: readonly unknown[];
  /** What it returned. */
  result?: unknown;
  /** Code of the KernelError that it threw, or of the negative errno that it returned. */
  error?: string;
}

interface Fault {
  readonly call: string;
  readonly errno: number | string;
  readonly when: (args: readonly unknown[]) => boolean;
}

/** These report a failure by returning -errno. */
const RETURN_ERRNO = new Set(['pread', 'pwrite', 'vcpuRun', 'access']);

function snapshot(value: unknown): unknown {
  if (typeof value === 'function') return '[function]';
  if (ArrayBuffer.isView(value)) return 'slice' in value && typeof value.slice === 'function' ? value.slice() : value;
  if (Array.isArray(value)) return value.map(snapshot);
  if (value !== null && typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype) {
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, snapshot(each)]));
  }
  return value;
}

function copyArguments(call: string, args: readonly unknown[]): readonly unknown[] {
  if (call !== 'pread' && call !== 'pwrite') return args.map(snapshot);
  const [fd, offset, bytes, at, width] = args as [number, number, Uint8Array, number, number];
  if (call === 'pread') return [fd, offset, width];
  return [fd, offset, width, littleEndian(bytes.subarray(at, at + width))];
}

/** Little-endian bytes to a number, as the bus sees them. */
export function littleEndian(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

export class Journal {
  readonly entries: JournalEntry[] = [];
  private faults: Fault[] = [];

  /**
   * Makes the next call of a method fail, once, with `errno`; `when` picks one by its arguments. Methods that return
   * -errno do so. Several faults for one method are used up in order.
   */
  failNext(call: string, errno: number | string, when: (args: readonly unknown[]) => boolean = () => true): void {
    this.faults.push({ call, errno, when });
  }

  /** Runs one call of the seam: records it, lets a planted fault replace it. */
  run(call: string, args: readonly unknown[], body: () => unknown): unknown {
    const entry: JournalEntry = { call, args: copyArguments(call, args) };
    this.entries.push(entry);
    try {
      const result = this.fault(call, args) ?? body();
      entry.result = snapshot(result);
      if (RETURN_ERRNO.has(call) && typeof result === 'number' && result < 0) entry.error = errnoName(-result);
      return result;
    } catch (error) {
      entry.error = error instanceof Error && 'code' in error ? String(error.code) : String(error);
      throw error;
    }
  }

  private fault(call: string, args: readonly unknown[]): number | undefined {
    const index = this.faults.findIndex((each) => each.call === call && each.when(args));
    if (index < 0) return undefined;
    const [fault] = this.faults.splice(index, 1);
    const path = typeof args[0] === 'string' ? args[0] : undefined;
    const error = kernelError(call, fault!.errno, path);
    if (RETURN_ERRNO.has(call)) return -error.errno;
    throw error;
  }

  /** Entries of some methods only, in order. */
  of(...calls: readonly string[]): JournalEntry[] {
    return this.entries.filter((entry) => calls.includes(entry.call));
  }

  /** Names of the calls in order, of some methods only when given; failed ones as `name!EBUSY`. */
  names(...calls: readonly string[]): string[] {
    const chosen = calls.length === 0 ? this.entries : this.of(...calls);
    return chosen.map(({ call, error }) => (error === undefined ? call : `${call}!${error}`));
  }

  /** Faults that no call has met yet: a test that planted one probably wanted it to happen. */
  unusedFaults(): string[] {
    return this.faults.map((fault) => fault.call);
  }

  /** Faults that no call has met will not happen any more. */
  forgetFaults(): void {
    this.faults = [];
  }

  clear(): void {
    this.entries.length = 0;
  }
}
