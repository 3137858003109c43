/**
 * The guest's PCI hierarchy for one power cycle: host bridge, functions on the root bus, root ports with what is plugged in
 * behind them. Who answers where, and what reaches whom, follows from the registers of the ports alone.
 */
import type { Gsi } from '../../native/types.ts';
import { CausewayError } from '../base/errors.ts';
import { intersection, type Range } from '../base/ranges.ts';
import type { BusMemory } from '../bus/bus-memory.ts';
import type { MsiMessage } from '../irq/irq-router.ts';
import type { MemoryLayout } from '../memory/layout.ts';
import { PORT_WINDOW, placeSlots } from './bar-placement.ts';
import { walkCapabilities } from './capabilities.ts';
import type { ConfigStore } from './config-window.ts';
import type { PciFunction, PciServices } from './function.ts';
import { HostBridge } from './host-bridge.ts';
import { EXP } from './hot-plug-slot.ts';
import { type IntxWire, wireIntx } from './intx-wiring.ts';
import { type ConfigTarget, keyOf, PciBus } from './pci-bus.ts';
import { RootPort } from './root-port.ts';
import { type PlacedFunction, ROOT_BUS_SLOTS, type SlotPlan } from './topology.ts';

const NO_RANGE: Range = { start: 0, size: 0 };
const CAP_EXPRESS = 0x10;

/** What every function gets of the machine, whatever its place. */
export type CommonServices = Omit<
  PciServices,
  'address' | 'intxGsi' | 'intxPin' | 'isMultiFunction' | 'memoryWindows' | 'portWindow' | 'isReset' | 'warn'
>;

export interface RootComplexOptions {
  readonly bus: BusMemory;
  readonly layout: MemoryLayout;
  readonly store: ConfigStore;
  readonly services: CommonServices;
  readonly slots: readonly SlotPlan[];
  /** The guest turned a slot's power off: it is done with what is plugged in there. */
  onTurnedOff(port: string): void;
  warn(message: string): void;
}

/** A device number of the root bus. */
interface Slot {
  readonly device: number;
  readonly name: string | undefined;
  readonly port: RootPort | undefined;
  /** The card: on the root bus for good or until revoked, behind a port until unplugged. */
  functions: readonly PlacedFunction[];
}

export class RootComplex {
  /** How INTx pins of the root bus are wired, for ACPI. */
  readonly intx: readonly IntxWire[];
  readonly #options: RootComplexOptions;
  readonly #bus: PciBus;
  readonly #bridge: HostBridge;
  readonly #slots: Slot[] = [];
  readonly #powered = new Set<PciFunction>();
  readonly #warned = new Set<string>();
  #isBooting = true;

  /** @throws CausewayError TOO_MANY_DEVICES, BAR_NO_SPACE */
  constructor(options: RootComplexOptions) {
    const { bus, layout, services, slots, store } = options;
    if (slots.length > ROOT_BUS_SLOTS) {
      throw new CausewayError(
        'TOO_MANY_DEVICES',
        `the guest's root bus has room for ${ROOT_BUS_SLOTS} devices and ports`,
      );
    }
    this.#options = options;
    this.intx = wireIntx(slots);
    this.#bus = new PciBus(bus);
    this.#bus.attach(services.memoryTraps, services.portTraps, layout.ecam);
    this.#bridge = new HostBridge(store.allocate());
  }

  /** Powers everything on, places windows and BARs. @throws what a function throws; {@link powerOff} then undoes it */
  powerOn(): void {
    const { slots, layout } = this.#options;
    let ports = 0;
    for (const [index, { port: name, functions }] of slots.entries()) {
      const device = index + 1;
      const port = name === undefined ? undefined : this.#makePort(name, ++ports, functions.length > 0);
      const slot: Slot = { device, name, port, functions };
      this.#slots.push(slot);
      if (port) port.slot.powerOn();
      else for (const placed of functions) this.#powerOnFunction(slot, placed);
    }
    const plan = placeSlots(this.#plan(), { ...layout, ports: PORT_WINDOW });
    for (const [index, windows] of plan.windows.entries()) if (windows) this.#slots[index]!.port!.placeWindows(windows);
    for (const { function: fn, bar, address } of plan.bars) fn.placeBar(bar.index, address);
    this.#isBooting = false;
    this.#route();
  }

  /** After the last vCPU stopped. @throws AggregateError with everything that failed, after all of it was tried */
  powerOff(): void {
    const errors: unknown[] = [];
    this.#bus.apply(new Map());
    for (const fn of [...this.#powered].reverse()) {
      try {
        this.#powerOffFunction(fn);
      } catch (error) {
        errors.push(error);
      }
    }
    for (const { port } of this.#slots) if (port) port.window.inUse = false;
    this.#bridge.window.inUse = false;
    if (errors.length > 0) throw new AggregateError(errors, `devices did not power off: ${errors.join('; ')}`);
  }

  /** Functions that a guest can reach. */
  get functions(): readonly PciFunction[] {
    return [...this.#powered];
  }

  /** Puts a card behind a port and tells the guest. Once the guest gives the slot power, it has the card. */
  plug(name: string, functions: readonly PlacedFunction[]): void {
    const slot = this.#portSlot(name);
    if (slot.functions.length > 0) throw new CausewayError('PORT_UNAVAILABLE', `port ${name} holds a device already`);
    slot.functions = functions;
    slot.port!.slot.insert();
  }

  /** Presses the slot's attention button: Linux waits five seconds for a second press, then lets go in order. */
  pressButton(name: string): void {
    this.#portSlot(name).port!.slot.pressButton();
  }

  /** Presses it again, if the guest was too busy to care. */
  repeatButton(name: string): void {
    this.#portSlot(name).port!.slot.repeatButton();
  }

  /** Tells the guest that the card is gone, while it still can reach it: it lets go at once. */
  announceRemoval(name: string): void {
    this.#portSlot(name).port!.slot.announceRemoval();
  }

  /** Whether the guest could use the card, or has yet to say that it does no more. */
  isInUse(name: string): boolean {
    const { slot } = this.#portSlot(name).port!;
    return slot.connected || (slot.hasCard && !slot.isOff);
  }

  /** Whether the guest can reach the card. */
  isConnected(name: string): boolean {
    return this.#portSlot(name).port!.slot.connected;
  }

  /** Takes the card out, whatever the guest is doing with it: what it reaches from now on reads all ones. */
  unplug(name: string): void {
    const slot = this.#portSlot(name);
    slot.port!.slot.remove();
    slot.functions = [];
  }

  /** Takes functions off the root bus, where a guest cannot be told: they read all ones from now on. */
  revoke(functions: readonly PciFunction[]): void {
    for (const slot of this.#slots) {
      if (slot.port) continue;
      const gone = slot.functions.filter(({ fn }) => functions.includes(fn));
      slot.functions = slot.functions.filter((placed) => !gone.includes(placed));
      this.#route();
      for (const { fn } of gone) this.#powerOffFunction(fn);
    }
  }

  #portSlot(name: string): Slot {
    const slot = this.#slots.find((candidate) => candidate.name === name);
    if (!slot?.port) throw new CausewayError('PORT_UNAVAILABLE', `there is no port ${name}`);
    return slot;
  }

  #plan(): SlotPlan[] {
    return this.#slots.map(({ name, functions }) => ({ port: name, functions }));
  }

  #makePort(name: string, number: number, hasCard: boolean): RootPort {
    const window = this.#options.store.allocate();
    return new RootPort(
      { window, number, secondaryBus: number, hasCard },
      {
        connect: (connected) => this.#connect(name, connected),
        turnedOff: () => this.#options.onTurnedOff(name),
        busesChanged: () => this.#route(),
        windowsChanged: () => {
          for (const { fn } of this.#portSlot(name).functions) if (this.#powered.has(fn)) fn.windowsChanged?.();
        },
        busReset: () => this.#busReset(name),
        signal: (message) => this.#signal(message),
      },
    );
  }

  /** A card that fails under a running guest stays dark, and the guest sees a power fault. */
  #connect(name: string, connected: boolean): boolean {
    const slot = this.#portSlot(name);
    if (!connected) {
      this.#route(slot);
      for (const { fn } of slot.functions) this.#safely(() => this.#powerOffFunction(fn));
      return true;
    }
    try {
      for (const placed of slot.functions) this.#powerOnFunction(slot, placed);
    } catch (error) {
      if (this.#isBooting) throw error;
      this.#options.warn(`${name}: the device cannot be powered on: ${String(error)}`);
      for (const { fn } of slot.functions) this.#safely(() => this.#powerOffFunction(fn));
      return false;
    }
    const first = slot.functions.find(({ number }) => number === 0);
    if (first) slot.port!.slot.setLink(linkStatusOf(first.fn));
    if (!this.#isBooting) this.#route();
    return true;
  }

  /** Everything behind the port is as after power-on. */
  #busReset(name: string): void {
    const slot = this.#portSlot(name);
    for (const placed of slot.functions) {
      if (!this.#powered.has(placed.fn)) continue;
      this.#safely(() => {
        this.#powerOffFunction(placed.fn);
        this.#powerOnFunction(slot, placed);
      });
    }
    this.#route();
  }

  #powerOnFunction(slot: Slot, { fn, number }: PlacedFunction): void {
    // Behind a port that comes up while the guest runs, nobody but the guest places BARs.
    if (!this.#isBooting) for (const { index } of fn.bars) fn.placeBar(index, 0);
    this.#powered.add(fn);
    fn.powerOn(this.#servicesFor(slot, fn, number));
  }

  #powerOffFunction(fn: PciFunction): void {
    this.#powered.delete(fn);
    fn.powerOff();
  }

  #servicesFor(slot: Slot, fn: PciFunction, number: number): PciServices {
    const { services, layout, warn } = this.#options;
    const { port } = slot;
    const pin = number % 4;
    const host = [layout.mmio32, layout.mmio64];
    return {
      ...services,
      intxGsi: this.intx.find((wire) => wire.device === slot.device && wire.pin === pin)!.gsi as Gsi,
      intxPin: pin + 1,
      isMultiFunction: slot.functions.length > 1,
      isReset: !this.#isBooting,
      warn: (message) => warn(`${fn.label}: ${message}`),
      get address() {
        return port
          ? { bus: port.buses.secondary, device: 0, function: number }
          : { bus: 0, device: slot.device, function: number };
      },
      // A port hands on what its registers say at the moment; firmware's own placing comes before the guest opens them.
      get memoryWindows() {
        if (!port) return host;
        return port.passedOn.memory.flatMap((window) => host.flatMap((range) => intersection(window, range) ?? []));
      },
      get portWindow() {
        if (!port) return PORT_WINDOW;
        const { io } = port.passedOn;
        return (io && intersection(io, PORT_WINDOW)) ?? NO_RANGE;
      },
    };
  }

  /** Makes exactly those answer to config accesses whom the bus numbers of the ports lead to. */
  #route(leaving?: Slot): void {
    const targets = new Map<number, ConfigTarget>([[0, this.#bridge]]);
    const buses = new Set([0]);
    for (const { device, port, functions } of this.#slots) {
      if (port) targets.set(keyOf({ bus: 0, device, function: 0 }), port);
      else for (const { fn, number } of functions) targets.set(keyOf({ bus: 0, device, function: number }), fn);
    }
    for (const slot of this.#slots) {
      if (!slot.port || slot === leaving) continue;
      const { secondary, subordinate } = slot.port.buses;
      // Two ports with one number: on hardware both would answer. Here the first does.
      if (secondary > subordinate || buses.has(secondary)) continue;
      buses.add(secondary);
      for (const { fn, number } of slot.functions) {
        if (this.#powered.has(fn)) targets.set(keyOf({ bus: secondary, device: 0, function: number }), fn);
      }
    }
    this.#bus.apply(targets);
  }

  /** A message that goes nowhere is the guest's own doing. */
  #signal(message: MsiMessage): void {
    try {
      this.#options.services.irq.signal(message);
    } catch (error) {
      const text = `a root port's interrupt went nowhere: ${String(error)}`;
      if (!this.#warned.has(text)) this.#options.warn(text);
      this.#warned.add(text);
    }
  }

  #safely(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.#options.warn(String(error));
    }
  }
}

/** Link status in a function's PCI Express capability, as the guest reads it; 0 when it has none. */
function linkStatusOf({ window }: PciFunction): number {
  const express = walkCapabilities(window.image).capabilities.find(({ id }) => id === CAP_EXPRESS);
  if (!express || express.sizeBytes < EXP.LINK_STATUS + 2) return 0;
  const at = express.offset + EXP.LINK_STATUS;
  return window.image[at]! | (window.image[at + 1]! << 8);
}
