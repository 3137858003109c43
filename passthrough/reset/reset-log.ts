/** The resets that a function has had, as its report tells them. */
import type { FunctionReport } from '../../vmm/pci/function.ts';

export type ResetEntry = FunctionReport['resets'][number];

/** A guest may reset for ever: the first is kept, and so many of the last. */
const MAX_KEPT = 128;

export class ResetLog {
  readonly #entries: ResetEntry[] = [];

  add(entry: ResetEntry): void {
    this.#entries.push(entry);
    if (this.#entries.length > MAX_KEPT) this.#entries.splice(1, 1);
  }

  /** A copy. */
  get entries(): ResetEntry[] {
    return [...this.#entries];
  }
}
