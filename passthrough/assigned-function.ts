/**
 * A host PCI function as a guest has it: a {@link PciFunction} on top of VFIO. The registers say what the guest wants;
 * this class brings slots, traps, interrupts and the hardware's COMMAND and power state in line with them, in an order
 * in which the guest never reaches memory that the kernel has revoked.
 */
import type { HostBdf } from '../native/types.ts';
import { VFIO_PCI_IRQ, VFIO_PCI_REGION } from '../native/vfio-abi.ts';
import type { Trap } from '../vmm/bus/trap.ts';
import { decodeBars } from '../vmm/pci/bar-registers.ts';
import type { ConfigWindow } from '../vmm/pci/config-window.ts';
import {
  type BarReport,
  type BarRequest,
  type FunctionReport,
  type PciFunction,
  type PciServices,
  ROM_BAR,
} from '../vmm/pci/function.ts';
import { BarSet } from './bars/bar-set.ts';
import { desiredMapping, type Piece } from './bars/desired-mapping.ts';
import { Mapping } from './bars/mapping.ts';
import { MsixTraps } from './bars/msix-traps.ts';
import { PageCounts } from './bars/page-counts.ts';
import { PeerMap } from './bars/peer-map.ts';
import { GrantSet } from './config-space/grant-set.ts';
import type { ConfigGrant } from './config-space/grants.ts';
import { GuestRegisters } from './config-space/guest-registers.ts';
import { COMMAND, HEADER } from './config-space/permission-table.ts';
import type { AssignedFunctionOptions } from './function-options.ts';
import { HardwareControl } from './hardware-control.ts';
import { desiredInterrupts } from './interrupts/desired.ts';
import { Interrupts } from './interrupts/interrupts.ts';
import { type ResetEntry, ResetLog } from './reset/reset-log.ts';
import type { VfioDevice } from './vfio/device.ts';

type ResetOccasion = ResetEntry['when'];

/** What exists from power-on to power-off. */
interface PoweredState {
  readonly services: PciServices;
  readonly mapping: Mapping;
  readonly interrupts: Interrupts;
  joined: boolean;
}

export class AssignedFunction implements PciFunction {
  readonly bdf: HostBdf;
  /** What its functions of the host share: domain, bus and device number. A virtual function is a device of its own. */
  readonly hostSlot: string;
  readonly label: string;
  readonly window: ConfigWindow;
  readonly bars: readonly BarRequest[];
  readonly #options: AssignedFunctionOptions;
  readonly #device: VfioDevice;
  readonly #barSet: BarSet;
  readonly #pageCounts: PageCounts;
  readonly #peers: PeerMap | undefined;
  readonly #registers: GuestRegisters;
  readonly #grants: GrantSet;
  readonly #hardware: HardwareControl;
  readonly #msixTraps: MsixTraps | undefined;
  readonly #resets = new ResetLog();
  /** Addresses that firmware gave; kept across power cycles until it gives others. */
  readonly #placed = new Map<number, number>();
  readonly #warned = new Set<string>();
  #state: PoweredState | undefined;
  #booted = false;
  #open = true;

  constructor(options: AssignedFunctionOptions) {
    const { native, host, resources, device, window, warn } = options;
    this.#options = options;
    this.#device = device;
    this.window = window;
    this.bdf = host.bdf;
    this.hostSlot = host.physicalFunction ? host.bdf : host.bdf.slice(0, -2);
    this.label = `${host.bdf} ${hexId(host.vendor)}:${hexId(host.device)}`;
    const hardware = device.snapshotConfig();
    const warnOnce = (message: string): void => this.#warnOnce(message);
    this.#barSet = new BarSet({
      native,
      device,
      hardware,
      resources,
      label: this.label,
      wc: options.wc,
      wcFacts: options.wcFacts,
      romBytes: options.rom?.bytes,
      msixRelocation: options.msixRelocation,
      warn: warnOnce,
    });
    this.bars = this.#barSet.requests;
    this.#pageCounts = new PageCounts(options.nowMs ?? (() => performance.now()), warnOnce);
    this.#peers = options.peerDma && new PeerMap(options.peerDma, warnOnce);
    window.setDevice(device.fd, device.regions[VFIO_PCI_REGION.CONFIG]!.fdOffset);
    options.resetter.register(host.bdf, {
      host,
      method: options.reset,
      baseline: hardware,
      isActive: () => this.#isActive,
    });
    this.#registers = new GuestRegisters(
      {
        window,
        device,
        hardware,
        sizeBytes: device.configBytes,
        bars: this.bars,
        ...(options.ids ? { ids: options.ids } : {}),
        // Even a device with a pin has no line when the kernel says so.
        intx: hardware[HEADER.INTERRUPT_PIN] !== 0 && device.irqs[VFIO_PCI_IRQ.INTX]!.count > 0,
        msiVectors: device.irqs[VFIO_PCI_IRQ.MSI]!.count,
        msix: this.#barSet.msix?.guest,
        canReset: options.resetter.canResetAlone(device),
        isPending: (vector) => this.#isPending(vector),
        ...(options.place ? { place: options.place } : {}),
      },
      {
        decodeChanged: () => this.#sync(),
        powerChanged: () => {
          this.#sync();
          this.#syncInterrupts();
        },
        interruptsChanged: () => this.#syncInterrupts(),
        functionReset: () => this.#functionReset(),
        warn: warnOnce,
      },
    );
    this.#grants = new GrantSet({ native, host, device, registers: this.#registers, label: this.label });
    const { msix } = this.#registers;
    this.#msixTraps = msix && new MsixTraps(msix, this.#barSet.msix!, () => this.#syncInterrupts());
    this.#hardware = new HardwareControl(device, this.#registers.powerControlOffset);
    for (const fault of this.#registers.image.faults) warn(`${host.bdf}: ${fault}`);
  }

  /** @throws CausewayError DEVICE_UNSUPPORTED when write-combining is required and not to be had */
  checkWriteCombining(): void {
    this.#barSet.checkWriteCombining(this.label, (message) => this.#warnOnce(message));
  }

  writeConfig(offset: number, width: number, value: number): void {
    try {
      this.#registers.space.write(offset, width, value);
    } catch (error) {
      // No guest can mend it, and no guest may end the VMM by it.
      this.#warnOnce(`a config write at ${offset} failed: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  placeBar(index: number, address: number): void {
    this.#placed.set(index, address);
    this.#registers.placeBar(index, address);
    if (this.#state) this.#sync();
  }

  /** The holes that are open in the closed config space. */
  get grants(): readonly ConfigGrant[] {
    return this.#grants.all;
  }

  /** Replaces them all, also while the guest runs; see {@link GrantSet.replace}. @throws CausewayError CONFIG_INVALID */
  setGrants(grants: readonly ConfigGrant[], options: { readonly force?: boolean } = {}): void {
    this.#grants.replace(grants, options);
  }

  powerOn(services: PciServices): void {
    this.#reset(!this.#booted ? 'boot' : services.isReset ? 'guest' : 'reboot');
    this.#booted = true;
    this.#options.resetter.used(this.#device);
    this.#registers.reset(false);
    this.#registers.setSlot(services);
    for (const [index, address] of this.#placed) this.#registers.placeBar(index, address);
    this.#registers.space.set(HEADER.INTERRUPT_LINE, 1, services.intxGsi & 0xff);
    this.#msixTraps?.share(services.memoryTraps);
    this.#pageCounts.start();
    this.#state = {
      services,
      mapping: new Mapping(this.#barSet.maps, services, (piece) => this.#trapOf(piece), this.#pageCounts, this.#peers),
      interrupts: new Interrupts(this.#options.native, this.#device, services),
      joined: false,
    };
    this.#options.joinVm(services);
    this.#state.joined = true;
    this.#sync();
    this.#syncInterrupts();
  }

  powerOff(): void {
    const state = this.#state;
    if (!state) return;
    // DMA first: the guest's RAM may be given to somebody else next.
    this.#hardware.stopDma();
    state.interrupts.apply({ mode: 'none' });
    const freed = state.mapping.apply([]);
    this.#registers.reset(false);
    this.#hardware.quiet();
    this.#state = undefined;
    if (state.joined) this.#options.leaveVm(state.services);
    if (freed) this.#options.addressesFreed?.();
  }

  windowsChanged(): void {
    this.#sync();
  }

  /** Resets the device under its guest, whose driver has to notice: BARs keep their addresses, all else is as after power-on. */
  resetForError(): void {
    this.#functionReset('error');
  }

  /**
   * KVM_RUN returned EFAULT: the kernel revoked a BAR behind our back (a reset through sysfs, low power). Traps what was
   * direct until the guest next changes decode. Returns false when nothing was mapped, so that the cause lies elsewhere.
   */
  trapAfterRevocation(): boolean {
    const dropped = this.#state?.mapping.trapDirect() ?? 0;
    if (dropped > 0) this.#warnOnce('the kernel revoked the BARs; they are trapped until the guest enables them again');
    return dropped > 0;
  }

  report(): FunctionReport {
    const state = this.#state;
    const decoded = this.#decoded();
    const bars = this.bars.map((bar): BarReport => {
      const gpa = decoded.find(({ index }) => index === bar.index)?.gpa;
      const report = this.#barSet.report(bar, gpa, state?.mapping.pieces ?? []);
      const isDeviceMemory = report.areas.some(({ mode }) => mode === 'direct') && bar.index !== ROM_BAR;
      return this.#peers && isDeviceMemory ? { ...report, p2p: this.#peers.stateOf(bar.index) } : report;
    });
    const mode = state?.interrupts.mode ?? 'none';
    const available = {
      none: 0,
      intx: 1,
      msi: this.#registers.msi?.vectorCount,
      msix: this.#registers.msix?.vectorCount,
    };
    const { rom, ids } = this.#options;
    const msixRelocation = this.#barSet.msix?.detail;
    const trappedPages = state?.mapping.trappedPages() ?? this.#pageCounts.report([]);
    return {
      label: this.label,
      ...(state ? { address: state.services.address } : {}),
      ...(ids ? { ids } : {}),
      bars,
      ...(rom ? { rom: rom.report } : {}),
      ...(msixRelocation === undefined ? {} : { msixRelocation }),
      ...(trappedPages.length === 0 ? {} : { trappedPages }),
      interrupts: { mode, available: available[mode] ?? 0, routed: state?.interrupts.routedCount ?? 0 },
      resets: this.#resets.entries,
    };
  }

  /**
   * Quiets and resets the device and lets go of it; its fd is the session's to close. A second call is ignored.
   * @throws what went wrong on the way, after all of it was tried
   */
  release(): void {
    if (!this.#open) return;
    this.#open = false;
    try {
      this.powerOff();
    } finally {
      this.#reset('release');
      this.#msixTraps?.unshare();
      this.#barSet.maps.close();
      this.window.inUse = false;
    }
  }

  /**
   * Brings hardware and mappings in line with COMMAND, BARs and power state. What the guest shall no longer reach goes
   * before the hardware hears of it; what it shall reach comes after.
   */
  #sync(): void {
    const state = this.#state;
    if (!state) return;
    const wanted = desiredMapping(this.#decoded(), (bar) => this.#barSet.areasOf(bar));
    const keys = new Set(wanted.map((piece) => `${piece.bar} ${piece.gpa}`));
    const freed = state.mapping.apply(state.mapping.pieces.filter((piece) => keys.has(`${piece.bar} ${piece.gpa}`)));
    this.#hardware.apply(this.#registers.guestCommand, this.#registers.powerState);
    const replaced = state.mapping.apply(wanted);
    if (freed || replaced) this.#options.addressesFreed?.();
  }

  /** Another function gave up addresses: maps what was in its way. */
  retryBlocked(): void {
    if (this.#state?.mapping.isBlocked) this.#sync();
  }

  /** In D3hot they wait: the kernel turns no messages on outside D0 (drivers/pci/msi), and the device sends none. */
  #syncInterrupts(): void {
    if (this.#registers.powerState !== 0) return;
    const { msi, msix } = this.#registers;
    const intx = this.#registers.space.get(HEADER.INTERRUPT_PIN, 1) !== 0;
    if (!this.#state) return;
    const { interrupts, services } = this.#state;
    interrupts.apply(desiredInterrupts({ intx, msi, msix }, (message) => services.irq.isDeliverable(message)));
  }

  #decoded(): ReturnType<typeof decodeBars> {
    const services = this.#state?.services;
    if (!services) return [];
    const { bars, decode, powered } = this.#registers;
    const { memoryWindows, portWindow } = services;
    return decodeBars(bars, { ...decode, powered, memoryWindows, portWindow });
  }

  #trapOf({ bar, area }: Piece): Trap {
    const name = `${this.label} BAR${bar}`;
    const region = this.#device.regions[bar]!;
    const registers: Trap = { kind: 'file', name, fd: this.#device.fd, offset: region.fdOffset + area.offset };
    return this.#msixTraps?.trapOf(area, name) ?? registers;
  }

  /** A vector that was never connected is masked in the hardware too, whose own pending bit then tells. */
  #isPending(vector: number): boolean {
    const interrupts = this.#state?.interrupts;
    const pending = interrupts?.mode === 'msix' ? interrupts.isPending(vector) : undefined;
    const hardware = this.#barSet.msix?.hardware;
    if (pending !== undefined || !hardware) return pending ?? false;
    const { bar, offset } = hardware.pending;
    if (!this.#registers.decode.memoryDecode || !this.#registers.powered) return false;
    const byte = this.#device.readRegionByte(bar, offset + (vector >>> 3));
    return ((byte >>> (vector & 7)) & 1) === 1;
  }

  /** The guest's own reset of the function: everything it reached goes first, BARs keep their addresses. */
  #functionReset(when: ResetOccasion = 'guest'): void {
    const state = this.#state;
    if (!state) return;
    const freed = state.mapping.apply([]);
    state.interrupts.apply({ mode: 'none' });
    this.#registers.reset(true);
    this.#reset(when);
    this.#sync();
    this.#syncInterrupts();
    if (freed) this.#options.addressesFreed?.();
  }

  /** The guest has turned it on: it decodes, or is a bus master. */
  get #isActive(): boolean {
    const { guestCommand } = this.#registers;
    return this.#state !== undefined && (guestCommand & (COMMAND.IO | COMMAND.MEMORY | COMMAND.BUS_MASTER)) !== 0;
  }

  /** Resets the hardware; nothing may be mapped or enabled. */
  #reset(when: ResetOccasion): void {
    this.#hardware.wake();
    this.#hardware.stopDma();
    const result = this.#options.resetter.reset(this.#device);
    this.#resets.add({ when, ...result });
    if (!result.ok) {
      const faults = result.faults ? `: ${result.faults.join('; ')}` : '';
      const message = `reset for ${when}: ${result.method}${faults}`;
      // A guest may ask for one that fails for ever; the host's own are few.
      if (when === 'guest') this.#warnOnce(message);
      else this.#options.warn(`${this.label}: ${message}`);
    }
    this.#hardware.wasReset();
  }

  #warnOnce(message: string): void {
    if (this.#warned.has(message)) return;
    this.#warned.add(message);
    this.#options.warn(`${this.label}: ${message}`);
  }
}

function hexId(id: number): string {
  return id.toString(16).padStart(4, '0');
}
