/**
 * The PCI Express capability of a root port with its slot: native hot-plug as PCIe 6.0 §6.7 and §7.5.3 have it, with
 * attention button, power controller, power indicator, presence and link state. Knows registers and whether there is a
 * card; what a card is and how an interrupt is delivered is its owner's.
 */
import type { ConfigSpace, RegisterWrite } from './config-space.ts';

/** Offsets within the capability. */
export const EXP = {
  FLAGS: 0x02,
  DEVICE_CAPABILITIES: 0x04,
  DEVICE_CONTROL: 0x08,
  LINK_CAPABILITIES: 0x0c,
  LINK_CONTROL: 0x10,
  LINK_STATUS: 0x12,
  SLOT_CAPABILITIES: 0x14,
  SLOT_CONTROL: 0x18,
  SLOT_STATUS: 0x1a,
  ROOT_CONTROL: 0x1c,
  LINK_CAPABILITIES_2: 0x2c,
  LINK_CONTROL_2: 0x30,
} as const;
export const EXP_CAPABILITY_BYTES = 0x3c;

/** Version 2, root port (type 4), slot implemented. */
const FLAGS = 0x0142;
/** Payloads up to 256 bytes, role-based error reporting. */
const DEVICE_CAPABILITIES = 0x8001;
const READ_REQUEST_512 = 0x2000;
/** Error reports, relaxed ordering, payload, tags, snoop, read size. */
const DEVICE_CONTROL_WRITABLE = 0x79ff;
/** 16 GT/s, 16 lanes, reports whether the link is up, ASPM optional. */
const LINK_CAPABILITIES = 0x0050_0104;
const LINK_SPEEDS_UP_TO_16 = 0x1e;
const LINK_CONTROL_WRITABLE = 0x00db;
export const LINK_DISABLE = 0x0010;
/** What a link is before something is known of the card: 2.5 GT/s, 1 lane. */
const SLOWEST_LINK = 0x0011;
const SPEED_AND_WIDTH = 0x03ff;
const COMMON_CLOCK = 0x1000;
export const LINK_ACTIVE = 0x2000;

/** Slot capabilities: attention button, power controller, both indicators, hot-plug capable. */
const SLOT_CAPABILITIES = 0x0000_005b;
const SLOT_NUMBER_SHIFT = 19;

/** Slot control (§7.5.3.10). Event enables have the places of the events in slot status, but for the link's. */
export const SLOT_CONTROL = {
  EVENTS: 0x001f,
  INTERRUPT: 0x0020,
  ATTENTION_OFF: 0x00c0,
  POWER_INDICATOR: 0x0300,
  POWER_INDICATOR_ON: 0x0100,
  POWER_INDICATOR_OFF: 0x0300,
  POWER_OFF: 0x0400,
  LINK_STATE: 0x1000,
} as const;
const SLOT_CONTROL_WRITABLE = 0x17ff;

/** Slot status (§7.5.3.11). */
export const SLOT_STATUS = {
  BUTTON: 0x0001,
  POWER_FAULT: 0x0002,
  PRESENCE_CHANGED: 0x0008,
  COMMAND_COMPLETED: 0x0010,
  PRESENT: 0x0040,
  LINK_CHANGED: 0x0100,
} as const;
const SLOT_EVENTS = 0x011f;

export interface SlotOwner {
  /**
   * The card gains or loses power and link. Called before the guest is told, so that what it is told holds.
   * @returns false when the card cannot be brought up: a power fault for the guest
   */
  connect(connected: boolean): boolean;
  /**
   * The guest turned off power and power indicator: it is done with the card, which is disconnected already. Linux does
   * the second a second later, and is blind to new cards in between.
   */
  turnedOff(): void;
  /** An enabled event became pending. */
  interrupt(): void;
}

/** `leaving`: still connected, but the guest is told that it is gone. */
type Card = 'none' | 'present' | 'leaving';

export class HotPlugSlot {
  readonly #space: ConfigSpace;
  readonly #at: number;
  readonly #owner: SlotOwner;
  #card: Card;
  /** The card should be connected; differs from {@link connected} after a power fault. */
  #wanted = false;
  #connected = false;
  #asserted = false;

  /** Lays the capability out at `offset`, everything but its header. A slot with a card is powered, an empty one is not. */
  constructor(space: ConfigSpace, offset: number, number: number, hasCard: boolean, owner: SlotOwner) {
    this.#space = space;
    this.#at = offset;
    this.#owner = owner;
    this.#card = hasCard ? 'present' : 'none';
    this.#set(EXP.FLAGS, FLAGS);
    this.#set32(EXP.DEVICE_CAPABILITIES, DEVICE_CAPABILITIES);
    this.#set(EXP.DEVICE_CONTROL, READ_REQUEST_512);
    this.#set32(EXP.LINK_CAPABILITIES, (LINK_CAPABILITIES | (number << 24)) >>> 0);
    this.#set(EXP.LINK_STATUS, SLOWEST_LINK | COMMON_CLOCK);
    this.#set32(EXP.SLOT_CAPABILITIES, (SLOT_CAPABILITIES | (number << SLOT_NUMBER_SHIFT)) >>> 0);
    const power = hasCard ? SLOT_CONTROL.POWER_INDICATOR_ON : SLOT_CONTROL.POWER_INDICATOR_OFF | SLOT_CONTROL.POWER_OFF;
    this.#set(EXP.SLOT_CONTROL, SLOT_CONTROL.ATTENTION_OFF | power);
    this.#set(EXP.SLOT_STATUS, hasCard ? SLOT_STATUS.PRESENT : 0);
    this.#set32(EXP.LINK_CAPABILITIES_2, LINK_SPEEDS_UP_TO_16);
    this.#set(EXP.LINK_CONTROL_2, LINK_CAPABILITIES & 0xf);
    this.#allow(EXP.DEVICE_CONTROL, DEVICE_CONTROL_WRITABLE);
    this.#allow(EXP.LINK_CONTROL, LINK_CONTROL_WRITABLE);
    this.#allow(EXP.SLOT_CONTROL, SLOT_CONTROL_WRITABLE);
    this.#allow(EXP.ROOT_CONTROL, 0x001f);
    this.#allow(EXP.LINK_CONTROL_2, 0x000f);
    space.clearOnOne[offset + EXP.SLOT_STATUS] = SLOT_EVENTS & 0xff;
    space.clearOnOne[offset + EXP.SLOT_STATUS + 1] = SLOT_EVENTS >> 8;
    space.onWrite(offset + EXP.SLOT_CONTROL, (write) => this.#written(write));
    space.onWrite(offset + EXP.LINK_CONTROL, () => this.#update());
  }

  /** Connects the card that was there at power-on. */
  powerOn(): void {
    this.#update();
    // It was there before anybody looked.
    this.#set(EXP.SLOT_STATUS, this.#get(EXP.SLOT_STATUS) & ~SLOT_EVENTS);
    this.#asserted = false;
  }

  get hasCard(): boolean {
    return this.#card !== 'none';
  }

  get connected(): boolean {
    return this.#connected;
  }

  /** Power and power indicator are off: the guest does not use the slot. */
  get isOff(): boolean {
    return isOff(this.#get(EXP.SLOT_CONTROL));
  }

  /** Some event waits that the guest wants an interrupt for: to be looked at again when it turns MSI on. */
  get isPending(): boolean {
    return this.#asserted;
  }

  /**
   * A card comes. Linux listens to the link where there is a button, too (pcie_enable_notification), and looks at once at
   * what is in the slot. The button is for a guest that does not: Linux, should it find the card by itself first, would take
   * the press for the wish that the card be taken down again.
   */
  insert(): void {
    this.#card = 'present';
    const hearsLink = (this.#get(EXP.SLOT_CONTROL) & SLOT_CONTROL.LINK_STATE) !== 0;
    this.#update(hearsLink ? SLOT_STATUS.LINK_CHANGED : SLOT_STATUS.BUTTON);
  }

  pressButton(): void {
    this.#raise(SLOT_STATUS.BUTTON);
  }

  /**
   * Presses the button again where a guest has taken note of the first time and done nothing: Linux ignores it while it
   * brings the card up. One that blinks has begun, and would take a second press for a change of mind.
   */
  repeatButton(): void {
    const indicator = this.#get(EXP.SLOT_CONTROL) & SLOT_CONTROL.POWER_INDICATOR;
    const isHeard = (this.#get(EXP.SLOT_STATUS) & SLOT_STATUS.BUTTON) === 0;
    if (this.#connected && isHeard && indicator === SLOT_CONTROL.POWER_INDICATOR_ON) this.pressButton();
  }

  /** Tells the guest that the card is gone, and leaves it connected until the guest turns the power off. */
  announceRemoval(): void {
    if (this.#card === 'present') this.#card = 'leaving';
    this.#update();
  }

  /** The card is gone. */
  remove(): void {
    this.#card = 'none';
    this.#update();
  }

  /** Speed and lanes of the card's link, in the form of the link status register. */
  setLink(status: number): void {
    const link = status & SPEED_AND_WIDTH;
    const isWhole = (link & 0xf) !== 0 && link >>> 4 !== 0;
    this.#set(EXP.LINK_STATUS, (this.#get(EXP.LINK_STATUS) & ~SPEED_AND_WIDTH) | (isWhole ? link : SLOWEST_LINK));
  }

  /** Brings card, presence and link in line with what was written and what is in the slot. */
  #update(events = 0): void {
    const isPowered = (this.#get(EXP.SLOT_CONTROL) & SLOT_CONTROL.POWER_OFF) === 0;
    const wanted = this.hasCard && isPowered && (this.#get(EXP.LINK_CONTROL) & LINK_DISABLE) === 0;
    let raised = events;
    if (wanted !== this.#wanted) {
      this.#wanted = wanted;
      this.#connected = this.#owner.connect(wanted) && wanted;
      // Tried again when the guest turns the power off and on.
      if (this.#connected !== wanted) raised |= SLOT_STATUS.POWER_FAULT;
    }
    const isUp = this.#connected && this.#card === 'present';
    const link = this.#get(EXP.LINK_STATUS);
    if (isUp !== ((link & LINK_ACTIVE) !== 0)) {
      this.#set(EXP.LINK_STATUS, isUp ? link | LINK_ACTIVE : link & ~LINK_ACTIVE);
      raised |= SLOT_STATUS.LINK_CHANGED;
    }
    const status = this.#get(EXP.SLOT_STATUS);
    const isPresent = this.#card === 'present';
    if (isPresent !== ((status & SLOT_STATUS.PRESENT) !== 0)) {
      this.#set(EXP.SLOT_STATUS, isPresent ? status | SLOT_STATUS.PRESENT : status & ~SLOT_STATUS.PRESENT);
      raised |= SLOT_STATUS.PRESENCE_CHANGED;
    }
    this.#raise(raised);
  }

  /** Every write to slot control is a command, and is completed at once (§6.7.3.2). */
  #written({ before, after, lanes }: RegisterWrite): void {
    if ((lanes & 0xffff) === 0) {
      this.#raise(0);
      return;
    }
    this.#update();
    if (isOff(after) && !isOff(before)) this.#owner.turnedOff();
    this.#raise(SLOT_STATUS.COMMAND_COMPLETED);
  }

  /** Sets events, and interrupts when the first enabled one appears (§6.7.3.4). */
  #raise(events: number): void {
    if (events !== 0) this.#set(EXP.SLOT_STATUS, this.#get(EXP.SLOT_STATUS) | events);
    const control = this.#get(EXP.SLOT_CONTROL);
    const enabled =
      (control & SLOT_CONTROL.EVENTS) | ((control & SLOT_CONTROL.LINK_STATE) === 0 ? 0 : SLOT_STATUS.LINK_CHANGED);
    const asserted =
      (control & SLOT_CONTROL.INTERRUPT) !== 0 && (this.#get(EXP.SLOT_STATUS) & enabled & SLOT_EVENTS) !== 0;
    const isNew = asserted && !this.#asserted;
    this.#asserted = asserted;
    if (isNew) this.#owner.interrupt();
  }

  #get(register: number): number {
    return this.#space.get(this.#at + register, 2);
  }

  #set(register: number, value: number): void {
    this.#space.set(this.#at + register, 2, value);
  }

  #set32(register: number, value: number): void {
    this.#space.set(this.#at + register, 4, value);
  }

  #allow(register: number, bits: number): void {
    this.#space.guestWrite[this.#at + register] = bits & 0xff;
    this.#space.guestWrite[this.#at + register + 1] = bits >>> 8;
  }
}

function isOff(control: number): boolean {
  const indicator = control & SLOT_CONTROL.POWER_INDICATOR;
  return (control & SLOT_CONTROL.POWER_OFF) !== 0 && indicator === SLOT_CONTROL.POWER_INDICATOR_OFF;
}
