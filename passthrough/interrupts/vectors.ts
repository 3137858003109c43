/**
 * MSI and MSI-X vectors of one function: VFIO signals an eventfd for each, KVM injects from it. A masked vector keeps its
 * eventfd and loses only its irqfd, so the eventfd's count is the pending bit, and attaching again delivers it.
 */
import type { Fd, Gsi, Native } from '../../native/types.ts';
import { VFIO_IRQ_FLAGS } from '../../native/vfio-abi.ts';
import type { IrqRouter } from '../../vmm/irq/irq-router.ts';
import type { ArmedVector } from '../../vmm/pci/msi.ts';
import type { IrqInfo } from '../vfio/device.ts';
import { type DeviceIrqs, NO_FD } from '../vfio/irqs.ts';

interface Vector {
  readonly fd: Fd;
  readonly gsi: Gsi;
  attached: boolean;
}

export class VectorSet {
  readonly #native: Native;
  readonly #router: IrqRouter;
  readonly #irqs: DeviceIrqs;
  readonly #warn: (message: string) => void;
  readonly #vectors = new Map<number, Vector>();
  /** Vectors that VFIO does not give; tried once each time the mode is turned on. */
  readonly #refused = new Set<number>();
  /** Vectors are added one at a time (MSI-X), or all of them at the start (MSI). */
  #lazy = true;

  constructor(native: Native, router: IrqRouter, irqs: DeviceIrqs, warn: (message: string) => void) {
    this.#native = native;
    this.#router = router;
    this.#irqs = irqs;
    this.#warn = warn;
  }

  /**
   * Turns MSI-X on with no vector connected: guests enable it with everything masked. Where the kernel cannot add
   * vectors later, all are allocated now, still silent.
   * @throws KernelError
   */
  enableMsix({ flags, count }: IrqInfo, vectorCount: number): void {
    this.#lazy = true;
    const fixed = (flags & VFIO_IRQ_FLAGS.NORESIZE) !== 0;
    const wanted = fixed ? Math.min(count, vectorCount) : 1;
    const granted = this.#triggerUpTo(Array.from({ length: wanted }, () => NO_FD));
    if (fixed) for (let vector = granted; vector < vectorCount; vector++) this.#refused.add(vector);
    if (granted < wanted) this.#warn(`the host gives only ${granted} of ${wanted} MSI-X vectors`);
  }

  /** Turns MSI on with all vectors that the guest enabled: MSI can neither grow nor shrink. @throws KernelError */
  enableMsi(count: number): void {
    this.#lazy = false;
    for (let vector = 0; vector < count; vector++) this.#create(vector);
    const granted = this.#triggerUpTo([...this.#vectors.values()].map((vector) => vector.fd));
    if (granted < count) this.#warn(`the host gives only ${granted} of ${count} MSI vectors`);
    for (let vector = granted; vector < count; vector++) this.#destroy(vector);
  }

  /** Makes KVM deliver exactly these vectors. Never throws: a vector that cannot be had is warned about. */
  apply(armed: readonly ArmedVector[]): void {
    const wanted = new Set(armed.map(({ vector }) => vector));
    for (const [number, vector] of this.#vectors) {
      if (!vector.attached || wanted.has(number)) continue;
      this.#router.detach(vector.fd);
      vector.attached = false;
    }
    const ready = armed.map(({ vector, message }) => ({ number: vector, vector: this.#connect(vector), message }));
    // All routes first, so that KVM's table is replaced once however many vectors changed.
    for (const { vector, message } of ready) if (vector) this.#router.setMessage(vector.gsi, message);
    this.#attempt('the routing table', () => this.#router.commit());
    for (const { number, vector } of ready) {
      if (!vector || vector.attached) continue;
      this.#attempt(`vector ${number}`, () => {
        this.#router.attach({ fd: vector.fd, gsi: vector.gsi });
        vector.attached = true;
      });
    }
  }

  /** Whether an interrupt of a masked vector waits; undefined for one that was never connected. */
  isPending(vector: number): boolean | undefined {
    const known = this.#vectors.get(vector);
    return known && !known.attached && this.#native.isReadable(known.fd);
  }

  get attachedCount(): number {
    return [...this.#vectors.values()].filter((vector) => vector.attached).length;
  }

  /** Turns the mode off: irqfds first, then VFIO, then routes. Pending interrupts are gone, as in hardware. */
  disable(): void {
    for (const vector of this.#vectors.values()) {
      if (vector.attached) this.#attempt('a vector', () => this.#router.detach(vector.fd));
    }
    this.#attempt('the interrupts', () => this.#irqs.disable());
    for (const vector of [...this.#vectors.keys()]) this.#destroy(vector);
    this.#attempt('the routing table', () => this.#router.commit());
    this.#refused.clear();
  }

  #connect(number: number): Vector | undefined {
    const known = this.#vectors.get(number);
    if (known || !this.#lazy || this.#refused.has(number)) return known;
    const created = this.#attempt(`vector ${number}`, () => {
      const vector = this.#create(number);
      if (this.#irqs.trigger(number, [vector.fd]) < 1) throw new Error('the host has no interrupt left');
      return vector;
    });
    if (created) return created;
    // Tried once: a guest that masks and unmasks in a loop must not turn into a stream of warnings.
    this.#refused.add(number);
    this.#destroy(number);
    return undefined;
  }

  #create(number: number): Vector {
    const fd = this.#native.eventfd();
    try {
      const vector = { fd, gsi: this.#router.allocate(), attached: false };
      this.#vectors.set(number, vector);
      return vector;
    } catch (error) {
      this.#native.close(fd);
      throw error;
    }
  }

  #destroy(number: number): void {
    const vector = this.#vectors.get(number);
    if (!vector) return;
    this.#vectors.delete(number);
    this.#router.release(vector.gsi);
    this.#native.close(vector.fd);
  }

  /** A positive answer means that nothing was enabled and how many there are: ask for those. */
  #triggerUpTo(fds: readonly number[]): number {
    for (let asked = fds.length; asked > 0; ) {
      const granted = this.#irqs.trigger(0, fds.slice(0, asked));
      if (granted === asked) return granted;
      asked = granted;
    }
    return 0;
  }

  #attempt<T>(what: string, step: () => T): T | undefined {
    try {
      return step();
    } catch (error) {
      this.#warn(`${what} cannot be set up: ${error instanceof Error ? error.message : String(error)}`);
      return undefined;
    }
  }
}
