/** Device assignment: hands host PCI functions to a machine through VFIO. */
import type { CpuidEntry, Fd, HostBdf, Native } from '../native/types.ts';
import { CausewayError } from '../vmm/base/errors.ts';
import type { Range } from '../vmm/base/ranges.ts';
import type { RamWindow } from '../vmm/memory/guest-memory.ts';
import type { ConfigStore, ConfigWindow } from '../vmm/pci/config-window.ts';
import type { PciServices } from '../vmm/pci/function.ts';
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
  const { native, devices, ram } = options;
  const ramBytes = ram.reduce((sum, window) => sum + window.sizeBytes, 0);
  throwAll(checkDevices(native, devices, ramBytes, options.iommu ? { iommu: options.iommu } : {}));
  const session = new Session(options);
  try {
    session.open(devices.map((device) => ({ ...device, bdf: normaliseBdf(device.bdf) })));
    return session;
  } catch (error) {
    try {
      session.close();
    } catch (undo) {
      options.warn(`while giving devices back: ${String(undo)}`);
    }
    throw error;
  }
}

/** A device with everything that was asked for it. */
interface RequestedDevice extends GroupedDevice {
  readonly host: HostDevice;
  readonly request: DeviceRequest;
  readonly grants: readonly ConfigGrant[];
  readonly romFile: Uint8Array | undefined;
}

class Session implements PassthroughSession {
  readonly functions: AssignedFunction[] = [];
  readonly #options: AssignOptions;
  readonly #devices: VfioDevice[] = [];
  readonly #windows: ConfigWindow[] = [];
  readonly #unwatch: (() => void)[] = [];
  /** What was changed on the host beside VFIO. */
  readonly #undo: (() => void)[] = [];
  readonly #assigned = new Map<HostBdf, { readonly host: HostDevice; readonly fn: AssignedFunction }>();
  /** How many powered functions each KVM-known file stands for: KVM takes a group once. */
  readonly #kvmFiles = new Map<Fd, number>();
  #backend: DmaBackend | undefined;
  #choice: BackendChoice | undefined;

  constructor(options: AssignOptions) {
    this.#options = options;
  }

  open(requests: readonly (DeviceRequest & { readonly bdf: HostBdf })[]): void {
    const { native, ram, warn } = this.#options;
    if (requests.length === 0) return;
    const grouped = requests.map((request): RequestedDevice => {
      const host = readDevice(native, request.bdf)!;
      return {
        bdf: request.bdf,
        group: host.iommuGroup!,
        ...(request.vfToken === undefined ? {} : { vfToken: request.vfToken }),
        ...(request.deviceFd === undefined ? {} : { deviceFd: request.deviceFd as Fd }),
        ...(request.groupFd === undefined ? {} : { groupFd: request.groupFd as Fd }),
        host,
        request,
        grants: grantsOf(native, request, host),
        romFile: readRomFile(native, request.rom, request.bdf),
      };
    });
    const { backend, choice } = openBackend(native, grouped, this.#options.iommu ?? AUTO, warn);
    this.#backend = backend;
    this.#choice = choice;
    raiseMemlock(
      native,
      ram.reduce((sum, window) => sum + window.sizeBytes, 0),
      backend.kind,
    );
    // Before any device is open: none can be a bus master before all RAM is mapped.
    this.#backend.mapRam(ram);
    for (const { host, request } of grouped) {
      this.#undo.push(chooseResetMethod(native, host, request.reset));
    }
    const resetter = new Resetter(native, this.#backend.groups);
    for (const device of grouped) this.#openDevice(device, this.#backend, resetter);
  }

  get dmaRanges(): readonly Range[] | undefined {
    return this.#backend?.dma.info().ranges;
  }

  get iommu(): BackendChoice | undefined {
    return this.#choice;
  }

  permitConfig(request: DeviceRequest): readonly ConfigGrant[] {
    const bdf = normaliseBdf(request.bdf);
    const assigned = this.#assigned.get(bdf);
    if (!assigned) throw new CausewayError('DEVICE_NOT_FOUND', `${bdf} is not assigned to this VM`, { bdf });
    const grants = grantsOf(this.#options.native, request, assigned.host);
    assigned.fn.setGrants(grants, { force: request.configPermitForce ?? false });
    return assigned.fn.grants;
  }

  close(): void {
    const errors: unknown[] = [];
    const attempt = (step: () => void): void => {
      try {
        step();
      } catch (error) {
        errors.push(error);
      }
    };
    for (const unwatch of this.#unwatch.splice(0)) attempt(unwatch);
    for (const fn of this.functions) attempt(() => fn.release());
    for (const device of this.#devices.splice(0)) attempt(() => device.close());
    for (const undo of this.#undo.splice(0)) attempt(undo);
    for (const window of this.#windows.splice(0)) window.inUse = false;
    errors.push(...(this.#backend?.close() ?? []));
    this.#backend = undefined;
    if (errors.length > 0)
      throw new AggregateError(errors, `devices were not given back in order: ${errors.join('; ')}`);
  }

  #openDevice(grouped: RequestedDevice, backend: DmaBackend, resetter: Resetter): void {
    const { native, store, warn, onEvent } = this.#options;
    const { host, request, grants, romFile } = grouped;
    const device = backend.openDevice(grouped);
    this.#devices.push(device);
    const window = store.allocate();
    this.#windows.push(window);
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
      ...(request.wc ? { wc: request.wc } : {}),
      rom,
      msixRelocation: request.msixRelocation,
      reset: request.reset,
      ...(request.p2p ? { peerDma: backend.dma } : {}),
      nowMs: this.#options.nowMs,
      ...(request.ids ? { ids: request.ids } : {}),
      wcFacts: readWcFacts(native, this.#options.guestCpuid),
      joinVm: (services) => this.#join(services, file),
      leaveVm: (services) => this.#leave(services, file),
      addressesFreed: () => {
        for (const other of this.functions) if (other !== fn) other.retryBlocked();
      },
      warn,
    });
    this.functions.push(fn);
    this.#assigned.set(grouped.bdf, { host, fn });
    fn.checkWriteCombining();
    fn.setGrants(grants, { force: request.configPermitForce ?? false });
    if (onEvent) {
      this.#unwatch.push(
        watchDevice(native, device, (what) => onEvent({ type: 'device', label: fn.label, what }), warn),
      );
    }
  }

  #join(services: PciServices, file: Fd): void {
    const users = this.#kvmFiles.get(file) ?? 0;
    if (users === 0) services.addVfioFile(file);
    this.#kvmFiles.set(file, users + 1);
  }

  #leave(services: PciServices, file: Fd): void {
    const users = (this.#kvmFiles.get(file) ?? 1) - 1;
    this.#kvmFiles.set(file, users);
    if (users === 0) services.deleteVfioFile(file);
  }
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
