/** Device assignment: hands host PCI functions to a machine through VFIO. */
import type { CpuidEntry, Fd, Native } from '../native/types.ts';
import { CausewayError } from '../vmm/base/errors.ts';
import type { Range } from '../vmm/base/ranges.ts';
import type { RamWindow } from '../vmm/memory/guest-memory.ts';
import type { ConfigStore, ConfigWindow } from '../vmm/pci/config-window.ts';
import type { PciFunction, PciServices } from '../vmm/pci/function.ts';
import { AssignedFunction } from './assigned-function.ts';
import { readWcFacts } from './bars/write-combining.ts';
import type { ConfigGrant } from './config-space/grants.ts';
import { type DeviceRequest, grantsOf } from './device-request.ts';
import { AUTO, type BackendChoice, type BackendWish } from './host/backend-choice.ts';
import { normaliseBdf } from './host/bdf.ts';
import { checkDevices, raiseMemlock } from './host/preconditions.ts';
import { type HostDevice, readDevice, readResources } from './host/sysfs.ts';
import { type DeviceEvent, watchDevice } from './interrupts/events.ts';
import { chooseResetMethod } from './reset/method.ts';
import { Resetter } from './reset/reset.ts';
import { loadRom, readRomFile } from './rom/rom.ts';
import type { VfioDevice } from './vfio/device.ts';
import type { DmaBackend, GroupedDevice } from './vfio/dma-backend.ts';
import { openBackend } from './vfio/open-backend.ts';

export { AssignedFunction } from './assigned-function.ts';
export { type ConfigGrant, formatGrant, parseGrants } from './config-space/grants.ts';
export { grantsFor, parsePermitFile, readPermitFile } from './config-space/permit-file.ts';
export type { DeviceRequest } from './device-request.ts';
export type { BackendChoice, BackendWish } from './host/backend-choice.ts';
export { identifyDevices } from './host/inherited-fds.ts';
export { checkDevices } from './host/preconditions.ts';
export type { DeviceEvent } from './interrupts/events.ts';

export interface AssignOptions {
  readonly native: Native;
  /** In the order in which the guest shall see them. */
  readonly devices: readonly DeviceRequest[];
  /** All guest RAM: it is pinned and mapped for the devices, GPA as IOVA. Must outlive the session. */
  readonly ram: readonly RamWindow[];
  readonly store: ConfigStore;
  /** Container or iommufd, and files of theirs that were handed in; default: whichever works, opened here. */
  readonly iommu?: BackendWish;
  /** As the guest gets it, for the report on write-combining. */
  readonly guestCpuid?: readonly CpuidEntry[];
  warn(message: string): void;
  onEvent?(event: DeviceEvent): void;
  /** For tests: see {@link AssignedFunctionOptions.nowMs}. */
  readonly nowMs?: () => number;
}

/** Devices held open, from before a VM's first boot until after its last. */
export interface PassthroughSession {
  readonly functions: readonly AssignedFunction[];
  /** Addresses that DMA of the devices can reach; undefined when the kernel does not tell, or there are no devices. */
  readonly dmaRanges: readonly Range[] | undefined;
  /**
   * Opens more devices, also while the guest runs: RAM is mapped for them.
   * @throws CausewayError, with everything of them undone
   */
  attach(requests: readonly DeviceRequest[]): readonly AssignedFunction[];
  /**
   * Resets devices and gives them back, and their groups with the last device of each. No vCPU may be on its way to them.
   * @throws AggregateError with everything that failed, after all of it was tried
   */
  detach(functions: readonly PciFunction[]): void;
  /** What the devices' DMA goes through; undefined without devices. */
  readonly iommu: BackendChoice | undefined;
  /**
   * Replaces the grants of one device, also while the guest runs. What may be asked for and by whom is as in the
   * configuration.
   * @returns what is open now
   * @throws CausewayError CONFIG_INVALID, DEVICE_NOT_FOUND; the grants of before then stay
   */
  permitConfig(request: DeviceRequest): readonly ConfigGrant[];
  /**
   * Bus master off, reset, release; RAM is unmapped only when every device is closed. A second call is ignored.
   * @throws AggregateError with everything that failed, after all of it was tried
   */
  close(): void;
}

/**
 * Opens devices: preconditions, IOMMU groups, guest RAM mapped for DMA, then the devices themselves.
 * @throws CausewayError, with everything undone
 */
export function openDevices(options: AssignOptions): PassthroughSession {
  const session = new Session(options);
  session.attach(options.devices);
  return session;
}

/** A device with everything that was asked for it. */
interface RequestedDevice extends GroupedDevice {
  readonly host: HostDevice;
  readonly request: DeviceRequest;
  readonly grants: readonly ConfigGrant[];
  readonly romFile: Uint8Array | undefined;
}

/** What is held of a device; complete once `fn` is there. */
interface HeldDevice {
  readonly requested: RequestedDevice;
  readonly device: VfioDevice;
  window?: ConfigWindow;
  fn?: AssignedFunction;
  unwatch?: () => void;
  /** Takes back what was changed on the host beside VFIO. */
  restoreReset?: () => void;
}

/** What devices go through, from the first that comes to the last that leaves. */
interface OpenBackend {
  readonly backend: DmaBackend;
  readonly choice: BackendChoice;
  readonly resetter: Resetter;
}

class Session implements PassthroughSession {
  readonly #options: AssignOptions;
  #held: readonly HeldDevice[] = [];
  /** How many powered functions each KVM-known file stands for: KVM takes a group once. */
  readonly #kvmFiles = new Map<Fd, number>();
  #open: OpenBackend | undefined;
  #lastChoice: BackendChoice | undefined;

  constructor(options: AssignOptions) {
    this.#options = options;
  }

  get functions(): readonly AssignedFunction[] {
    return this.#held.flatMap(({ fn }) => fn ?? []);
  }

  attach(requests: readonly DeviceRequest[]): readonly AssignedFunction[] {
    const { native, ram, warn, iommu } = this.#options;
    if (requests.length === 0) return [];
    const ramBytes = ram.reduce((sum, window) => sum + window.sizeBytes, 0);
    throwAll(checkDevices(native, requests, ramBytes, iommu ? { iommu } : {}));
    const grouped = requests.map((request) => this.#requested(request));
    const before = this.#held;
    const taken = before.find(({ requested }) => grouped.some(({ bdf }) => bdf === requested.bdf));
    if (taken) {
      const { bdf } = taken.requested;
      throw new CausewayError('DEVICE_BUSY', `${bdf} is assigned to this VM already`, { bdf });
    }
    try {
      const { backend, resetter } = this.#join(grouped, ramBytes);
      for (const device of grouped) this.#openDevice(device, backend, resetter);
    } catch (error) {
      const begun = this.#held.filter((held) => !before.includes(held));
      const errors = this.#release(begun, grouped);
      if (errors.length > 0) warn(`while giving devices back: ${errors.join('; ')}`);
      throw error;
    }
    return this.functions.slice(before.length);
  }

  detach(functions: readonly PciFunction[]): void {
    const leaving = this.#held.filter(({ fn }) => fn && functions.includes(fn));
    const joined = leaving.map(({ requested }) => requested);
    throwCollected(this.#release(leaving, joined));
  }

  get dmaRanges(): readonly Range[] | undefined {
    return this.#open?.backend.dma.info().ranges;
  }

  get iommu(): BackendChoice | undefined {
    return this.#lastChoice;
  }

  permitConfig(request: DeviceRequest): readonly ConfigGrant[] {
    const bdf = normaliseBdf(request.bdf);
    const { requested, fn } = this.#held.find((held) => held.requested.bdf === bdf) ?? {};
    if (!requested || !fn) throw new CausewayError('DEVICE_NOT_FOUND', `${bdf} is not assigned to this VM`, { bdf });
    fn.setGrants(grantsOf(this.#options.native, request, requested.host), {
      force: request.configPermitForce ?? false,
    });
    return fn.grants;
  }

  close(): void {
    throwCollected(this.#release(this.#held, []));
  }

  #requested(request: DeviceRequest): RequestedDevice {
    const { native } = this.#options;
    const bdf = normaliseBdf(request.bdf);
    const host = readDevice(native, bdf)!;
    return {
      bdf,
      group: host.iommuGroup!,
      ...(request.vfToken === undefined ? {} : { vfToken: request.vfToken }),
      ...(request.deviceFd === undefined ? {} : { deviceFd: request.deviceFd as Fd }),
      ...(request.groupFd === undefined ? {} : { groupFd: request.groupFd as Fd }),
      host,
      request,
      grants: grantsOf(native, request, host),
      romFile: readRomFile(native, request.rom, bdf),
    };
  }

  /** DMA is set up before any device is open: none can be a bus master before all RAM is mapped. */
  #join(devices: readonly RequestedDevice[], ramBytes: number): OpenBackend {
    const { native, ram, warn, iommu } = this.#options;
    if (this.#open) {
      for (const device of devices) this.#open.backend.join(device);
      return this.#open;
    }
    const { backend, choice } = openBackend(native, devices, iommu ?? AUTO, warn);
    this.#open = { backend, choice, resetter: new Resetter(native, backend.groups) };
    this.#lastChoice = choice;
    raiseMemlock(native, ramBytes, backend.kind);
    backend.mapRam(ram);
    return this.#open;
  }

  /**
   * Every step is tried; returns what went wrong. All functions are off before the first is reset, and reset before the
   * first is closed: a hot reset needs all of them.
   */
  #release(leaving: readonly HeldDevice[], joined: readonly GroupedDevice[]): unknown[] {
    const errors: unknown[] = [];
    const attempt = (step: () => void): void => {
      try {
        step();
      } catch (error) {
        errors.push(error);
      }
    };
    for (const { unwatch } of leaving) if (unwatch) attempt(unwatch);
    for (const { fn } of leaving) if (fn) attempt(() => fn.powerOff());
    for (const { fn } of leaving) if (fn) attempt(() => fn.release());
    for (const { device } of leaving) attempt(() => device.close());
    for (const { restoreReset } of leaving) if (restoreReset) attempt(restoreReset);
    for (const { window } of leaving) if (window) window.inUse = false;
    this.#held = this.#held.filter((held) => !leaving.includes(held));
    const remaining = this.#held.map(({ requested }) => requested);
    // With its last group a container loses its mappings (vfio_iommu_type1.c), so the next device begins anew.
    if (remaining.length > 0) for (const device of joined) attempt(() => this.#open?.backend.leave(device, remaining));
    else {
      errors.push(...(this.#open?.backend.close() ?? []));
      this.#open = undefined;
    }
    return errors;
  }

  #openDevice(grouped: RequestedDevice, backend: DmaBackend, resetter: Resetter): void {
    const { native, store, warn, onEvent } = this.#options;
    const { host, request, grants, romFile } = grouped;
    const held: HeldDevice = { requested: grouped, device: backend.openDevice(grouped) };
    this.#held = [...this.#held, held];
    held.restoreReset = chooseResetMethod(native, host, request.reset);
    const { device } = held;
    const window = store.allocate();
    held.window = window;
    const file = backend.kvmFile(grouped);
    const rom = loadRom(request.rom, romFile, { ...host, ...request.ids }, { files: native, device, facts: host });
    for (const fault of rom?.report.faults ?? []) warn(`${grouped.bdf}: rom ${rom!.report.source}: ${fault}`);
    const fn = new AssignedFunction({
      native,
      host,
      resources: readResources(native, grouped.bdf),
      device,
      window,
      resetter,
      ...(request.place ? { place: request.place } : {}),
      ...(request.wc ? { wc: request.wc } : {}),
      rom,
      msixRelocation: request.msixRelocation,
      reset: request.reset,
      ...(request.p2p ? { peerDma: backend.dma } : {}),
      nowMs: this.#options.nowMs,
      ...(request.ids ? { ids: request.ids } : {}),
      wcFacts: readWcFacts(native, this.#options.guestCpuid),
      joinVm: (services) => this.#joinVm(services, file),
      leaveVm: (services) => this.#leaveVm(services, file),
      addressesFreed: () => {
        for (const other of this.functions) if (other !== fn) other.retryBlocked();
      },
      warn,
    });
    held.fn = fn;
    fn.checkWriteCombining();
    fn.setGrants(grants, { force: request.configPermitForce ?? false });
    if (onEvent) {
      const { bdf, label } = fn;
      held.unwatch = watchDevice(native, device, (what) => onEvent({ type: 'device', bdf, label, what }), warn);
    }
  }

  #joinVm(services: PciServices, file: Fd): void {
    const users = this.#kvmFiles.get(file) ?? 0;
    if (users === 0) services.addVfioFile(file);
    this.#kvmFiles.set(file, users + 1);
  }

  #leaveVm(services: PciServices, file: Fd): void {
    const users = (this.#kvmFiles.get(file) ?? 1) - 1;
    this.#kvmFiles.set(file, users);
    if (users === 0) services.deleteVfioFile(file);
  }
}

/** @throws AggregateError when anything was collected */
function throwCollected(errors: readonly unknown[]): void {
  if (errors.length > 0) throw new AggregateError(errors, `devices were not given back in order: ${errors.join('; ')}`);
}

/** One error as it is, several as one that lists them all. */
function throwAll(errors: readonly CausewayError[]): void {
  const [first, ...rest] = errors;
  if (!first) return;
  if (rest.length === 0) throw first;
  throw new CausewayError(first.code, errors.map((error) => error.message).join('\n'), {
    hint: errors.flatMap((error) => error.hint ?? []).join('\n'),
    cause: new AggregateError(errors),
  });
}
