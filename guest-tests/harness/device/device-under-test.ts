/**
 * One device for the length of a run: reserved, checked, bound, brought back to the state in which the run found it before
 * and after each test, given back with proof.
 */
import type { HostBdf, Native } from '../../../native/types.ts';
import { bindDevices, restoreDevices } from '../../../passthrough/host/bind-devices.ts';
import type { BindingJournal } from '../../../passthrough/host/binding-journal.ts';
import { checkDevices } from '../../../passthrough/host/preconditions.ts';
import { readDevice, readText } from '../../../passthrough/host/sysfs.ts';
import { inspectDevice } from '../../../passthrough/inspect.ts';
import { readLe } from '../../../vmm/base/bits.ts';
import { CausewayError } from '../../../vmm/base/errors.ts';
import type { DeviceFacts, DeviceFixture, ResetOptions } from '../fixtures.ts';
import type { DeviceRecord, Invariant, ResetRecord } from '../model.ts';
import type { Tolerance } from '../registry.ts';
import { checkInvariants } from './invariants.ts';
import type { LogSource } from './kernel-log.ts';
import type { Lease } from './lease.ts';
import { kernelReset, ladderReset } from './resets.ts';
import { configDifference, isAlive, readSnapshot, type Snapshot, volatileBytes } from './snapshot.ts';

/** What the harness touches of the host; tests bring a scripted one. */
export interface DeviceWorld {
  readonly native: Native;
  readonly journal: BindingJournal;
  /** The host's kernel log from now on. Each device reads all of it. */
  openKernelLog(): LogSource & Disposable;
  lease(bdf: HostBdf): Pick<Lease, 'release' | 'previous'>;
}

/** A reset that takes longer has failed, whatever the device says afterwards. */
const RESET_LIMIT_MS = 30_000;

export class DeviceUnderTest implements DeviceFixture {
  readonly label: string;
  readonly bdf: HostBdf;
  readonly facts: DeviceFacts;
  /** Folder of a run that died while it had the device. */
  readonly leftBy: string | undefined;
  readonly #world: DeviceWorld;
  readonly #lease: Pick<Lease, 'release'>;
  readonly #kernelLog: LogSource & Disposable;
  readonly #resets: ResetRecord[] = [];
  readonly #configBefore: Uint8Array;
  #ignored: Set<number> = new Set();
  #baseline: Snapshot;
  #before: Snapshot;
  /** Nobody has had it since its last reset, which went well. */
  #isFresh = false;
  #lockedBefore = 0;
  #log: string[] = [];
  #quarantine: string | undefined;
  #givenBack: boolean | undefined;
  #configAfter: Uint8Array | undefined;

  /**
   * Takes the device: lease, facts, binding (with a record on disk of how it was). The others of its IOMMU group may still
   * be with their host drivers.
   * @throws CausewayError, with everything undone
   */
  constructor(world: DeviceWorld, bdf: HostBdf, label: string) {
    const { native, journal } = world;
    this.#world = world;
    this.bdf = bdf;
    this.label = label;
    if (!readDevice(native, bdf))
      throw new CausewayError('DEVICE_NOT_FOUND', `no PCI device has the address ${bdf}`, { bdf });
    const lease = world.lease(bdf);
    this.#lease = lease;
    this.leftBy = lease.previous?.folder;
    this.#kernelLog = world.openKernelLog();
    try {
      this.#configBefore = readSnapshot(native, bdf).config;
      const facts = inspectDevice(native, bdf, { pageBytes: native.pageSizeBytes });
      // After a run that was killed it is still on vfio-pci: its driver is the one from before that.
      const driver = journal.find(bdf)?.driver ?? facts.driver;
      this.facts = { ...facts, ...(driver === undefined ? {} : { driver }), label };
      bindDevices(native, [bdf], journal, { wholeGroups: false, force: false, dryRun: false });
      this.#baseline = readSnapshot(native, bdf);
      this.#before = this.#baseline;
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /**
   * Before the first test, when all devices of the run have been taken: checks, first resets.
   * @throws CausewayError when it cannot be used; it is still to be released
   */
  makeReady(): void {
    const { native } = this.#world;
    const [fault] = checkDevices(native, [this.bdf], 0, { findHolders: true });
    if (fault) throw fault;
    this.#baseline = readSnapshot(native, this.bdf);
    this.#before = this.#baseline;
    this.#ignored = volatileBytes(this.#baseline.config);
    this.#calibrate();
  }

  /** Two resets show which bytes differ by themselves: of an idle device that was just reset, all others must not. */
  #calibrate(): void {
    if (!this.#record('calibration', () => ladderReset(this.#world.native, this.bdf)).ok) return;
    this.#baseline = readSnapshot(this.#world.native, this.bdf);
    if (!this.#record('calibration', () => ladderReset(this.#world.native, this.bdf)).ok) return;
    const second = readSnapshot(this.#world.native, this.bdf).config;
    this.#baseline.config.forEach((byte, at) => {
      if (byte !== second[at]) this.#ignored.add(at);
    });
    this.#isFresh = true;
  }

  // ---- around a test ----------------------------------------------------------------------------------------------

  /** Why it cannot be used any more. */
  get quarantine(): string | undefined {
    return this.#quarantine;
  }

  /**
   * Resets, unless that was the last that happened to it, and checks that the device is as the run found it. What does not
   * hold puts it into quarantine.
   */
  beforeTest(): readonly Invariant[] {
    const { native } = this.#world;
    this.#log = [];
    this.#kernelLog();
    let problems = this.#resetProblems();
    if (problems.length > 0) {
      this.#recover();
      problems = this.#resetProblems();
    }
    this.#before = { ...readSnapshot(native, this.bdf), config: this.#baseline.config, driver: this.#baseline.driver };
    this.#lockedBefore = lockedKib(native);
    this.#isFresh = false;
    this.#quarantine =
      problems.length > 0 ? problems.map(({ name, detail }) => `${name}: ${detail}`).join('; ') : undefined;
    return problems;
  }

  /** Tells what is not as the run found it, after a reset. */
  #resetProblems(): Invariant[] {
    const now = readSnapshot(this.#world.native, this.bdf);
    if (!isAlive(now))
      return [{ name: 'device answers', ok: false, detail: 'it reads all ones, or is gone', isFatal: true }];
    if (!this.#isFresh) {
      const reset = this.#resetInvariant(this.#record('before test', () => ladderReset(this.#world.native, this.bdf)));
      if (!reset.ok) return [reset];
    }
    const { config } = readSnapshot(this.#world.native, this.bdf);
    const changed = configDifference(this.#baseline.config, config, this.#ignored);
    if (changed.length === 0) return [];
    return [{ name: 'config space as before', ok: false, detail: changed.slice(0, 4).join('; '), isFatal: true }];
  }

  /** What is left to try with a device that is not well: to find it again if it is gone, and every reset that it has. */
  #recover(): void {
    const { native } = this.#world;
    this.#isFresh = false;
    this.#attempt('rescan', () => {
      if (!readDevice(native, this.bdf)) native.writeFile('/sys/bus/pci/rescan', '1\n');
      this.reattach();
    });
    const { config } = readSnapshot(native, this.bdf);
    if (isAlive({ config }) && configDifference(this.#baseline.config, config, this.#ignored).length === 0) return;
    for (const method of this.facts.resetMethods) {
      const { ok, changed } = this.#record('recovery', () => kernelReset(native, this.bdf, method));
      if (ok && changed.length === 0) return;
    }
  }

  /** Takes it back from whatever the test did. @returns what went wrong */
  takeBack(): readonly Invariant[] {
    const failed = this.#attempt('device taken back', () => this.reattach());
    if (failed.length > 0) this.#quarantine = failed[0]!.detail;
    return failed;
  }

  /**
   * Resets it, when all devices of the test have been taken back, and checks everything.
   * @returns all conditions, those that hold as well
   */
  afterTest(tolerates: readonly Tolerance[]): readonly Invariant[] {
    const { native } = this.#world;
    const openFiles = openVfioFiles(native, readDevice(native, this.bdf)?.iommuGroup);
    // With the device still open a reset would be refused, and say nothing about the device.
    const reset =
      openFiles.length > 0
        ? { name: 'reset', ok: false, detail: 'not tried: the device is still open' }
        : this.#resetInvariant(this.#record('after test', () => ladderReset(native, this.bdf)));
    const found = [
      ...checkInvariants({
        bdf: this.bdf,
        before: this.#before,
        after: readSnapshot(native, this.bdf),
        ignored: this.#ignored,
        kernelLog: this.kernelLog(),
        lockedKib: [this.#lockedBefore, lockedKib(native)],
        openFiles,
        tolerates,
      }),
      reset,
    ];
    const last = this.#resets.at(-1);
    this.#isFresh = openFiles.length === 0 && last?.ok === true && last.changed.length === 0;
    const fatal = found.filter(({ ok, isFatal }) => !ok && isFatal);
    if (fatal.length > 0) this.#quarantine = fatal.map(({ name, detail }) => `${name}: ${detail}`).join('; ');
    return found;
  }

  /** A device that never had a reset is used without, as `inspect` warns; one whose reset fails is not used. */
  #resetInvariant(reset: ResetRecord): Invariant {
    const name = 'reset';
    if (!reset.ok) {
      const detail = `${reset.method} (${Math.round(reset.durationMs)} ms)`;
      return this.facts.resetMethods.length === 0
        ? { name, ok: true, detail }
        : { name, ok: false, detail, isFatal: true };
    }
    return { name, ok: true, detail: reset.method };
  }

  #attempt(name: string, body: () => void): Invariant[] {
    try {
      body();
      return [];
    } catch (error) {
      return [{ name, ok: false, detail: messageOf(error), isFatal: true }];
    }
  }

  /** Carries out a reset and keeps what came of it. */
  #record(when: string, body: () => { readonly method: string; readonly ok: boolean }): ResetRecord {
    const began = performance.now();
    let result: { method: string; ok: boolean };
    try {
      result = body();
    } catch (error) {
      result = { method: messageOf(error), ok: false };
    }
    const durationMs = performance.now() - began;
    if (durationMs > RESET_LIMIT_MS) result = { method: `${result.method}, too slow`, ok: false };
    const { config } = readSnapshot(this.#world.native, this.bdf);
    const changed = configDifference(this.#baseline.config, config, this.#ignored);
    const record: ResetRecord = { when, ...result, durationMs, changed };
    this.#resets.push(record);
    return record;
  }

  // ---- for the test -----------------------------------------------------------------------------------------------

  config(): Uint8Array {
    const { config } = readSnapshot(this.#world.native, this.bdf);
    if (config.length === 0)
      throw new CausewayError('DEVICE_LOST', `${this.bdf} is gone from the bus`, { bdf: this.bdf });
    return config;
  }

  readConfig(offset: number, width: 1 | 2 | 4): number {
    const config = this.config();
    if (offset < 0 || offset % width !== 0 || offset + width > config.length) {
      throw new RangeError(`no register of ${width} bytes at 0x${offset.toString(16)} (${config.length} bytes in all)`);
    }
    return readLe(config, offset, width);
  }

  isAlive(): boolean {
    return isAlive(readSnapshot(this.#world.native, this.bdf));
  }

  driver(): string | undefined {
    return readSnapshot(this.#world.native, this.bdf).driver;
  }

  reset({ method = 'ladder' }: ResetOptions = {}): ResetRecord {
    const { native } = this.#world;
    const record = this.#record('test', () =>
      method === 'ladder' ? ladderReset(native, this.bdf) : kernelReset(native, this.bdf, method),
    );
    if (record.ok) return record;
    throw new CausewayError('DEVICE_RESET_FAILED', `${this.bdf}: ${record.method}`, { bdf: this.bdf });
  }

  detach(): void {
    // A device that was on vfio-pci from the start has no record, and no other driver to go to.
    if (this.#world.journal.find(this.bdf)) restoreDevices(this.#world.native, [this.bdf], this.#world.journal, false);
    else
      throw new CausewayError('DEVICE_NOT_BOUND', `${this.bdf} had no host driver before the run`, { bdf: this.bdf });
  }

  reattach(): void {
    const { native, journal } = this.#world;
    if (!readDevice(native, this.bdf)) throw new CausewayError('DEVICE_LOST', `${this.bdf} is gone`, { bdf: this.bdf });
    bindDevices(native, [this.bdf], journal, { wholeGroups: false, force: false, dryRun: false });
  }

  /** Lines of the host's kernel log since the test began. */
  kernelLog(): readonly string[] {
    this.#log.push(...this.#kernelLog());
    return this.#log;
  }

  // ---- the end ----------------------------------------------------------------------------------------------------

  /** Gives it back to the driver it had, looks whether that worked, and ends the lease. A second call is ignored. */
  release(): boolean {
    if (this.#givenBack !== undefined) return this.#givenBack;
    this.#givenBack = this.#restore();
    this.#configAfter = readSnapshot(this.#world.native, this.bdf).config;
    this.#kernelLog[Symbol.dispose]();
    this.#lease.release();
    return this.#givenBack;
  }

  #restore(): boolean {
    const { native, journal } = this.#world;
    if (!journal.find(this.bdf)) return readDevice(native, this.bdf) !== undefined;
    try {
      restoreDevices(native, [this.bdf], journal, false);
      return true;
    } catch (error) {
      this.#quarantine = `not given back: ${messageOf(error)}`;
      return false;
    }
  }

  /** @param key as `compare` knows it */
  record(key: string): DeviceRecord {
    const { facts } = this;
    const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
    return {
      label: this.label,
      key,
      bdf: this.bdf,
      ...(facts.name === undefined ? {} : { name: facts.name }),
      classCode: facts.classCode,
      ...(facts.driver === undefined ? {} : { driver: facts.driver }),
      resetMethods: facts.resetMethods,
      configBefore: hex(this.#configBefore),
      ...(this.#configAfter ? { configAfter: hex(this.#configAfter) } : {}),
      resets: this.#resets,
      ...(this.#quarantine === undefined ? {} : { quarantine: this.#quarantine }),
      ...(this.#givenBack === undefined ? {} : { givenBack: this.#givenBack }),
    };
  }
}

/** Memory that this process has locked (VFIO's type 1 driver counts it there) and pinned (iommufd does), in KiB. */
function lockedKib(native: Native): number {
  const status = readText(native, '/proc/self/status') ?? '';
  const value = (name: string): number => Number(new RegExp(`^${name}:\\s*(\\d+) kB`, 'm').exec(status)?.[1] ?? 0);
  return value('VmLck') + value('VmPin');
}

/** VFIO files that this process has open: the group's, or device nodes, which iommufd uses. */
function openVfioFiles(native: Native, group: number | undefined): string[] {
  let fds: string[];
  try {
    fds = native.readDir('/proc/self/fd');
  } catch {
    return [];
  }
  return fds.flatMap((fd) => {
    try {
      const target = native.readLink(`/proc/self/fd/${fd}`);
      return target === `/dev/vfio/${group}` || target.startsWith('/dev/vfio/devices/') ? [`${target} is open`] : [];
    } catch {
      return [];
    }
  });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
