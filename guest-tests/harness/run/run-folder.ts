/** Where a run keeps what it saw: one folder, with the journal, the results, and a folder for each attempt. */
import { appendFileSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** A console that never ends must not fill the disk: the first and the last part are kept. */
const CONSOLE_HEAD_BYTES = 4 * 2 ** 20;
const CONSOLE_TAIL_BYTES = 2 ** 20;

export class RunFolder {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
    mkdirSync(path, { recursive: true });
  }

  get journal(): string {
    return join(this.path, 'journal.jsonl');
  }

  write(name: string, content: string | Uint8Array): void {
    mkdirSync(dirname(join(this.path, name)), { recursive: true });
    writeFileSync(join(this.path, name), content);
  }

  append(name: string, content: string): void {
    appendFileSync(join(this.path, name), content);
  }

  attempt(id: string, number: number): AttemptFolder {
    const name = id.replaceAll(/[^\w.-]+/g, '-').slice(0, 120);
    return new AttemptFolder(this.path, join(this.path, 'tests', number === 1 ? name : `${name}.${number}`));
  }
}

export class AttemptFolder {
  /** Of the whole run. */
  readonly root: string;
  readonly #path: string;
  readonly #heads = new Map<number, number>();
  readonly #tails = new Map<number, Buffer>();

  constructor(root: string, path: string) {
    this.root = root;
    this.#path = path;
    // What an attempt left that was killed is told in the journal; its files would be mixed with ours.
    rmSync(path, { recursive: true, force: true });
  }

  path(name: string): string {
    mkdirSync(this.#path, { recursive: true });
    return join(this.#path, name);
  }

  write(name: string, content: string): void {
    writeFileSync(this.path(name), content);
  }

  /** Console output of one guest. Written as it comes: it must be there when this process dies. */
  console(guest: number, bytes: Uint8Array): void {
    const written = this.#heads.get(guest) ?? 0;
    if (written < CONSOLE_HEAD_BYTES) appendFileSync(this.path(`console-${guest}.log`), bytes);
    else {
      const tail = Buffer.concat([this.#tails.get(guest) ?? Buffer.alloc(0), bytes]);
      this.#tails.set(guest, tail.length > 2 * CONSOLE_TAIL_BYTES ? tail.subarray(-CONSOLE_TAIL_BYTES) : tail);
    }
    this.#heads.set(guest, written + bytes.length);
  }

  /** All files that there are; ends the consoles. */
  files(): string[] {
    for (const [guest, tail] of this.#tails) {
      const skipped = this.#heads.get(guest)! - CONSOLE_HEAD_BYTES - tail.length;
      appendFileSync(this.path(`console-${guest}.log`), skipped > 0 ? `\n[... ${skipped} bytes left out ...]\n` : '');
      appendFileSync(this.path(`console-${guest}.log`), tail);
    }
    this.#tails.clear();
    if (!existsSync(this.#path)) return [];
    return readdirSync(this.#path)
      .sort()
      .map((name) => join(this.#path, name));
  }
}
