/** Events to any number of async iterators. A slow reader loses the oldest events, never the writer's time. */

const QUEUE_LIMIT = 1024;

export class EventHub<T> {
  readonly #readers = new Set<{ queue: T[]; wake(): void }>();
  /** What came before anybody could listen; the first reader gets it. */
  #early: T[] | undefined = [];
  #ended = false;

  emit(event: T): void {
    if (this.#early && this.#early.length < QUEUE_LIMIT) this.#early.push(event);
    for (const reader of this.#readers) {
      reader.queue.push(event);
      if (reader.queue.length > QUEUE_LIMIT) reader.queue.shift();
      reader.wake();
    }
  }

  /** No event comes any more: streams end after what is queued. */
  end(): void {
    this.#ended = true;
    for (const reader of this.#readers) reader.wake();
  }

  /** Events from the moment of the call on; the first stream also has all before. */
  stream(): AsyncIterable<T> {
    const early = this.#early ?? [];
    this.#early = undefined;
    return this.#follow(early);
  }

  /** As {@link stream}, for a reader beside the user: what came before stays there for the first stream. */
  observe(): AsyncIterable<T> {
    return this.#follow([...(this.#early ?? [])]);
  }

  #follow(queue: T[]): AsyncIterable<T> {
    const reader = { queue, wake: () => {} };
    this.#readers.add(reader);
    const iterate = async function* (hub: EventHub<T>): AsyncGenerator<T> {
      try {
        for (;;) {
          for (let event = reader.queue.shift(); event !== undefined; event = reader.queue.shift()) yield event;
          if (hub.#ended) return;
          await new Promise<void>((resolve) => {
            reader.wake = resolve;
          });
        }
      } finally {
        hub.#readers.delete(reader);
      }
    };
    return { [Symbol.asyncIterator]: () => iterate(this) };
  }
}
