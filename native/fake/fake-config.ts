/**
 * The configuration space that VFIO shows: the hardware's bytes behind the kernel's permission layer
 * (drivers/vfio/pci/vfio_pci_config.c), reduced to what decides the behaviour of a VMM.
 */

import { barFlags, capabilities, type FakeBarSpec } from './pci-spec.ts';

const COMMAND = 0x04;
const COMMAND_MEMORY = 0x0002;
const COMMAND_MASTER = 0x0004;
const COMMAND_DISABLE_INTX = 0x0400;
/** PMCSR, from the start of its capability. */
const PM_CONTROL = 4;
const NO_SOFT_RESET = 0x08;
const BAR0 = 0x10;
const ROM_BAR = 0x30;
const STANDARD_END = 0x100;

/** Lengths of standard capabilities; VPD's and MSI's parts that matter are handled below, others are hidden or unknown. */
const CAP_BYTES: Readonly<Record<number, number>> = {
  1: 8,
  2: 12,
  3: 8,
  5: 24,
  7: 8,
  8: 24,
  16: 52,
  17: 12,
  18: 8,
  19: 6,
};
/** Lengths of extended capabilities that the kernel knows; the bytes of others are raw hardware. */
const EXT_CAP_BYTES: Readonly<Record<number, number>> = {
  1: 44,
  3: 12,
  4: 16,
  13: 8,
  14: 8,
  15: 8,
  16: 64,
  18: 40,
  24: 8,
};

/** What a config write does to the device. */
export interface ConfigEffects {
  /** COMMAND.MEM or the power state changed. */
  decodeChanged(): void;
  intxDisableChanged(): void;
  functionLevelReset(): void;
}

export class FakeConfig {
  /** What the silicon holds: writes that the kernel lets through arrive here. */
  readonly hardware: Uint8Array;
  private readonly shown: Uint8Array;
  /** Per bit: 1 = answered from `shown`. */
  private readonly virtual: Uint8Array;
  /** Per bit: 1 = writable. */
  private readonly writable: Uint8Array;
  private readonly bars: readonly (FakeBarSpec | undefined)[];
  private readonly romBytes: number;
  private readonly effects: ConfigEffects;
  private readonly isVf: boolean;
  private pmAt: number | undefined;
  /** The header as the kernel saved it on the way to D3hot; the device loses its own. */
  private savedHeader: Uint8Array | undefined;
  private expressAt: number | undefined;

  constructor(
    hardware: Uint8Array,
    bars: readonly (FakeBarSpec | undefined)[],
    romBytes: number,
    effects: ConfigEffects,
    isVf = false,
  ) {
    this.hardware = hardware;
    this.shown = hardware.slice();
    this.virtual = new Uint8Array(hardware.length);
    this.writable = new Uint8Array(hardware.length);
    this.bars = bars;
    this.romBytes = romBytes;
    this.effects = effects;
    this.isVf = isVf;
    this.permit();
    this.fixBars();
  }

  get size(): number {
    return this.hardware.length;
  }

  private word(at: number): number {
    return this.read(at, 2).reduceRight((value, byte) => (value << 8) | byte, 0);
  }

  /** COMMAND.MEM and in D0: the device answers on its BARs. */
  get decodesMemory(): boolean {
    return (this.read(COMMAND, 1)[0]! & COMMAND_MEMORY) !== 0 && this.powerState === 0;
  }

  get isBusMaster(): boolean {
    return (this.hardware[COMMAND]! & COMMAND_MASTER) !== 0;
  }

  get disablesIntx(): boolean {
    return (this.word(COMMAND) & COMMAND_DISABLE_INTX) !== 0;
  }

  /** 0 to 3 for D0 to D3hot. */
  get powerState(): number {
    return this.pmAt === undefined ? 0 : this.hardware[this.pmAt + 4]! & 3;
  }

  /** Opening the device: decode on, DMA off, the virtual bits as on the first day. */
  opened(): void {
    this.wasReset();
    this.hardware[COMMAND]! &= ~COMMAND_MASTER;
    if (this.isVf) this.shown[COMMAND]! |= COMMAND_MEMORY;
    else this.hardware[COMMAND]! |= COMMAND_MEMORY;
  }

  /** A reset ends in D0; the kernel saves config space before it and restores it after. */
  wasReset(): void {
    if (this.powerState !== 0) this.setPowerState(0);
  }

  /** Without No_Soft_Reset a device comes back from D3hot reset; the kernel restores what it saved on the way there. */
  private setPowerState(state: number): void {
    const at = this.pmAt!;
    const before = this.powerState;
    this.hardware[at + PM_CONTROL] = (this.hardware[at + PM_CONTROL]! & ~3) | state;
    if (before === 0 && state === 3 && (this.hardware[at + PM_CONTROL]! & NO_SOFT_RESET) === 0) {
      this.savedHeader = this.hardware.slice(0, 0x40);
    }
    if (state !== 0 || this.savedHeader === undefined) return;
    this.hardware.set(this.savedHeader);
    this.savedHeader = undefined;
  }

  // ---- accesses -----------------------------------------------------------------------------------------------

  read(at: number, length: number): Uint8Array {
    return Uint8Array.from({ length }, (_, i) => {
      const mask = this.virtual[at + i]!;
      return (this.hardware[at + i]! & ~mask) | (this.shown[at + i]! & mask);
    });
  }

  write(at: number, bytes: Uint8Array): void {
    const [decoded, intxOff] = [this.decodesMemory, this.disablesIntx];
    bytes.forEach((byte, i) => {
      const [writable, virtual] = [this.writable[at + i]!, this.virtual[at + i]!];
      this.shown[at + i] = merge(this.shown[at + i]!, byte, writable & virtual);
      this.hardware[at + i] = merge(this.hardware[at + i]!, byte, writable & ~virtual);
    });
    const covers = (offset: number) => offset >= at && offset < at + bytes.length;
    this.fixBars();
    // PMCSR's state bits are not writable as bits, but a write to them makes the kernel change the state.
    if (this.pmAt !== undefined && covers(this.pmAt + 4)) {
      this.setPowerState(bytes[this.pmAt + PM_CONTROL - at]! & 3);
    }
    // Initiate FLR: bit 15 of Device Control, reads 0.
    if (this.expressAt !== undefined && covers(this.expressAt + 9)) {
      this.shown[this.expressAt + 9]! &= ~0x80;
      if ((bytes[this.expressAt + 9 - at]! & 0x80) !== 0) this.effects.functionLevelReset();
    }
    if (decoded !== this.decodesMemory) this.effects.decodeChanged();
    if (intxOff !== this.disablesIntx) this.effects.intxDisableChanged();
  }

  // ---- the permission table -----------------------------------------------------------------------------------

  private set(at: number, virtual: readonly number[], writable: readonly number[]): void {
    this.virtual.set(virtual, at);
    this.writable.set(writable, at);
  }

  private fill(at: number, bytes: number, virtual: number, writable: number): void {
    this.virtual.fill(virtual, at, at + bytes);
    this.writable.fill(writable, at, at + bytes);
  }

  private permit(): void {
    // Bytes in no capability are the hardware's own, readable and writable.
    this.fill(0x40, this.size - 0x40, 0, 0xff);
    this.fill(0, 4, 0xff, 0); // ids
    // A VF has no memory enable of its own: the kernel keeps one for it.
    this.set(COMMAND, [this.isVf ? COMMAND_MEMORY : 0, 0x04], [0xff, 0xff]);
    this.set(0x06, [0x10, 0], [0, 0]);
    this.set(0x0c, [0, 0, 0, 0], [0xff, 0xff, 0, 0xff]); // cache line, latency, header type, BIST
    this.fill(BAR0, 24, 0xff, 0xff);
    this.fill(ROM_BAR, 4, 0xff, 0xff);
    this.fill(0x34, 1, 0xff, 0);
    this.set(0x3c, [0xff, 0xff], [0xff, 0]);
    for (const { id, at } of capabilities(this.hardware)) this.permitCapability(id, at);
    if (this.size > STANDARD_END) this.permitExtended();
  }

  private permitCapability(id: number, at: number): void {
    const bytes = id === 9 ? 3 : (CAP_BYTES[id] ?? 2);
    this.fill(at, Math.min(bytes, this.size - at), 0, 0);
    this.virtual[at + 1] = 0xff;
    if (id === 1) {
      this.pmAt = at;
      this.set(at + 4, [0, 0x81], [0x0c, 0x7e]); // PME_En and PME_Status read 0
      this.shown[at + 5] = 0;
    } else if (id === 5) {
      const has64 = (this.hardware[at + 2]! & 0x80) !== 0;
      this.set(at + 2, [0xff], [0x70]); // Enable stays 0 unless SET_IRQS turned MSI on
      this.fill(at + 4, has64 ? 10 : 6, 0xff, 0xff);
      this.fill(at + (has64 ? 14 : 10), has64 ? 10 : 6, 0, 0xff); // masks and pending bits are the hardware's
    } else if (id === 16) {
      this.expressAt = at;
      this.set(at + 8, [0xe0, 0xf0], [0xff, 0xfd]);
      this.set(at + 0x28, [0, 0], [0xdf, 0xff]);
    }
  }

  private permitExtended(): void {
    const view = new DataView(this.hardware.buffer, this.hardware.byteOffset);
    const seen = new Set<number>();
    for (let at = STANDARD_END; at >= STANDARD_END && at + 4 <= this.size && !seen.has(at); ) {
      seen.add(at);
      const header = view.getUint32(at, true);
      const bytes = EXT_CAP_BYTES[header & 0xffff];
      this.fill(at, bytes ?? 4, 0, 0);
      at = (header >>> 20) & ~3;
    }
  }

  /** Sizing: address bits below the size read 0, type bits read as they are, absent BARs read 0. */
  private fixBars(): void {
    const view = new DataView(this.shown.buffer);
    for (let index = 0; index < 6; index++) {
      const bar = this.bars[index];
      const below = this.bars[index - 1];
      const at = BAR0 + index * 4;
      const value = view.getUint32(at, true);
      if (below?.is64) view.setUint32(at, Number(BigInt(value) & (~(BigInt(below.sizeBytes) - 1n) >> 32n)), true);
      else if (bar === undefined) view.setUint32(at, 0, true);
      else view.setUint32(at, ((value & lowMask(bar.sizeBytes)) | barFlags(bar)) >>> 0, true);
    }
    const rom = view.getUint32(ROM_BAR, true);
    view.setUint32(ROM_BAR, this.romBytes === 0 ? 0 : ((rom & lowMask(this.romBytes)) | (rom & 1)) >>> 0, true);
  }
}

function lowMask(sizeBytes: number): number {
  return sizeBytes >= 2 ** 32 ? 0 : ~(sizeBytes - 1);
}

function merge(old: number, value: number, mask: number): number {
  return (old & ~mask) | (value & mask);
}
