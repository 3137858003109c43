/** What a guest has printed: all of it for the record, and what nobody has asked for yet for `expect`. */
import { CausewayError } from '../../vmm/base/errors.ts';

/** Of a guest that floods its console the beginning and the end are kept. */
const KEPT_HEAD = 1024 * 1024;
const KEPT_TAIL = 3 * 1024 * 1024;
/** `expect` looks back so far at most. */
const UNREAD_LIMIT = 256 * 1024;
const SHOWN_TAIL = 2000;

export class ConsoleLog {
  #head = '';
  #tail = '';
  #dropped = 0;
  #unread = '';
  #line = '';
  readonly #decoder = new TextDecoder();
  readonly #waiting = new Set<() => void>();
  readonly #onLine: (line: string) => void;

  /** @param onLine each line as it is complete, without its end */
  constructor(onLine: (line: string) => void = () => {}) {
    this.#onLine = onLine;
  }

  push(bytes: Uint8Array): void {
    const text = this.#decoder.decode(bytes, { stream: true });
    this.#keep(text);
    this.#unread += text;
    // Not at every piece: cutting copies.
    if (this.#unread.length > 2 * UNREAD_LIMIT) this.#unread = this.#unread.slice(-UNREAD_LIMIT);
    const lines = (this.#line + text).split('\n');
    this.#line = lines.pop()!.slice(-UNREAD_LIMIT);
    for (const line of lines) this.#onLine(line.replace(/\r+$/, ''));
    for (const look of [...this.#waiting]) look();
  }

  /** Everything, or its beginning and its end with a note between them. */
  text(): string {
    if (this.#dropped === 0) return this.#head + this.#tail;
    return `${this.#head}\n[${this.#dropped} characters left out]\n${this.#tail}`;
  }

  /** The last lines, for messages. */
  tail(): string {
    return this.text().slice(-SHOWN_TAIL).trimEnd();
  }

  /**
   * The first match in what was printed since the last match, or is still to come; everything up to its end then counts
   * as read.
   * @param ended rejects when nothing more comes
   * @throws CausewayError TIMEOUT; what `ended` rejects with
   */
  async expect(pattern: string | RegExp, timeoutMs: number, ended: Promise<never>): Promise<string> {
    const found = this.#find(pattern);
    if (found !== undefined) return found;
    let timer: NodeJS.Timeout | undefined;
    let look: (() => void) | undefined;
    const match = new Promise<string>((resolve, reject) => {
      look = () => {
        const text = this.#find(pattern);
        if (text !== undefined) resolve(text);
      };
      this.#waiting.add(look);
      const late = (): void =>
        reject(
          new CausewayError(
            'TIMEOUT',
            `the console did not show ${pattern} within ${timeoutMs} ms; it ends with:\n${this.tail()}`,
          ),
        );
      timer = setTimeout(late, timeoutMs);
    });
    try {
      return await Promise.race([match, ended]);
    } finally {
      clearTimeout(timer);
      if (look) this.#waiting.delete(look);
    }
  }

  #find(pattern: string | RegExp): string | undefined {
    const at = typeof pattern === 'string' ? this.#unread.indexOf(pattern) : this.#unread.search(pattern);
    if (at < 0) return undefined;
    const text = typeof pattern === 'string' ? pattern : (this.#unread.match(pattern)?.[0] ?? '');
    this.#unread = this.#unread.slice(at + text.length);
    return text;
  }

  #keep(text: string): void {
    const room = KEPT_HEAD - this.#head.length;
    this.#head += text.slice(0, room);
    if (text.length <= room) return;
    this.#tail += text.slice(room);
    if (this.#tail.length <= 2 * KEPT_TAIL) return;
    this.#dropped += this.#tail.length - KEPT_TAIL;
    this.#tail = this.#tail.slice(-KEPT_TAIL);
  }
}
