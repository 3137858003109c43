/** A scripted host with two NICs, and a run on one of them or both: what tests of the harness set up. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeKernel } from '../../../native/fake/fake-kernel.ts';
import type { HostBdf } from '../../../native/types.ts';
import { e1000e } from '../../../passthrough/fixtures/devices.ts';
import { BindingJournal } from '../../../passthrough/host/binding-journal.ts';
import type { DeviceUnderTest } from '../device/device-under-test.ts';
import type { LogSource } from '../device/kernel-log.ts';
import { Lease } from '../device/lease.ts';
import { takeDevices } from '../device/take-devices.ts';
import type { GuestMaker } from '../guests.ts';
import type { RunRecord, TestRecord } from '../model.ts';
import type { TestFunction, TestOptions, TestSpec } from '../registry.ts';
import { LIMITS } from '../run/attempt.ts';
import { RunFolder } from '../run/run-folder.ts';
import { type RunOptions, runSuites } from '../run/runner.ts';
import { fakeGuests } from './fake-guests.ts';

export const BDF = '0000:03:00.0' as HostBdf;
/** The same card once more, in a group of its own. */
export const SECOND = '0000:09:00.0' as HostBdf;
export const FOLDER = `/sys/bus/pci/devices/${BDF}`;

export class TestBench implements Disposable {
  readonly kernel = new FakeKernel();
  readonly folder: string;
  /** The host's kernel log. */
  readonly kernelLog: string[] = [];
  /** What was told, verdict by verdict. */
  readonly told: TestRecord[] = [];
  readonly #initial: Uint8Array;

  /** The first NIC has a host driver, so that giving it back means something. @param folder for results, bindings, leases */
  constructor(folder: string = mkdtempSync(join(tmpdir(), 'causeway-harness-'))) {
    this.folder = folder;
    this.kernel.addPciDevice({ ...e1000e(BDF), driver: 'e1000e' });
    this.kernel.addPciDevice(e1000e(SECOND, 99));
    this.#initial = this.hardware.slice();
  }

  /** The silicon's config space. */
  get hardware(): Uint8Array {
    return this.kernel.devices.get(BDF)!.config.hardware;
  }

  /** As after power-on. */
  repair(): void {
    this.hardware.set(this.#initial);
  }

  get driver(): string | undefined {
    return this.kernel.devices.get(BDF)!.driver;
  }

  device(): DeviceUnderTest {
    return this.devices(BDF)[0]!;
  }

  devices(...bdfs: readonly HostBdf[]): DeviceUnderTest[] {
    const world = {
      native: this.kernel,
      journal: new BindingJournal(join(this.folder, 'bindings')),
      openKernelLog: () => this.#openKernelLog(),
      lease: (bdf: HostBdf) => new Lease(bdf, this.folder, join(this.folder, 'leases')),
    };
    return takeDevices(
      world,
      bdfs.map((bdf, i) => ({ bdf, label: i === 0 ? 'nic' : `nic-${i + 1}` })),
    );
  }

  #openKernelLog(): LogSource & Disposable {
    let seen = this.kernelLog.length;
    const read = (): readonly string[] => {
      const fresh = this.kernelLog.slice(seen);
      seen += fresh.length;
      return fresh;
    };
    return Object.assign(read, { [Symbol.dispose]: () => {} });
  }

  run(
    tests: readonly TestSpec[],
    options: Partial<RunOptions> & { readonly guests?: GuestMaker } = {},
  ): Promise<RunRecord> {
    return runSuites({
      suites: [{ name: 'suite', tests }],
      devices: options.devices ?? [this.device()],
      guests: fakeGuests(),
      folder: new RunFolder(join(this.folder, 'run')),
      limits: { ...LIMITS, escalationMs: 5, endMs: 2000 },
      retries: 0,
      signal: new AbortController().signal,
      listeners: [{ testEnds: (record) => this.told.push(record) }],
      version: 'test',
      ...options,
    });
  }

  read(name: string): string {
    return readFileSync(join(this.folder, 'run', name), 'utf8');
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export function spec(name: string, run: TestFunction, options: TestOptions = {}): TestSpec {
  return { name, options, run };
}

/** `PASS`, or `FAIL: reason`. */
export function verdicts(run: RunRecord): string[] {
  return run.tests.map(({ verdict, reason }) =>
    reason === undefined ? verdict : `${verdict}: ${reason.split('\n')[0]}`,
  );
}
