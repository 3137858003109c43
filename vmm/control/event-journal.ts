/**
 * Numbered events, the last ones kept. A reader is a position in the journal, not a queue: it can be as slow as it likes
 * or come back later, and when what it wants next is gone, it is told how much it missed.
 */
import { Bell } from './bell.ts';

const DEFAULT_CAPACITY = 1024;

export interface JournalEntry<T> {
  /** Counts up by one from 1. */
  readonly id: number;
  /** Milliseconds since 1970. */
  readonly timeMs: number;
  /** What happened; or so many entries, up to this id, that are gone. */
  readonly content: { readonly event: T } | { readonly dropped: number };
}

export class EventJournal<T> {
  readonly #capacity: number;
  readonly #bell = new Bell();
  readonly #entries: JournalEntry<T>[] = [];
  #lastId = 0;
  #ended = false;

  constructor(capacity: number = DEFAULT_CAPACITY) {
    this.#capacity = capacity;
  }

  /** Id of the newest event, 0 when there was none. */
  get lastId(): number {
    return this.#lastId;
  }

  add(event: T): void {
    this.#lastId++;
    this.#entries.push({ id: this.#lastId, timeMs: Date.now(), content: { event } });
    if (this.#entries.length > this.#capacity) this.#entries.shift();
    this.#bell.ring();
  }

  /** Nothing comes any more: readers end when they have read all. */
  end(): void {
    this.#ended = true;
    this.#bell.ring();
  }

  /**
   * Entries after `sinceId`, then those to come. Ends with the journal or with `signal`.
   * @param sinceId beyond the newest id means that it was given by an earlier process; then everything is delivered
   */
  async *read(sinceId: number, signal: AbortSignal): AsyncGenerator<JournalEntry<T>> {
    let position = sinceId > this.#lastId ? 0 : sinceId;
    while (!signal.aborted) {
      const firstKept = this.#lastId - this.#entries.length + 1;
      if (position < firstKept - 1) {
        const dropped = firstKept - 1 - position;
        position = firstKept - 1;
        yield { id: position, timeMs: Date.now(), content: { dropped } };
      } else if (position < this.#lastId) {
        const entry = this.#entries[position + 1 - firstKept]!;
        position = entry.id;
        yield entry;
      } else if (this.#ended) return;
      else await this.#bell.wait(signal);
    }
  }
}
