/**
 * The VM's GSI routing table and its irqfds. Owns both, so that the order is always right: a route exists before an
 * irqfd uses it, and outlives it. KVM replaces the whole table at once, so changes are collected and committed together.
 */
import { KVM_CAP, KVM_X2APIC_API } from '../../native/kvm-abi.ts';
import type { Fd, Gsi, GsiRoute, Irqfd, Kvm } from '../../native/types.ts';

/** What an MSI writes and where (PCI 3.0 §6.8.1). */
export interface MsiMessage {
  readonly addressLo: number;
  readonly addressHi: number;
  readonly data: number;
}

/** Pins of the in-kernel IOAPIC, which are GSIs 0 to 23. */
export const IOAPIC_PINS = 24;
/** First pin that no legacy device uses: assigned INTx lines start here. */
export const FIRST_FREE_PIN = 16;
const MAX_GSI = 4096;
/** Arguments of KVM_CAP_X2APIC_API: destinations of messages have 32 bits, and 255 is one like any other. */
export const X2APIC_FORMAT = KVM_X2APIC_API.USE_32BIT_IDS | KVM_X2APIC_API.DISABLE_BROADCAST_QUIRK;
/** Where messages to local APICs go, and the bits of their addresses that name the destination: 7:0, and 14:8 where agreed. */
const MSI_WINDOW = 0xfee;
const DESTINATION_14_8 = 0x0fe0;
const DESTINATION_14_8_SHIFT = 5;

export class IrqRouter {
  readonly #kvm: Kvm;
  readonly #vm: Fd;
  readonly #x2apicFormat: boolean;
  readonly #messages = new Map<Gsi, MsiMessage>();
  readonly #allocated = new Set<number>();
  readonly #irqfds = new Map<Fd, Irqfd>();
  #dirty = true;

  /**
   * @param x2apicFormat turns {@link X2APIC_FORMAT} on, which only some kernels have. Pins of the IOAPIC reach 8 bits of a
   * destination even so.
   */
  constructor(kvm: Kvm, vm: Fd, x2apicFormat = false) {
    this.#kvm = kvm;
    this.#vm = vm;
    this.#x2apicFormat = x2apicFormat;
    if (x2apicFormat) kvm.vmEnableCap(vm, KVM_CAP.X2APIC_API, [X2APIC_FORMAT]);
  }

  /**
   * Whether a guest's message is an interrupt at all: its address lies in the local APICs' window, below 4 GiB, and names a
   * destination that KVM can be told of. One beyond 255, which guests write as KVM_FEATURE_MSI_EXT_DEST_ID has it, would
   * else interrupt the processor that its low bits name.
   */
  isDeliverable({ addressLo, addressHi }: MsiMessage): boolean {
    const isExtended = (addressLo & DESTINATION_14_8) !== 0;
    return addressLo >>> 20 === MSI_WINDOW && addressHi === 0 && (this.#x2apicFormat || !isExtended);
  }

  /** A GSI for one MSI vector. @throws RangeError when KVM's 4096 are used up */
  allocate(): Gsi {
    for (let gsi = IOAPIC_PINS; gsi < MAX_GSI; gsi++) {
      if (this.#allocated.has(gsi)) continue;
      this.#allocated.add(gsi);
      return gsi as Gsi;
    }
    throw new RangeError('no free GSI');
  }

  /** Gives a GSI back; its route goes with the next {@link commit}. */
  release(gsi: Gsi): void {
    this.#allocated.delete(gsi);
    if (this.#messages.delete(gsi)) this.#dirty = true;
  }

  /** Sets the message of a GSI; takes effect with {@link commit}. */
  setMessage(gsi: Gsi, message: MsiMessage): void {
    const old = this.#messages.get(gsi);
    if (old && old.addressLo === message.addressLo && old.addressHi === message.addressHi && old.data === message.data)
      return;
    this.#messages.set(gsi, message);
    this.#dirty = true;
  }

  /** Hands the table to KVM if it changed since the last time. */
  commit(): void {
    if (!this.#dirty) return;
    this.#kvm.vmSetGsiRouting(this.#vm, this.table());
    this.#dirty = false;
  }

  /** The wanted table: the legacy pins as KVM_CREATE_IRQCHIP sets them, and every message. */
  table(): GsiRoute[] {
    const routes: GsiRoute[] = [];
    for (let pin = 0; pin < 16; pin++) {
      routes.push({ kind: 'irqchip', gsi: pin as Gsi, chip: pin < 8 ? 0 : 1, pin: pin % 8 });
    }
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      // The PIT's IRQ 0 arrives at IOAPIC pin 2, as on every PC; the MADT says so too.
      if (pin !== 2) routes.push({ kind: 'irqchip', gsi: pin as Gsi, chip: 2, pin: pin === 0 ? 2 : pin });
    }
    for (const [gsi, message] of this.#messages) routes.push({ kind: 'msi', gsi, ...this.#inKvmFormat(message) });
    return routes;
  }

  /** As KVM takes it: bits 31:8 of the destination in the upper half (Documentation/virt/kvm/api.rst, 7.7). */
  #inKvmFormat(message: MsiMessage): MsiMessage {
    if (!this.#x2apicFormat) return message;
    const { addressLo, data } = message;
    const upper = (addressLo & DESTINATION_14_8) >>> DESTINATION_14_8_SHIFT;
    return { addressLo: (addressLo & ~DESTINATION_14_8) >>> 0, addressHi: upper << 8, data };
  }

  /**
   * Attaches an eventfd to a GSI. Its route is committed first. A count already pending in the eventfd is injected at
   * once (virt/kvm/eventfd.c), which is what makes detach and attach a correct mask and unmask.
   */
  attach(irqfd: Irqfd): void {
    this.commit();
    this.#kvm.vmAssignIrqfd(this.#vm, irqfd);
    this.#irqfds.set(irqfd.fd, irqfd);
  }

  /** Detaches; waits in the kernel for an injection in flight. Ignored when the fd is not attached. */
  detach(fd: Fd): void {
    const irqfd = this.#irqfds.get(fd);
    if (!irqfd) return;
    this.#irqfds.delete(fd);
    this.#kvm.vmDeassignIrqfd(this.#vm, irqfd);
  }

  /** Raises or lowers a pin of the in-kernel chips. */
  setLine(gsi: Gsi, level: boolean): void {
    this.#kvm.vmIrqLine(this.#vm, gsi, level);
  }

  /** Injects a message without a route. @returns how many vCPUs took it */
  signal(message: MsiMessage): number {
    const { addressLo, addressHi, data } = this.#inKvmFormat(message);
    return this.#kvm.vmSignalMsi(this.#vm, addressLo, addressHi, data);
  }

  /** How many vectors are routed right now, for reports. */
  get routedVectors(): number {
    return [...this.#irqfds.values()].filter((irqfd) => irqfd.gsi >= IOAPIC_PINS).length;
  }
}
