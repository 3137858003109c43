/**
 * Remembers on disk how devices were bound before Causeway moved them, so that they find back after a crash. It lies in
 * /run: a reboot of the host forgets overrides and bindings, and then there is nothing to restore.
 */
import type { HostBdf } from '../../native/types.ts';
import { CausewayError } from '../../vmm/base/errors.ts';
import type { BindingRecord } from './binding.ts';
import { RecordDirectory } from './record-directory.ts';

export const JOURNAL_DIRECTORY = '/run/causeway/bindings';

export class BindingJournal {
  readonly #records: RecordDirectory;

  constructor(directory: string = JOURNAL_DIRECTORY) {
    this.#records = new RecordDirectory(directory);
  }

  /** Keeps a record; the first one of a device stays, as that is how the host had it. On disk when this returns. */
  keep(record: BindingRecord): void {
    if (this.find(record.bdf)) return;
    try {
      this.#records.write(record.bdf, record);
    } catch (error) {
      throw new CausewayError(
        'DEVICE_NOT_BOUND',
        `${record.bdf}: no record of its driver can be kept, so it stays there`,
        {
          cause: error,
          bdf: record.bdf,
          path: this.#records.path,
          hint: 'this needs root',
        },
      );
    }
  }

  /** Undefined when there is none, or none that can be read. */
  find(bdf: HostBdf): BindingRecord | undefined {
    const value = this.#records.read(bdf);
    return isRecord(value) && value.bdf === bdf ? { ...value, driver: value.driver } : undefined;
  }

  /** Devices that were bound and not restored. */
  list(): HostBdf[] {
    return this.#records.list().filter((bdf) => this.find(bdf) !== undefined);
  }

  forget(bdf: HostBdf): void {
    this.#records.remove(bdf);
  }
}

function isRecord(value: unknown): value is BindingRecord {
  if (typeof value !== 'object' || value === null) return false;
  const { bdf, driver, driverOverride } = value as Readonly<Record<string, unknown>>;
  const isName = (name: unknown): boolean => typeof name === 'string' && /^[\w.-]*$/.test(name);
  return typeof bdf === 'string' && (driver === undefined || isName(driver)) && isName(driverOverride);
}
