/**
 * A PCI function as the machine sees it. An assigned device implements this; the machine never knows VFIO.
 * A function outlives power cycles: a reboot of the guest is `powerOff`, then `powerOn` with the services of a new VM.
 */
import type { Fd, Gsi } from '../../native/types.ts';
import type { Range } from '../base/ranges.ts';
import type { TrapMap } from '../bus/trap.ts';
import type { IrqRouter } from '../irq/irq-router.ts';
import type { MemorySlots } from '../memory/memory-slots.ts';
import type { ConfigWindow } from './config-window.ts';

/** The guest's address of a function. Never to be mixed up with a host BDF. */
export interface GuestBdf {
  readonly bus: number;
  readonly device: number;
  readonly function: number;
}

/** Index of the expansion ROM among the BARs, as in Linux. */
export const ROM_BAR = 6;

/** A BAR that wants an address before the guest starts. */
export interface BarRequest {
  /** 0 to 5; a 64-bit BAR has the index of its lower half. {@link ROM_BAR}: the expansion ROM. */
  readonly index: number;
  /** Power of two; memory BARs at least a page. */
  readonly sizeBytes: number;
  readonly kind: 'memory' | 'port';
  readonly is64: boolean;
  readonly prefetchable: boolean;
}

/** What the machine offers to a function for one power cycle. */
export interface PciServices {
  /** At the moment: behind a root port the guest gives the bus its number. */
  readonly address: GuestBdf;
  readonly slots: MemorySlots;
  /** Traps on guest-physical memory. */
  readonly memoryTraps: TrapMap;
  readonly portTraps: TrapMap;
  readonly irq: IrqRouter;
  /** The IOAPIC pin of this function's INTx; its own. */
  readonly intxGsi: Gsi;
  /** 1 to 4 for INTA to INTD. */
  readonly intxPin: number;
  /** Other functions share the device number. */
  readonly isMultiFunction: boolean;
  /** The guest itself has power-cycled or reset what this function is plugged into; else the whole machine starts. */
  readonly isReset: boolean;
  /**
   * Windows in which a memory BAR may be mapped; elsewhere it stays unmapped. Behind a root port those that it hands on at
   * the moment: {@link PciFunction.windowsChanged} tells when they change.
   */
  readonly memoryWindows: readonly Range[];
  readonly portWindow: Range;
  /** Tells KVM that a VFIO group or device takes part (KVM_DEV_VFIO_FILE_ADD), and that it no longer does. */
  addVfioFile(file: Fd): void;
  deleteVfioFile(file: Fd): void;
  /** A remark for the user: once per cause. */
  warn(message: string): void;
}

/** How a BAR, or a part of it, reaches the guest. */
export interface BarArea {
  readonly offset: number;
  readonly sizeBytes: number;
  readonly mode: 'direct' | 'trap';
  /** Why it is trapped: `io-bar`, `no-mmap`, `msix-table`, `msix-pba`, `sub-page`, `beside msix` … */
  readonly why?: string;
}

export interface BarReport extends BarRequest {
  /** Guest address at the moment, undefined while not decoded. */
  readonly gpa?: number;
  readonly areas: readonly BarArea[];
  /** Memory BARs of assigned devices. */
  readonly wc?: WriteCombining;
  /** Whether other devices reach it by DMA: `mapped`, or `no (reason)`. Only where that was asked for. */
  readonly p2p?: string;
}

/** What holds of write-combining on one BAR. Never more than was seen. */
export interface WriteCombining {
  /** What was asked for. */
  readonly mode: 'auto' | 'require' | 'deny' | 'host';
  /** `yes` when the guest gets it on some area as soon as it asks; else `no (reasons)`. */
  readonly guestWc: string;
  readonly areas: readonly {
    readonly offset: number;
    readonly sizeBytes: number;
    readonly guestWc: boolean;
    /** `trapped`, `io-bar`, `no-mmap`, `sub-page`, `no-tdp`, `pat-hidden`, `policy` … */
    readonly why?: string;
  }[];
  /** The guest sees the prefetchable bit, behind which its user space may ask. */
  readonly guestWcAdvertised: boolean;
  /** Memory type of the VMM's own mapping; `uc- (assumed)` when nothing shows it. */
  readonly hostType: string;
  /** Only where the mode asks for it on the host's side. */
  readonly hostWc?: 'proven' | 'not available on this kernel';
  readonly evidence: readonly string[];
  /** Largest page that can map a direct area, while the guest decodes the BAR. */
  readonly largestPageBytes?: number;
}

/** The expansion ROM of a function, as it was found when the device was opened. */
export interface RomReport {
  /** `host`, or `file:PATH`. */
  readonly source: string;
  /** 0 when there is none to be had. */
  readonly sizeBytes: number;
  /** Whether the guest has it. */
  readonly offered: boolean;
  /** For people: `x86 8086:10d3, 64 KiB`. */
  readonly images: readonly string[];
  /** What is wrong with it, for people. */
  readonly faults: readonly string[];
}

/** Identifiers that a guest sees in place of the device's own. */
export interface GuestIds {
  readonly vendor?: number;
  readonly device?: number;
  readonly subsystemVendor?: number;
  readonly subsystemDevice?: number;
  readonly revision?: number;
}

/** A page of a BAR whose accesses are exits to user space. */
export interface TrappedPage {
  readonly bar: number;
  /** From the start of the BAR. Where a BAR has very many trapped pages, several are one here. */
  readonly offset: number;
  /** As in {@link BarArea}. */
  readonly why: string;
  /** Since the device was opened. */
  readonly accesses: number;
  /** It was accessed so often in a short time that it costs. */
  readonly isHot: boolean;
}

/** For the summary, `inspect` and tests. Plain data. */
export interface FunctionReport {
  readonly label: string;
  readonly address?: GuestBdf;
  /** Only those that were overridden. */
  readonly ids?: GuestIds;
  readonly bars: readonly BarReport[];
  /** Only where one was asked for. */
  readonly rom?: RomReport;
  /** What became of the wish to move the MSI-X table; only where there was one. */
  readonly msixRelocation?: string;
  /** Those that were touched most, most first. */
  readonly trappedPages?: readonly TrappedPage[];
  readonly interrupts: {
    readonly mode: 'none' | 'intx' | 'msi' | 'msix';
    readonly available: number;
    readonly routed: number;
  };
  /** What resets were done and how, oldest first. */
  readonly resets: readonly {
    readonly when: 'boot' | 'reboot' | 'release' | 'guest' | 'error';
    readonly method: string;
    readonly ok: boolean;
    /** What the device then had that it should not, for people. */
    readonly faults?: readonly string[];
  }[];
}

export interface PciFunction {
  /** For people: `0000:01:00.0 8086:10d3`. */
  readonly label: string;
  readonly window: ConfigWindow;
  readonly bars: readonly BarRequest[];
  /**
   * A config write of the guest, on the machine thread. `width` is 1, 2 or 4 and the access lies within one dword
   * (the bus has split it). Never throws for what a guest may write.
   */
  writeConfig(offset: number, width: number, value: number): void;
  /** Firmware's part: sets the BAR's address before the guest starts, decode stays off. */
  placeBar(index: number, address: number): void;
  /**
   * Before the first vCPU runs, or when a guest powers the slot on. The device is reset, its config image is as after
   * power-on, nothing is mapped.
   */
  powerOn(services: PciServices): void;
  /** After the last vCPU stopped, or under a guest that has no use for it any more. Everything taken from the services is given back; the device is quiet. */
  powerOff(): void;
  report(): FunctionReport;
  /** The windows of {@link PciServices} are others now. */
  windowsChanged?(): void;
  /**
   * KVM_RUN failed with EFAULT: a direct mapping may have been revoked under the guest. Drops what cannot be trusted
   * and traps it instead. True when something changed, so that the guest can go on.
   */
  trapAfterRevocation?(): boolean;
}
