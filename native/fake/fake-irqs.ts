/** VFIO_DEVICE_SET_IRQS and the interrupts of a fake device: the rules of drivers/vfio/pci/vfio_pci_intrs.c. */

import { kernelError } from '../kernel-error.ts';
import type { VfioIrqSet } from '../types.ts';
import { VFIO_IRQ_FLAGS, VFIO_PCI_IRQ } from '../vfio-abi.ts';
import { FakeEventfd, type OpenFile } from './open-file.ts';

const CALL = 'VFIO_DEVICE_SET_IRQS';
const { INTX, MSI, MSIX, ERR, REQ } = VFIO_PCI_IRQ;
const { EVENTFD, MASKABLE, AUTOMASKED, NORESIZE } = VFIO_IRQ_FLAGS;

/** What the interrupts need of their device. */
export interface IrqEnvironment {
  /** How many interrupts each index has: INTx, MSI, MSI-X, ERR, REQ. */
  readonly counts: readonly number[];
  readonly dynamicMsix: boolean;
  readonly availableVectors: number;
  findFile(fd: number): OpenFile | undefined;
  intxDisabled(): boolean;
  /** In D0. */
  isAwake(): boolean;
}

export class FakeIrqs {
  /** The one index of INTx, MSI and MSI-X that is on. */
  active: typeof INTX | typeof MSI | typeof MSIX | undefined;
  /** Triggers of the active index; undefined where the fd is -1. */
  readonly triggers: Map<number, FakeEventfd> = new Map();
  readonly errorTriggers: Map<number, FakeEventfd> = new Map();
  intxMasked = false;
  private allocated = 0;
  private intxAsserted = false;
  private unmaskEventfd: FakeEventfd | undefined;
  private readonly environment: IrqEnvironment;

  constructor(environment: IrqEnvironment) {
    this.environment = environment;
  }

  info(index: number): { flags: number; count: number } {
    const count = this.environment.counts[index];
    if (count === undefined) throw kernelError('VFIO_DEVICE_GET_IRQ_INFO', 'EINVAL');
    if (index === INTX) return { flags: EVENTFD | MASKABLE | AUTOMASKED, count };
    return { flags: index === MSIX && this.environment.dynamicMsix ? EVENTFD : EVENTFD | NORESIZE, count };
  }

  set(request: VfioIrqSet): number {
    const { index, start, count, action, data } = request;
    const available = this.environment.counts[index];
    if (available === undefined || start >= available || start + count > available) throw kernelError(CALL, 'EINVAL');
    if (data !== null && data.length < count) throw kernelError(CALL, 'EINVAL');
    if (index === INTX) return this.setIntx(request);
    if (action !== 'trigger') throw kernelError(CALL, 'ENOTTY');
    return index === MSI || index === MSIX ? this.setMessages(index, request) : this.setError(request);
  }

  /** Everything off, as when the device is closed. */
  disableAll(): void {
    this.disable();
    this.errorTriggers.clear();
  }

  private disable(): void {
    this.active = undefined;
    this.triggers.clear();
    this.allocated = 0;
    this.intxMasked = false;
    this.setUnmaskEventfd(-1);
  }

  private eventfd(fd: number): FakeEventfd {
    const file = this.environment.findFile(fd);
    if (file === undefined) throw kernelError(CALL, 'EBADF');
    if (!(file instanceof FakeEventfd)) throw kernelError(CALL, 'EINVAL');
    return file;
  }

  // ---- INTx ---------------------------------------------------------------------------------------------------

  private setIntx({ start, count, action, data }: VfioIrqSet): number {
    const isOn = this.active === INTX;
    if (action === 'trigger' && isOn && count === 0 && data === null) {
      this.disable();
      return 0;
    }
    const busy = this.active !== undefined && !isOn;
    if (busy || start !== 0 || count !== 1) throw kernelError(CALL, 'EINVAL');
    if (action === 'trigger' && data instanceof Int32Array) {
      const trigger = data[0]! < 0 ? undefined : this.eventfd(data[0]!);
      this.active = INTX;
      this.triggers.delete(0);
      if (trigger !== undefined) this.triggers.set(0, trigger);
      this.deliverIntx();
      return 0;
    }
    if (!isOn) throw kernelError(CALL, 'EINVAL');
    if (data instanceof Int32Array) {
      if (action === 'mask') throw kernelError(CALL, 'ENOTTY');
      this.setUnmaskEventfd(data[0]!);
    } else if (data === null || data[0] !== 0) {
      if (action === 'trigger') this.triggers.get(0)?.signal();
      else if (action === 'mask') this.intxMasked = true;
      else this.unmaskIntx();
    }
    return 0;
  }

  private setUnmaskEventfd(fd: number): void {
    if (fd < 0) {
      if (this.unmaskEventfd !== undefined) this.unmaskEventfd.unmask = undefined;
      this.unmaskEventfd = undefined;
      return;
    }
    if (this.unmaskEventfd !== undefined) throw kernelError(CALL, 'EBUSY');
    this.unmaskEventfd = this.eventfd(fd);
    this.unmaskEventfd.unmask = () => this.unmaskIntx();
    this.unmaskEventfd.settle();
  }

  private unmaskIntx(): void {
    this.intxMasked = false;
    this.deliverIntx();
  }

  /** A line that is asserted signals once and masks itself. */
  deliverIntx(): void {
    if (this.active !== INTX || !this.intxAsserted || this.intxMasked || this.environment.intxDisabled()) return;
    this.intxMasked = true;
    this.triggers.get(0)?.signal();
  }

  setIntxLine(asserted: boolean): void {
    this.intxAsserted = asserted;
    this.deliverIntx();
  }

  // ---- MSI and MSI-X ------------------------------------------------------------------------------------------

  private setMessages(index: typeof MSI | typeof MSIX, { start, count, data }: VfioIrqSet): number {
    const isOn = this.active === index;
    if (isOn && count === 0 && data === null) {
      this.disable();
      return 0;
    }
    if (this.active !== undefined && !isOn) throw kernelError(CALL, 'EINVAL');
    if (data instanceof Int32Array) {
      if (isOn) {
        this.setBlock(index, start, data.subarray(0, count));
        return 0;
      }
      // drivers/pci/msi/msi.c: neither MSI nor MSI-X is turned on outside D0.
      if (!this.environment.isAwake()) throw kernelError(CALL, 'EINVAL');
      if (start + count > this.environment.availableVectors) return this.environment.availableVectors;
      this.active = index;
      this.allocated = start + count;
      try {
        this.setBlock(index, start, data.subarray(0, count));
      } catch (error) {
        this.disable();
        throw error;
      }
      return 0;
    }
    if (!isOn) throw kernelError(CALL, 'EINVAL');
    for (let i = 0; i < count; i++) if (data === null || data[i] !== 0) this.triggers.get(start + i)?.signal();
    return 0;
  }

  /** A failing block leaves none of its vectors enabled, those that were enabled before it included. */
  private setBlock(index: typeof MSI | typeof MSIX, start: number, fds: Int32Array): void {
    try {
      for (const [i, fd] of fds.entries()) {
        const vector = start + i;
        this.triggers.delete(vector);
        if (fd < 0) continue;
        const canAllocate = index === MSIX && this.environment.dynamicMsix;
        if (vector >= this.allocated && !canAllocate) throw kernelError(CALL, 'EINVAL');
        this.triggers.set(vector, this.eventfd(fd));
      }
    } catch (error) {
      fds.forEach((_, i) => void this.triggers.delete(start + i));
      throw error;
    }
  }

  /** The device raises a message. Returns whether an eventfd was there to take it. */
  fire(index: typeof MSI | typeof MSIX, vector: number): boolean {
    const trigger = this.active === index ? this.triggers.get(vector) : undefined;
    trigger?.signal();
    return trigger !== undefined;
  }

  // ---- ERR and REQ --------------------------------------------------------------------------------------------

  private setError({ index, count, data }: VfioIrqSet): number {
    const trigger = this.errorTriggers.get(index);
    if (count > 1) throw kernelError(CALL, 'EINVAL');
    if (data instanceof Int32Array && count === 1) {
      this.errorTriggers.delete(index);
      if (data[0]! >= 0) this.errorTriggers.set(index, this.eventfd(data[0]!));
      return 0;
    }
    if (trigger === undefined) throw kernelError(CALL, 'EINVAL');
    if (data === null && count === 0) this.errorTriggers.delete(index);
    else if (data === null || data[0] !== 0) trigger.signal();
    return 0;
  }

  /** The kernel reports an error, or wants the device back. Returns whether anybody listens. */
  fireError(index: typeof ERR | typeof REQ): boolean {
    const trigger = this.errorTriggers.get(index);
    trigger?.signal();
    return trigger !== undefined;
  }
}
