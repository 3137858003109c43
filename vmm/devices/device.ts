/** What a device of the machine's board needs and offers. Devices live on the machine thread and know nothing of KVM. */
import type { TrapMap } from '../bus/trap.ts';

/** What the board gives to its devices. */
export interface DeviceBus {
  readonly ports: TrapMap;
  /** Sets the level of an interrupt line, by GSI. Called on changes only. */
  setIrq(gsi: number, level: boolean): void;
}

export interface Device {
  /**
   * Claims ports and publishes register values. May be called again with the bus of a new power cycle: the device
   * then forgets the old one.
   * @throws RangeError when a port is taken
   */
  attach(bus: DeviceBus): void;
  /** Back to the state after power-on. What waits on the host's side (typed input) is kept. */
  reset?(): void;
}
