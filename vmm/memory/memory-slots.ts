/** KVM memory slots of one VM: guest RAM and directly mapped BARs. */
import type { Fd, Gpa, Hva, Kvm } from '../../native/types.ts';
import { AddressSpace } from '../base/ranges.ts';

/** A piece of host memory shown to the guest as it is: KVM memory slots. */
export interface MemorySlots {
  /**
   * @throws RangeError when it overlaps RAM or another slot
   * @throws KernelError of KVM_SET_USER_MEMORY_REGION
   */
  add(gpa: Gpa, sizeBytes: number, hva: Hva, options?: { readonly readonly?: boolean }): void;
  /** Removes the slot that starts there. The guest cannot reach the memory any more when it returns. Ignored when there is none. */
  remove(gpa: Gpa): void;
  /** Whether no slot holds a byte of the range. */
  isFree(gpa: number, sizeBytes: number): boolean;
}

export class SlotTable implements MemorySlots {
  readonly #kvm: Kvm;
  readonly #vm: Fd;
  readonly #slots = new AddressSpace<number>();
  readonly #free: number[] = [];
  #next = 0;

  constructor(kvm: Kvm, vm: Fd) {
    this.#kvm = kvm;
    this.#vm = vm;
  }

  add(gpa: Gpa, sizeBytes: number, hva: Hva, options: { readonly readonly?: boolean } = {}): void {
    const range = { start: gpa, size: sizeBytes };
    const slot = this.#free.pop() ?? this.#next++;
    try {
      this.#slots.insert(range, slot);
    } catch (error) {
      this.#free.push(slot);
      throw error;
    }
    try {
      this.#kvm.vmSetMemorySlot(this.#vm, slot, gpa, sizeBytes, hva, options.readonly ?? false);
    } catch (error) {
      this.#slots.remove(gpa);
      this.#free.push(slot);
      throw error;
    }
  }

  remove(gpa: Gpa): void {
    const found = this.#slots.find(gpa);
    if (!found || found.range.start !== gpa) return;
    this.#kvm.vmSetMemorySlot(this.#vm, found.value, gpa, 0, 0 as Hva, false);
    this.#slots.remove(gpa);
    this.#free.push(found.value);
  }

  isFree(gpa: number, sizeBytes: number): boolean {
    return this.#slots.isFree({ start: gpa, size: sizeBytes });
  }

  /** The slot that holds an address: start, size. For faults. */
  find(gpa: number): { readonly start: number; readonly size: number } | undefined {
    return this.#slots.find(gpa)?.range;
  }
}
