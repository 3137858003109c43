/** Where a run keeps what it saw: one folder, with the journal, the results, and a folder for each attempt. */
import { appendFileSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ConsoleFile } from './console-file.ts';

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
  readonly #consoles = new Map<number, ConsoleFile>();

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

  /** Console output of one guest. */
  console(guest: number, bytes: Uint8Array): void {
    let file = this.#consoles.get(guest);
    if (!file) {
      file = new ConsoleFile(this.path(`console-${guest}.log`));
      this.#consoles.set(guest, file);
    }
    file.write(bytes);
  }

  /** All files that there are; ends the consoles. */
  files(): string[] {
    for (const file of this.#consoles.values()) file.end();
    if (!existsSync(this.#path)) return [];
    return readdirSync(this.#path)
      .sort()
      .map((name) => join(this.#path, name));
  }
}
