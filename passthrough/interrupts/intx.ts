/**
 * The INTx line of one function, with no step in user space: VFIO masks the line and signals the trigger eventfd, KVM
 * raises the IOAPIC pin; when the guest ends the interrupt KVM lowers the pin and signals the resample eventfd, and VFIO
 * unmasks the line. COMMAND.INTxDisable needs nothing here: it is forwarded, and VFIO keeps quiet while it is set.
 */
import type { Fd, Gsi, Native } from '../../native/types.ts';
import type { IrqRouter } from '../../vmm/irq/irq-router.ts';
import { type DeviceIrqs, NO_FD } from '../vfio/irqs.ts';

export class IntxLine {
  readonly #native: Native;
  readonly #router: IrqRouter;
  readonly #irqs: DeviceIrqs;
  readonly #gsi: Gsi;
  #fds: { readonly trigger: Fd; readonly resample: Fd } | undefined;

  constructor(native: Native, router: IrqRouter, irqs: DeviceIrqs, gsi: Gsi) {
    this.#native = native;
    this.#router = router;
    this.#irqs = irqs;
    this.#gsi = gsi;
  }

  get enabled(): boolean {
    return this.#fds !== undefined;
  }

  /**
   * KVM listens before VFIO speaks, so no trigger is lost; an end of interrupt that comes before VFIO listens waits in
   * the resample eventfd. @throws KernelError, with everything undone
   */
  enable(): void {
    if (this.#fds) return;
    const trigger = this.#native.eventfd();
    const resample = this.#native.eventfd();
    this.#fds = { trigger, resample };
    try {
      this.#router.attach({ fd: trigger, gsi: this.#gsi, resampleFd: resample });
      this.#irqs.trigger(0, [trigger]);
      this.#irqs.unmaskBy(resample);
    } catch (error) {
      this.disable();
      throw error;
    }
  }

  /** Turns the line off and lowers the pin. Never throws: what is half set up comes down as far as it goes. */
  disable(): void {
    const fds = this.#fds;
    if (!fds) return;
    this.#fds = undefined;
    for (const step of [
      () => this.#irqs.unmaskBy(NO_FD),
      () => this.#irqs.disable(),
      () => this.#router.detach(fds.trigger),
      () => this.#router.setLine(this.#gsi, false),
    ]) {
      try {
        step();
      } catch {
        // Refused where the step before it never happened; closing the eventfds ends the rest.
      }
    }
    this.#native.close(fds.trigger);
    this.#native.close(fds.resample);
  }
}
