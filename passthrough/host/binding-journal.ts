/**
 * Remembers on disk how devices were bound before Causeway moved them, so that they find back after a crash. It lies in
 * /run: a reboot of the host forgets overrides and bindings, and then there is nothing to restore.
 */
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
import { CausewayError } from '../../vmm/base/errors.ts';
import { parseBdf } from './bdf.ts';
import type { BindingRecord } from './binding.ts';

export const JOURNAL_DIRECTORY = '/run/causeway/bindings';

export class BindingJournal {
  readonly #directory: string;

  constructor(directory: string = JOURNAL_DIRECTORY) {
    this.#directory = directory;
  }

  /** Keeps a record; the first one of a device stays, as that is how the host had it. On disk when this returns. */
  keep(record: BindingRecord): void {
    if (this.find(record.bdf)) return;
    try {
      mkdirSync(this.#directory, { recursive: true, mode: 0o755 });
      const path = this.#path(record.bdf);
      const fd = openSync(`${path}.new`, 'w', 0o644);
      try {
        writeSync(fd, `${JSON.stringify(record)}\n`);
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
      renameSync(`${path}.new`, path);
    } catch (error) {
      throw new CausewayError(
        'DEVICE_NOT_BOUND',
        `${record.bdf}: no record of its driver can be kept, so it stays there`,
        {
          cause: error,
          bdf: record.bdf,
          path: this.#directory,
          hint: 'this needs root',
        },
      );
    }
  }

  /** Undefined when there is none, or none that can be read. */
  find(bdf: HostBdf): BindingRecord | undefined {
    try {
      const value: unknown = JSON.parse(readFileSync(this.#path(bdf), 'utf8'));
      return isRecord(value) && value.bdf === bdf ? { ...value, driver: value.driver } : undefined;
    } catch {
      return undefined;
    }
  }

  /** Devices that were bound and not restored. */
  list(): HostBdf[] {
    try {
      return readdirSync(this.#directory)
        .map((name) => parseBdf(name))
        .filter((bdf) => bdf !== undefined && this.find(bdf) !== undefined) as HostBdf[];
    } catch {
      return [];
    }
  }

  forget(bdf: HostBdf): void {
    rmSync(this.#path(bdf), { force: true });
  }

  #path(bdf: HostBdf): string {
    return join(this.#directory, bdf);
  }
}

function isRecord(value: unknown): value is BindingRecord {
  if (typeof value !== 'object' || value === null) return false;
  const { bdf, driver, driverOverride } = value as Readonly<Record<string, unknown>>;
  const isName = (name: unknown): boolean => typeof name === 'string' && /^[\w.-]*$/.test(name);
  return typeof bdf === 'string' && (driver === undefined || isName(driver)) && isName(driverOverride);
}
