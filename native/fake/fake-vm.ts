/** One VM of the fake KVM: memory slots, interrupt routes, irqfds, ioeventfds. */

import { kernelError } from '../kernel-error.ts';
import { KVM_CAP } from '../kvm-abi.ts';
import type { Gsi, GsiRoute, Ioeventfd } from '../types.ts';
import { type FakeEventfd, OpenFile } from './open-file.ts';

const PAGE = 4096;
/** KVM_MAX_IRQ_ROUTES on x86, also the number of GSIs. */
const MAX_ROUTES = 4096;
const DEFAULT_PINS = 24;

/** One memory slot as KVM_SET_USER_MEMORY_REGION set it. */
export interface Slot {
  readonly slot: number;
  readonly gpa: number;
  readonly sizeBytes: number;
  readonly hva: number;
  readonly readonly: boolean;
}

/** One interrupt that reached the guest's interrupt controllers, or would have. */
export interface Injection {
  readonly how: 'irqfd' | 'line' | 'msi';
  readonly gsi: Gsi | undefined;
  /** The route at that moment; undefined means that nothing reached the guest. */
  readonly route: GsiRoute | undefined;
  /** New level of the line; true for edges. */
  readonly level: boolean;
}

interface AssignedIrqfd {
  readonly eventfd: FakeEventfd;
  readonly gsi: Gsi;
  readonly resample: FakeEventfd | undefined;
}

interface AssignedIoeventfd extends Omit<Ioeventfd, 'fd'> {
  readonly eventfd: FakeEventfd;
}

export class FakeVm extends OpenFile {
  readonly label = 'vm';
  readonly slots = new Map<number, Slot>();
  readonly injections: Injection[] = [];
  readonly enabledCaps = new Map<number, readonly number[]>();
  /** Every table that was set, newest last. */
  readonly routeTables: (readonly GsiRoute[])[] = [];
  routes: readonly GsiRoute[] = [];
  irqfds: AssignedIrqfd[] = [];
  ioeventfds: AssignedIoeventfd[] = [];
  irqchip = false;
  pit = false;
  hasVfioDevice = false;
  vcpuCount = 0;
  tssAddress: number | undefined;
  identityMapAddress: number | undefined;

  // ---- memory -------------------------------------------------------------------------------------------------

  setSlot(wanted: Slot): void {
    const call = 'KVM_SET_USER_MEMORY_REGION';
    const { slot, gpa, sizeBytes, hva, readonly } = wanted;
    if (gpa % PAGE !== 0 || sizeBytes % PAGE !== 0 || hva % PAGE !== 0) throw kernelError(call, 'EINVAL');
    const existing = this.slots.get(slot);
    if (sizeBytes === 0) {
      if (!this.slots.delete(slot)) throw kernelError(call, 'EINVAL');
      return;
    }
    // A slot can move in guest-physical space; its memory, size and READONLY flag are for life.
    if (
      existing !== undefined &&
      (existing.hva !== hva || existing.sizeBytes !== sizeBytes || existing.readonly !== readonly)
    ) {
      throw kernelError(call, 'EINVAL');
    }
    for (const other of this.slots.values()) {
      if (other.slot !== slot && gpa < other.gpa + other.sizeBytes && other.gpa < gpa + sizeBytes) {
        throw kernelError(call, 'EEXIST');
      }
    }
    this.slots.set(slot, { slot, gpa, sizeBytes, hva, readonly });
  }

  /** The slot that holds a guest-physical address: what a guest access there would hit. */
  slotAt(gpa: number): Slot | undefined {
    return [...this.slots.values()].find((slot) => gpa >= slot.gpa && gpa < slot.gpa + slot.sizeBytes);
  }

  // ---- interrupts ---------------------------------------------------------------------------------------------

  createIrqchip(): void {
    if (this.irqchip) throw kernelError('KVM_CREATE_IRQCHIP', 'EEXIST');
    if (this.vcpuCount > 0) throw kernelError('KVM_CREATE_IRQCHIP', 'EINVAL');
    this.irqchip = true;
    this.routes = Array.from({ length: DEFAULT_PINS }, (_, pin) => {
      return { kind: 'irqchip', gsi: pin as Gsi, chip: 2, pin } as const;
    });
  }

  createPit(): void {
    if (!this.irqchip) throw kernelError('KVM_CREATE_PIT2', 'ENOENT');
    if (this.pit) throw kernelError('KVM_CREATE_PIT2', 'EEXIST');
    this.pit = true;
  }

  setRoutes(routes: readonly GsiRoute[]): void {
    const call = 'KVM_SET_GSI_ROUTING';
    if (!this.irqchip || routes.length > MAX_ROUTES) throw kernelError(call, 'EINVAL');
    for (const [index, route] of routes.entries()) {
      if (route.gsi < 0 || route.gsi >= MAX_ROUTES) throw kernelError(call, 'EINVAL');
      // In x2APIC format the lowest byte of the upper half names nothing (kvm_msi_route_invalid).
      const isX2apic = this.enabledCaps.has(KVM_CAP.X2APIC_API);
      if (isX2apic && route.kind === 'msi' && (route.addressHi & 0xff) !== 0) throw kernelError(call, 'EINVAL');
      // One entry per GSI, except that a GSI may go to a pin of each interrupt controller.
      const clash = routes.slice(0, index).some((earlier) => {
        if (earlier.gsi !== route.gsi) return false;
        return earlier.kind === 'msi' || route.kind === 'msi' || earlier.chip === route.chip;
      });
      if (clash) throw kernelError(call, 'EINVAL');
    }
    this.routes = routes.map((route) => ({ ...route }));
    this.routeTables.push(this.routes);
  }

  private routeOf(gsi: Gsi): GsiRoute | undefined {
    return this.routes.find((route) => route.gsi === gsi);
  }

  assignIrqfd(eventfd: FakeEventfd, gsi: Gsi, resample: FakeEventfd | undefined): void {
    if (!this.irqchip) throw kernelError('KVM_IRQFD', 'EINVAL');
    if (eventfd.irqfd !== undefined) throw kernelError('KVM_IRQFD', 'EBUSY');
    eventfd.irqfd = () => this.inject('irqfd', gsi, true);
    this.irqfds.push({ eventfd, gsi, resample });
    eventfd.settle();
  }

  /** Ends the irqfd of this eventfd and GSI. Like KVM, says nothing when there is none. */
  deassignIrqfd(eventfd: FakeEventfd, gsi: Gsi): void {
    this.irqfds = this.irqfds.filter((each) => {
      if (each.eventfd !== eventfd || each.gsi !== gsi) return true;
      eventfd.irqfd = undefined;
      return false;
    });
  }

  setLine(gsi: Gsi, level: boolean): void {
    if (!this.irqchip) throw kernelError('KVM_IRQ_LINE', 'ENXIO');
    this.inject('line', gsi, level);
  }

  signalMsi(addressLo: number, addressHi: number, data: number): void {
    if (!this.irqchip) throw kernelError('KVM_SIGNAL_MSI', 'EINVAL');
    const route: GsiRoute = { kind: 'msi', gsi: -1 as Gsi, addressLo, addressHi, data };
    this.injections.push({ how: 'msi', gsi: undefined, route, level: true });
  }

  private inject(how: 'irqfd' | 'line', gsi: Gsi, level: boolean): void {
    this.injections.push({ how, gsi, route: this.routeOf(gsi), level });
  }

  /** The guest ends a level-triggered interrupt: KVM lowers the line and signals the resample eventfds. */
  endOfInterrupt(gsi: Gsi): void {
    for (const { resample, gsi: own } of this.irqfds) if (own === gsi) resample?.signal();
  }

  // ---- ioeventfds ---------------------------------------------------------------------------------------------

  assignIoeventfd(eventfd: FakeEventfd, { fd: _, ...wanted }: Ioeventfd): void {
    const { space, address, width, datamatch } = wanted;
    if (width === 0 && (datamatch !== undefined || space === 'port')) throw kernelError('KVM_IOEVENTFD', 'EINVAL');
    const clash = this.ioeventfds.some((each) => {
      if (each.space !== space || each.address !== address) return false;
      if (each.width !== 0 && width !== 0 && each.width !== width) return false;
      return each.datamatch === undefined || datamatch === undefined || each.datamatch === datamatch;
    });
    if (clash) throw kernelError('KVM_IOEVENTFD', 'EEXIST');
    this.ioeventfds.push({ ...wanted, eventfd });
  }

  deassignIoeventfd(eventfd: FakeEventfd, { space, address, width, datamatch }: Ioeventfd): void {
    const index = this.ioeventfds.findIndex(
      (each) =>
        each.eventfd === eventfd &&
        each.space === space &&
        each.address === address &&
        each.width === width &&
        each.datamatch === datamatch,
    );
    if (index < 0) throw kernelError('KVM_IOEVENTFD', 'ENOENT');
    this.ioeventfds.splice(index, 1);
  }

  /** A store of the guest: signals the matching ioeventfd and returns true, or false for an exit to user space. */
  guestStore(space: 'port' | 'memory', address: number, width: number, value: bigint): boolean {
    const hit = this.ioeventfds.find(
      (each) =>
        each.space === space &&
        each.address === address &&
        (each.width === 0 || each.width === width) &&
        (each.datamatch === undefined || each.datamatch === value),
    );
    hit?.eventfd.signal();
    return hit !== undefined;
  }

  protected override released(): void {
    for (const { eventfd } of this.irqfds) eventfd.irqfd = undefined;
    this.irqfds = [];
    this.ioeventfds = [];
    this.slots.clear();
  }
}
