/** What one guest printed, in a file: written as it comes, because it must be there when this process dies. */
import { closeSync, openSync, writeSync } from 'node:fs';

/** A console that never ends must not fill the disk: the first and the last part are kept. */
const HEAD_BYTES = 4 * 2 ** 20;
const TAIL_BYTES = 2 ** 20;

export class ConsoleFile {
  readonly #path: string;
  /** Open from the first byte to the end: guests print in small pieces, and to open a file may cost a trip to another machine. */
  #fd: number | undefined;
  #written = 0;
  #tail: Uint8Array[] = [];
  #tailBytes = 0;
  #skippedBytes = 0;

  constructor(path: string) {
    this.#path = path;
  }

  write(bytes: Uint8Array): void {
    if (this.#written >= HEAD_BYTES) {
      this.#keep(bytes);
      return;
    }
    this.#append(bytes);
    this.#written += bytes.length;
  }

  /** Puts the last part behind the first, and closes the file. What comes later opens it again. */
  end(): void {
    if (this.#skippedBytes > 0) this.#append(Buffer.from(`\n[... ${this.#skippedBytes} bytes left out ...]\n`));
    for (const piece of this.#tail) this.#append(piece);
    [this.#tail, this.#tailBytes, this.#skippedBytes] = [[], 0, 0];
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #append(bytes: Uint8Array): void {
    this.#fd ??= openSync(this.#path, 'a');
    writeSync(this.#fd, bytes);
  }

  /** Holds as much again as is kept, so that it is cut seldom. */
  #keep(bytes: Uint8Array): void {
    this.#tail.push(bytes);
    this.#tailBytes += bytes.length;
    if (this.#tailBytes <= 2 * TAIL_BYTES) return;
    const kept = Buffer.concat(this.#tail).subarray(-TAIL_BYTES);
    this.#skippedBytes += this.#tailBytes - kept.length;
    [this.#tail, this.#tailBytes] = [[kept], kept.length];
  }
}
