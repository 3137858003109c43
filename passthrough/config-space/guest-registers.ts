/**
 * A guest's view of one function's registers, and the facts that follow from them. What a write means for the hardware
 * is told through {@link RegisterEvents}; nothing here touches KVM or VFIO but the device's own config space.
 */
import { readLe } from '../../vmm/base/bits.ts';
import type { PciIds } from '../../vmm/config/model.ts';
import { BAR_COUNT, BAR0_OFFSET, BarRegisters, ROM_OFFSET } from '../../vmm/pci/bar-registers.ts';
import { CAP, type Capability } from '../../vmm/pci/capabilities.ts';
import { type ConfigDevice, ConfigSpace, type RegisterWrite } from '../../vmm/pci/config-space.ts';
import type { ConfigWindow } from '../../vmm/pci/config-window.ts';
import { type BarRequest, ROM_BAR } from '../../vmm/pci/function.ts';
import { Msi, msiControl } from '../../vmm/pci/msi.ts';
import { Msix, type MsixLayout } from '../../vmm/pci/msix.ts';
import { type GuestPlace, placeBehindPort } from './express-topology.ts';
import type { ConfigGrant } from './grants.ts';
import { buildImage, type GuestImage } from './image.ts';
import { type ConfigMasks, installMasks, masksOf, withGrants } from './masks.ts';
import {
  AF,
  AF_FLR,
  COMMAND,
  HEADER,
  PCIE,
  PCIE_DEV_CAP_FLR,
  PCIE_DEV_CTL_FLR,
  PM_CONTROL,
  PM_STATE_MASK,
  VPD,
  VPD_WRITE,
} from './permission-table.ts';

/** Bit of the header type. */
const MULTI_FUNCTION = 0x80;

/** What a guest's write leads to. Called after the registers took the value. */
export interface RegisterEvents {
  /** COMMAND or a BAR was written: decode may have changed. */
  decodeChanged(): void;
  /** The power state was written. */
  powerChanged(): void;
  /** MSI or MSI-X control, address, data or mask was written. */
  interruptsChanged(): void;
  /** The guest asked for a function-level reset. */
  functionReset(): void;
  /** A remark for the user. */
  warn(message: string): void;
}

export interface RegisterOptions {
  readonly window: ConfigWindow;
  readonly device: ConfigDevice;
  /** Config space of the hardware as it was at open. */
  readonly hardware: Uint8Array;
  readonly sizeBytes: number;
  readonly bars: readonly BarRequest[];
  readonly intx: boolean;
  /** Vectors that VFIO has for MSI; 0 hides the capability. */
  readonly msiVectors: number;
  /** As the guest shall see it, already checked against regions and VFIO's vectors; undefined hides the capability. */
  readonly msix: MsixLayout | undefined;
  /** Whether the function can be reset alone, so that FLR may be offered. */
  readonly canReset: boolean;
  readonly isPending: (vector: number) => boolean;
  /** Shown in place of the hardware's. */
  readonly ids?: PciIds;
  /** Default: `root-bus`. */
  readonly place?: GuestPlace;
}

/** Where each identifier stands in the header. */
const ID_REGISTERS = {
  vendor: [0x00, 2],
  device: [0x02, 2],
  revision: [0x08, 1],
  subsystemVendor: [0x2c, 2],
  subsystemDevice: [0x2e, 2],
} as const satisfies Record<keyof PciIds, readonly [offset: number, width: number]>;

export class GuestRegisters {
  readonly space: ConfigSpace;
  readonly bars: BarRegisters;
  readonly msi: Msi | undefined;
  readonly msix: Msix | undefined;
  readonly image: GuestImage;
  readonly #options: RegisterOptions;
  readonly #events: RegisterEvents;
  readonly #powerOnImage: Uint8Array;
  /** What the permission table gives, without grants. */
  readonly #tableMasks: ConfigMasks;
  readonly #pm: Capability | undefined;
  readonly #msixOffset: number | undefined;

  constructor(options: RegisterOptions, events: RegisterEvents) {
    this.#options = options;
    this.#events = events;
    const { window, device, hardware, sizeBytes, msix, msiVectors } = options;
    this.space = new ConfigSpace(window, device, sizeBytes);
    this.bars = new BarRegisters(options.bars);
    this.image = buildImage(this.space, hardware, {
      intx: options.intx,
      msi: msiVectors > 0,
      msix: msix !== undefined,
    });
    this.#showIds();
    const express = this.#capability(CAP.PCIE);
    if (express && options.place === 'port') placeBehindPort(this.space, hardware, express);
    this.#pm = this.#capability(CAP.PM);
    const msi = this.#capability(CAP.MSI);
    if (msi) {
      const control = msiControl(hardware, msi.offset);
      this.msi = new Msi(this.space, { offset: msi.offset, control, maxVectors: msiVectors });
    }
    this.#msixOffset = this.#capability(CAP.MSIX)?.offset;
    if (msix && this.#msixOffset !== undefined) {
      this.msix = new Msix(msix.vectorCount, options.isPending);
      this.#layOutMsix(this.#msixOffset, msix);
    }
    this.#showBars();
    this.#handleHeader();
    this.#handleCapabilities();
    // What does not exist reads all ones, which is how an OS tells 256 bytes of config space from 4096.
    window.image.fill(0xff, sizeBytes);
    this.#powerOnImage = window.image.slice();
    this.#tableMasks = masksOf(this.space);
  }

  /** COMMAND as the guest wrote it. */
  get guestCommand(): number {
    return this.space.get(HEADER.COMMAND, 2);
  }

  /** False in D3hot. */
  get powered(): boolean {
    return this.powerState === 0;
  }

  /** 0 (D0) or 3 (D3hot). */
  get powerState(): number {
    return this.#pm ? this.space.get(this.#pm.offset + PM_CONTROL, 1) & PM_STATE_MASK : 0;
  }

  /** Config offset of PMCSR, where the function has power management. */
  get powerControlOffset(): number | undefined {
    return this.#pm && this.#pm.offset + PM_CONTROL;
  }

  /** Decode as the guest's COMMAND says. */
  get decode(): { readonly portDecode: boolean; readonly memoryDecode: boolean } {
    const command = this.guestCommand;
    return { portDecode: (command & COMMAND.IO) !== 0, memoryDecode: (command & COMMAND.MEMORY) !== 0 };
  }

  /** Registers as after power-on; BARs keep their addresses when `keepBars` (an FLR, as VFIO has it). */
  reset(keepBars: boolean): void {
    this.space.window.image.set(this.#powerOnImage);
    this.msix?.reset();
    if (!keepBars) this.bars.reset();
    this.#showBars();
  }

  /** What the guest's slot decides: INTA to INTD as 1 to 4, where the function has a line at all, and the multi-function bit. */
  setSlot({ intxPin, isMultiFunction }: { readonly intxPin: number; readonly isMultiFunction: boolean }): void {
    const pin = this.#powerOnImage[HEADER.INTERRUPT_PIN] === 0 ? 0 : intxPin;
    const type = this.#powerOnImage[HEADER.HEADER_TYPE]! & ~MULTI_FUNCTION;
    for (const image of [this.#powerOnImage, this.space.window.image]) {
      image[HEADER.INTERRUPT_PIN] = pin;
      image[HEADER.HEADER_TYPE] = isMultiFunction ? type | MULTI_FUNCTION : type;
    }
  }

  /** Opens exactly these holes beside what the table gives, from the next access on. */
  setGrants(grants: readonly ConfigGrant[]): void {
    installMasks(this.space, withGrants(this.#tableMasks, grants));
    this.#delegateVpd();
  }

  placeBar(index: number, address: number): void {
    this.bars.place(index, address);
    this.#showBars();
  }

  #capability(id: number): Capability | undefined {
    return this.image.capabilities.find((capability) => capability.id === id);
  }

  #showBars(): void {
    for (let bar = 0; bar < BAR_COUNT; bar++) this.space.set(BAR0_OFFSET + 4 * bar, 4, this.bars.read(bar));
    this.space.set(ROM_OFFSET, 4, this.bars.read(ROM_BAR));
  }

  #showIds(): void {
    for (const [name, id] of Object.entries(this.#options.ids ?? {}) as [keyof PciIds, number][]) {
      const [offset, width] = ID_REGISTERS[name];
      this.space.set(offset, width, id);
    }
  }

  #layOutMsix(offset: number, { table, pending }: MsixLayout): void {
    const { space } = this;
    space.set(offset + 2, 2, this.msix!.control);
    space.set(offset + 4, 4, (table.offset | table.bar) >>> 0);
    space.set(offset + 8, 4, (pending.offset | pending.bar) >>> 0);
    // Enable and function mask; bits 15 and 14 of message control are in its upper byte.
    space.guestWrite[offset + 3] = 0xc0;
  }

  #handleHeader(): void {
    const { space } = this;
    space.onWrite(HEADER.COMMAND, ({ before, after }) => {
      if ((before ^ after) & 0xffff) this.#events.decodeChanged();
    });
    for (let bar = 0; bar < BAR_COUNT; bar++) this.#handleBar(bar, BAR0_OFFSET + 4 * bar);
    if (this.bars.requests.some(({ index }) => index === ROM_BAR)) this.#handleBar(ROM_BAR, ROM_OFFSET);
  }

  #handleBar(bar: number, offset: number): void {
    this.space.onWrite(offset, ({ before, raw, lanes }) => {
      this.bars.write(bar, ((before & ~lanes) | (raw & lanes)) >>> 0);
      this.space.set(offset, 4, this.bars.read(bar));
      this.#events.decodeChanged();
    });
  }

  #handleCapabilities(): void {
    const { space } = this;
    if (this.#pm) {
      const offset = this.#pm.offset + PM_CONTROL;
      space.onWrite(offset, (write) => this.#writePower(offset, write));
    }
    for (const offset of this.msi?.dwords() ?? []) space.onWrite(offset, () => this.#events.interruptsChanged());
    const { msix } = this;
    if (msix && this.#msixOffset !== undefined) {
      const offset = this.#msixOffset;
      space.onWrite(offset, ({ before, after }) => {
        if (before === after) return;
        msix.control = after >>> 16;
        this.#events.interruptsChanged();
      });
    }
    this.#handleVpd();
    this.#handleResets();
  }

  /** D1 and D2 are not offered by VFIO; a write of an unsupported state is ignored (PM 1.2 §3.2.4). */
  #writePower(offset: number, { before, after }: RegisterWrite): void {
    const state = after & PM_STATE_MASK;
    if (state === (before & PM_STATE_MASK)) return;
    if (state === 0 || state === 3) this.#events.powerChanged();
    else space32(this.space, offset, before);
  }

  #handleVpd(): void {
    const vpd = this.#capability(CAP.VPD);
    if (!vpd) return;
    this.#delegateVpd();
    const register = vpd.offset & ~3;
    const address = vpd.offset + VPD.ADDRESS;
    this.space.onWrite(register, ({ raw, lanes }) => {
      // The read is started by the upper byte, which carries the flag; a byte-wise writer has no defined result (PCI 3.0 I).
      const covered = (lanes >>> (8 * (address - register))) & 0xffff;
      if (covered !== 0xffff) return;
      const value = (raw >>> (8 * (address - register))) & 0xffff;
      // A grant of the address register has sent the write to the hardware already.
      if ((readLe(this.space.deviceWrite, address, 2) & VPD_WRITE) !== 0) return;
      if (value & VPD_WRITE) this.#events.warn('the guest tried to write vital product data: refused');
      else this.#options.device.write(address, 2, value);
    });
  }

  /** vCPU threads start reads by themselves, unless a grant has opened the register: then each write goes to the hardware. */
  #delegateVpd(): void {
    const vpd = this.#capability(CAP.VPD);
    if (!vpd) return;
    const address = vpd.offset + VPD.ADDRESS;
    const isGranted = (readLe(this.space.deviceWrite, address, 2) & VPD_WRITE) !== 0;
    this.space.window.vpdAddress = isGranted ? 0 : address;
  }

  #handleResets(): void {
    const { space } = this;
    const { canReset, hardware } = this.#options;
    const pcie = this.#capability(CAP.PCIE);
    if (pcie) {
      const capabilities = space.get(pcie.offset + PCIE.DEV_CAP, 4);
      const offered = canReset && (capabilities & PCIE_DEV_CAP_FLR) !== 0;
      if (!offered) space32(space, pcie.offset + PCIE.DEV_CAP, capabilities & ~PCIE_DEV_CAP_FLR);
      const control = pcie.offset + PCIE.DEV_CTL;
      space.onWrite(control, ({ after }) => {
        if ((after & PCIE_DEV_CTL_FLR) === 0) return;
        space.set(control, 2, after & ~PCIE_DEV_CTL_FLR & 0xffff);
        if (offered) this.#events.functionReset();
      });
    }
    const af = this.#capability(CAP.AF);
    if (af) {
      // Both transactions-pending and FLR have to be there for the kernel to reset.
      const offered = canReset && (hardware[af.offset + AF.CAPABILITIES]! & 3) === 3;
      if (!offered) space.set(af.offset + AF.CAPABILITIES, 1, 0);
      space.onWrite(af.offset + AF.CONTROL, ({ after }) => {
        if ((after & AF_FLR) === 0) return;
        space.set(af.offset + AF.CONTROL, 1, 0);
        if (offered) this.#events.functionReset();
      });
    }
  }
}

function space32(space: ConfigSpace, offset: number, value: number): void {
  space.set(offset, 4, value >>> 0);
}
