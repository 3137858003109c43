/**
 * VFIO_DEVICE_SET_IRQS in the words of what it does. A block that fails half way leaves its vectors disabled in the
 * kernel, so fds are looked at before the call, and a positive answer ("that many are to be had") is told apart.
 */
import type { Fd, Vfio } from '../../native/types.ts';

/** No eventfd: the vector stays allocated but silent. */
export const NO_FD = -1;

export class DeviceIrqs {
  readonly #vfio: Vfio;
  readonly #device: Fd;
  readonly #index: number;

  constructor(vfio: Vfio, device: Fd, index: number) {
    this.#vfio = vfio;
    this.#device = device;
    this.#index = index;
  }

  /**
   * Connects eventfds to the vectors from `start`. The first call enables the index.
   * @returns how many vectors can be had when that is fewer than asked for (and then nothing was enabled), else `fds.length`
   * @throws KernelError · RangeError for a bad fd
   */
  trigger(start: number, fds: readonly number[]): number {
    const bad = fds.find((fd) => !Number.isInteger(fd) || fd < NO_FD);
    if (bad !== undefined) throw new RangeError(`${bad} is not a file descriptor`);
    const result = this.#vfio.vfioSetIrqs(this.#device, {
      index: this.#index,
      start,
      count: fds.length,
      action: 'trigger',
      data: Int32Array.from(fds),
    });
    return result > 0 ? Math.min(result, fds.length) : fds.length;
  }

  /** Lets KVM's resample eventfd unmask the line in the kernel (INTx only). */
  unmaskBy(fd: number): void {
    this.#vfio.vfioSetIrqs(this.#device, {
      index: this.#index,
      start: 0,
      count: 1,
      action: 'unmask',
      data: Int32Array.of(fd),
    });
  }

  /** Turns the index off and frees its host interrupts. */
  disable(): void {
    this.#vfio.vfioSetIrqs(this.#device, { index: this.#index, start: 0, count: 0, action: 'trigger', data: null });
  }
}
