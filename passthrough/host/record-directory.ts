/** One small JSON file a device, on disk before this process goes on: what a crash must not forget. */
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { HostBdf } from '../../native/types.ts';
import { parseBdf } from './bdf.ts';

export class RecordDirectory {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** @throws the error of node:fs */
  write(bdf: HostBdf, record: object): void {
    mkdirSync(this.path, { recursive: true, mode: 0o755 });
    const path = this.#path(bdf);
    const fd = openSync(`${path}.new`, 'w', 0o644);
    try {
      writeSync(fd, `${JSON.stringify(record)}\n`);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(`${path}.new`, path);
  }

  /** Undefined when there is none, or none that can be read. */
  read(bdf: HostBdf): unknown {
    try {
      return JSON.parse(readFileSync(this.#path(bdf), 'utf8'));
    } catch {
      return undefined;
    }
  }

  /** Devices that have a file. */
  list(): HostBdf[] {
    try {
      return readdirSync(this.path).flatMap((name) => parseBdf(name) ?? []);
    } catch {
      return [];
    }
  }

  remove(bdf: HostBdf): void {
    rmSync(this.#path(bdf), { force: true });
  }

  #path(bdf: HostBdf): string {
    return join(this.path, bdf);
  }
}
