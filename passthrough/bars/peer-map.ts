/**
 * Lets the other devices of the VM reach a device's BARs by DMA (peer to peer): what is a direct slot is mapped in the
 * IOMMU at the same address, and only as long. Nothing here keeps a VM from starting: what cannot be mapped is told.
 */
import type { Hva, Iova } from '../../native/types.ts';
import { isKernelError } from '../../vmm/base/errors.ts';
import { hex } from '../../vmm/base/units.ts';
import type { DmaTarget } from '../vfio/ram-map.ts';

/** What the kernel means by it. */
const REASONS: Readonly<Record<string, string>> = {
  EINVAL: 'the IOMMU cannot map it there',
  EFAULT: 'the kernel does not map device memory for DMA this way',
  EEXIST: 'something else is mapped there',
  ENOSPC: 'there are no DMA mappings left',
  ENOMEM: 'the limit of locked memory is reached',
};

export class PeerMap {
  readonly #target: DmaTarget;
  readonly #warn: (message: string) => void;
  /** Bytes mapped at each address, with the BAR that they are of. */
  readonly #mapped = new Map<number, { readonly bar: number; readonly sizeBytes: number }>();
  readonly #refused = new Map<number, string>();

  constructor(target: DmaTarget, warn: (message: string) => void) {
    this.#target = target;
    this.#warn = warn;
  }

  /** After the guest can reach it. Never throws. */
  add(bar: number, gpa: number, sizeBytes: number, hva: Hva): void {
    try {
      this.#target.map(hva, gpa as Iova, sizeBytes);
      this.#mapped.set(gpa, { bar, sizeBytes });
      this.#refused.delete(bar);
    } catch (error) {
      const reason = reasonOf(error);
      this.#refused.set(bar, reason);
      this.#warn(`BAR${bar}: other devices cannot reach ${hex(sizeBytes)} bytes at ${hex(gpa)}: ${reason}`);
    }
  }

  /** Before the guest, or the hardware, loses it. Never throws. */
  remove(gpa: number): void {
    const mapped = this.#mapped.get(gpa);
    if (!mapped) return;
    this.#mapped.delete(gpa);
    try {
      this.#target.unmap(gpa as Iova, mapped.sizeBytes);
    } catch (error) {
      this.#warn(`BAR${mapped.bar}: its DMA mapping at ${hex(gpa)} cannot be undone: ${reasonOf(error)}`);
    }
  }

  /** For the report. */
  stateOf(bar: number): string {
    const reason = this.#refused.get(bar);
    if (reason !== undefined) return `no (${reason})`;
    return [...this.#mapped.values()].some((mapped) => mapped.bar === bar) ? 'mapped' : 'no (not decoded)';
  }
}

function reasonOf(error: unknown): string {
  if (!isKernelError(error)) return error instanceof Error ? error.message : String(error);
  const meaning = REASONS[error.code];
  return meaning === undefined ? error.code : `${meaning} (${error.code})`;
}
