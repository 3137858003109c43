/** COMMAND and power state of the hardware, written only when they change. Knows nothing of mappings: callers keep the order. */
import { COMMAND, COMMAND_FORWARDED, HEADER, PM_STATE_MASK } from './config-space/permission-table.ts';
import type { VfioDevice } from './vfio/device.ts';

export class HardwareControl {
  readonly #device: VfioDevice;
  readonly #powerControlOffset: number | undefined;
  #hostCommand: number;
  #hostPowerState = 0;

  /** @param powerControlOffset config offset of PMCSR; undefined when the function has no power management */
  constructor(device: VfioDevice, powerControlOffset: number | undefined) {
    this.#device = device;
    this.#powerControlOffset = powerControlOffset;
    this.#hostCommand = device.read(HEADER.COMMAND, 2);
  }

  /**
   * What the guest wants: its bits of COMMAND, the host's others kept. In D3hot COMMAND waits: a device without
   * No_Soft_Reset comes back with what it had on the way there (vfio_pci_set_power_state restores it).
   */
  apply(guestCommand: number, powerState: number): void {
    if (powerState !== 0) {
      this.#power(powerState);
      return;
    }
    this.wake();
    this.#write((this.#hostCommand & ~COMMAND_FORWARDED) | (guestCommand & COMMAND_FORWARDED));
  }

  wake(): void {
    if (this.#hostPowerState === 0) return;
    this.#power(0);
    this.#hostCommand = this.#device.read(HEADER.COMMAND, 2);
  }

  /** Clears bus master. */
  stopDma(): void {
    this.#write(this.#hostCommand & ~COMMAND.BUS_MASTER);
  }

  /** No decode, no DMA, INTx allowed: COMMAND as after power-on. */
  quiet(): void {
    this.wake();
    this.#write(this.#hostCommand & ~COMMAND_FORWARDED);
  }

  /** The kernel restores COMMAND after a reset, so it is read and cleared again. */
  wasReset(): void {
    this.#hostPowerState = 0;
    this.#hostCommand = this.#device.read(HEADER.COMMAND, 2);
    this.quiet();
  }

  #write(hostCommand: number): void {
    if (hostCommand === this.#hostCommand) return;
    this.#device.write(HEADER.COMMAND, 2, hostCommand);
    this.#hostCommand = hostCommand;
  }

  #power(state: number): void {
    if (this.#powerControlOffset === undefined || state === this.#hostPowerState) return;
    // PME status (bit 15) is cleared by writing 1; the rest stays as it is.
    const kept = this.#device.read(this.#powerControlOffset, 2) & ~PM_STATE_MASK & 0x7fff;
    this.#device.write(this.#powerControlOffset, 2, kept | state);
    this.#hostPowerState = state;
  }
}
