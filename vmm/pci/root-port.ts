/**
 * A PCI Express root port with a hot-plug slot: the type-1 header of a bridge, the slot, and an MSI for the slot's events.
 * It says what reaches the bus behind it; who is on that bus is the root complex's business. For one power cycle.
 */
import { ones, writeLe } from '../base/bits.ts';
import type { Range } from '../base/ranges.ts';
import type { MsiMessage } from '../irq/irq-router.ts';
import { allowWindows, BRIDGE, type BridgeWindows, CLOSED_WINDOWS, setWindows, windowsOf } from './bridge-windows.ts';
import { CAP } from './capabilities.ts';
import { ConfigSpace } from './config-space.ts';
import { CONFIG_SPACE_SIZE, type ConfigWindow } from './config-window.ts';
import { HotPlugSlot } from './hot-plug-slot.ts';
import { Msi } from './msi.ts';

/** Red Hat's generic PCIe root port: drivers bind by class, no chipset quirk applies. */
const VENDOR_ID = 0x1b36;
const DEVICE_ID = 0x000c;
const CLASS_PCI_BRIDGE = 0x0604_0000;
const HEADER_TYPE_BRIDGE = 0x01;

const COMMAND = 0x04;
const COMMAND_WRITABLE = 0x0547;
const COMMAND_IO = 0x1;
const COMMAND_MEMORY = 0x2;
const STATUS = 0x06;
const STATUS_CAPABILITIES = 0x10;
const INTERRUPT_LINE = 0x3c;
/** Bridge control: parity, SERR#, ISA, VGA, 16-bit VGA, secondary bus reset. */
const CONTROL_WRITABLE = 0x005f;
const CONTROL_BUS_RESET = 0x0040;

const EXPRESS_AT = 0x40;
const MSI_AT = 0x80;
const MSI_64_BIT = 0x80;

export interface RootPortOptions {
  readonly window: ConfigWindow;
  /** Slot number that the guest shows, from 1. */
  readonly number: number;
  /** Bus numbers that firmware gives it; nothing is behind what is behind it, so both are one. */
  readonly secondaryBus: number;
  readonly hasCard: boolean;
}

export interface RootPortEvents {
  /** The bus behind gains or loses its card; see {@link HotPlugSlot}. */
  connect(connected: boolean): boolean;
  turnedOff(): void;
  /** Bus numbers were written. */
  busesChanged(): void;
  /** Windows or decode were written. */
  windowsChanged(): void;
  /** The guest resets the bus behind: whoever is there is as after power-on, and stays connected. */
  busReset(): void;
  signal(message: MsiMessage): void;
}

/** What reaches the bus behind a port. */
export interface PassedOn {
  readonly memory: readonly Range[];
  readonly io: Range | undefined;
}

export class RootPort {
  readonly label: string;
  readonly window: ConfigWindow;
  readonly slot: HotPlugSlot;
  readonly #space: ConfigSpace;
  readonly #msi: Msi;
  readonly #events: RootPortEvents;

  constructor({ window, number, secondaryBus, hasCard }: RootPortOptions, events: RootPortEvents) {
    this.label = `root port ${number}`;
    this.window = window;
    this.#events = events;
    // Every bit is in the image: there is no device.
    const space = new ConfigSpace(
      window,
      { read: (_offset, width) => ones(width), write: () => {} },
      CONFIG_SPACE_SIZE,
    );
    this.#space = space;
    this.#layOutHeader(secondaryBus);
    this.slot = new HotPlugSlot(space, EXPRESS_AT, number, hasCard, {
      connect: (connected) => events.connect(connected),
      turnedOff: () => events.turnedOff(),
      interrupt: () => this.#interrupt(),
    });
    space.set(EXPRESS_AT, 2, CAP.PCIE | (MSI_AT << 8));
    this.#msi = new Msi(space, { offset: MSI_AT, control: MSI_64_BIT, maxVectors: 1 });
    space.set(MSI_AT, 2, CAP.MSI);
    let wasEnabled = false;
    space.onWrite(MSI_AT, () => {
      const isEnabled = this.#msi.enabled;
      if (isEnabled && !wasEnabled && this.slot.isPending) this.#interrupt();
      wasEnabled = isEnabled;
    });
  }

  /** Never throws, whatever a guest writes. */
  writeConfig(offset: number, width: number, value: number): void {
    this.#space.write(offset, width, value);
  }

  /** Firmware's part: which addresses go to the bus behind. */
  placeWindows(windows: BridgeWindows): void {
    setWindows(this.#space, windows);
  }

  /** Bus numbers as the guest has them now. Behind `secondary` lies nothing but the card. */
  get buses(): { readonly secondary: number; readonly subordinate: number } {
    return {
      secondary: this.#space.get(BRIDGE.SECONDARY_BUS, 1),
      subordinate: this.#space.get(BRIDGE.SUBORDINATE_BUS, 1),
    };
  }

  /** What the registers hand on now: nothing while decode is off. */
  get passedOn(): PassedOn {
    const command = this.#space.get(COMMAND, 2);
    const { io, memory, prefetch } = windowsOf(this.#space);
    return {
      memory: (command & COMMAND_MEMORY) === 0 ? [] : [memory, prefetch].filter((range) => range !== undefined),
      io: (command & COMMAND_IO) === 0 ? undefined : io,
    };
  }

  #layOutHeader(secondaryBus: number): void {
    const space = this.#space;
    const { image } = this.window;
    writeLe(image, 0, 2, VENDOR_ID);
    writeLe(image, 2, 2, DEVICE_ID);
    writeLe(image, STATUS, 2, STATUS_CAPABILITIES);
    writeLe(image, 8, 4, CLASS_PCI_BRIDGE);
    image[0x0e] = HEADER_TYPE_BRIDGE;
    image[BRIDGE.SECONDARY_BUS] = secondaryBus;
    image[BRIDGE.SUBORDINATE_BUS] = secondaryBus;
    image[0x34] = EXPRESS_AT;
    setWindows(space, CLOSED_WINDOWS);
    writeLe(space.guestWrite, COMMAND, 2, COMMAND_WRITABLE);
    // Cache line size, and the bus numbers; the fourth byte, a latency timer, is 0 on PCIe.
    space.guestWrite[0x0c] = 0xff;
    space.guestWrite.fill(0xff, BRIDGE.PRIMARY_BUS, BRIDGE.SUBORDINATE_BUS + 1);
    space.guestWrite[INTERRUPT_LINE] = 0xff;
    writeLe(space.guestWrite, BRIDGE.CONTROL, 2, CONTROL_WRITABLE);
    allowWindows(space);
    space.onWrite(BRIDGE.PRIMARY_BUS, ({ before, after }) => {
      if (before !== after) this.#events.busesChanged();
    });
    for (const register of [
      COMMAND,
      BRIDGE.IO_BASE,
      BRIDGE.MEMORY_BASE,
      BRIDGE.PREFETCH_BASE,
      BRIDGE.PREFETCH_BASE_HIGH,
      BRIDGE.PREFETCH_LIMIT_HIGH,
    ]) {
      space.onWrite(register, ({ before, after }) => {
        if (before !== after) this.#events.windowsChanged();
      });
    }
    space.onWrite(INTERRUPT_LINE, ({ before, after }) => {
      if ((after & ~before & (CONTROL_BUS_RESET << 16)) !== 0) this.#events.busReset();
    });
  }

  #interrupt(): void {
    for (const { message } of this.#msi.desiredVectors()) this.#events.signal(message);
  }
}
