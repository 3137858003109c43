/** For tests: a root complex with plain functions, seen as a guest sees it: through config accesses alone. */
import { FakeKernel } from '../../native/fake/fake-kernel.ts';
import { FakeVm } from '../../native/fake/fake-vm.ts';
import type { Fd } from '../../native/types.ts';
import { GIB, ones, readLe } from '../base/bits.ts';
import { BusMemory } from '../bus/bus-memory.ts';
import { SharedBytes, TrapTable } from '../bus/trap-table.ts';
import { IrqRouter } from '../irq/irq-router.ts';
import { type MemoryLayout, memoryLayout } from '../memory/layout.ts';
import { SlotTable } from '../memory/memory-slots.ts';
import { ConfigSpace } from './config-space.ts';
import { ConfigStore, type ConfigWindow } from './config-window.ts';
import type { BarRequest, PciFunction, PciServices } from './function.ts';
import { EXP, SLOT_CONTROL, SLOT_STATUS } from './hot-plug-slot.ts';
import { keyOf } from './pci-bus.ts';
import { RootComplex } from './root-complex.ts';
import { busCount, type SlotPlan } from './topology.ts';

/** Config offset of the PCI Express capability of a root port. */
export const PORT_EXPRESS = 0x40;
export const PORT_MSI = 0x80;

/** A function that only remembers what was done to it. */
export class PlainFunction implements PciFunction {
  readonly label: string;
  readonly window: ConfigWindow;
  readonly bars: readonly BarRequest[];
  readonly placed = new Map<number, number>();
  readonly calls: string[] = [];
  services: PciServices | undefined;
  failsToPowerOn = false;
  readonly #space: ConfigSpace;

  constructor(store: ConfigStore, label: string, bars: readonly BarRequest[] = []) {
    this.label = label;
    this.bars = bars;
    this.window = store.allocate();
    this.#space = new ConfigSpace(this.window, { read: () => 0, write: () => {} }, 4096);
    this.#space.set(0, 4, 0x5678_1234);
    this.#space.guestWrite.fill(0xff, 0x40, 0x80);
  }

  writeConfig(offset: number, width: number, value: number): void {
    this.calls.push('write');
    this.#space.write(offset, width, value);
  }

  placeBar(index: number, address: number): void {
    this.placed.set(index, address);
  }

  powerOn(services: PciServices): void {
    if (this.services) throw new Error(`${this.label} is on already`);
    if (this.failsToPowerOn) throw new Error(`${this.label} is broken`);
    this.services = services;
    this.calls.push('on');
  }

  powerOff(): void {
    this.services = undefined;
    this.calls.push('off');
  }

  windowsChanged(): void {
    this.calls.push('windows');
  }

  report(): ReturnType<PciFunction['report']> {
    return { label: this.label, bars: [], interrupts: { mode: 'none', available: 0, routed: 0 }, resets: [] };
  }
}

export class TestHierarchy {
  readonly kernel: FakeKernel;
  readonly store: ConfigStore;
  readonly warnings: string[] = [];
  readonly turnedOff: string[] = [];
  readonly layout: MemoryLayout;
  readonly vm: FakeVm;
  readonly pci: RootComplex;
  readonly bus = new BusMemory();
  readonly #mmio: TrapTable;
  #heard = 0;

  constructor(
    slots: (store: ConfigStore) => readonly SlotPlan[],
    kernel: FakeKernel = new FakeKernel(),
    store: ConfigStore = new ConfigStore(64),
    onTurnedOff: (port: string) => void = () => {},
  ) {
    this.kernel = kernel;
    this.store = store;
    const kvm = kernel.open('/dev/kvm', 'rw');
    const fd = kernel.kvmCreateVm(kvm);
    kernel.close(kvm);
    kernel.vmCreateIrqchip(fd);
    this.vm = kernel.fds.get(fd, FakeVm, 'test');
    const plan = slots(this.store);
    this.layout = memoryLayout(GIB, 40, busCount(plan));
    const shared = new SharedBytes(this.bus);
    this.#mmio = new TrapTable(this.bus.mmio, this.bus, shared);
    let vfio: Fd | undefined;
    const vfioDevice = (): Fd => {
      vfio ??= kernel.vmCreateDevice(fd, 'vfio');
      return vfio;
    };
    this.pci = new RootComplex({
      bus: this.bus,
      layout: this.layout,
      store: this.store,
      services: {
        slots: new SlotTable(kernel, fd),
        memoryTraps: this.#mmio,
        portTraps: new TrapTable(this.bus.ports, this.bus, shared),
        irq: new IrqRouter(kernel, fd),
        addVfioFile: (file) => kernel.kvmVfioAddFile(vfioDevice(), file),
        deleteVfioFile: (file) => kernel.kvmVfioDeleteFile(vfioDevice(), file),
      },
      slots: plan,
      onTurnedOff: (port) => {
        this.turnedOff.push(port);
        onTurnedOff(port);
      },
      warn: (message) => void this.warnings.push(message),
    });
    this.pci.powerOn();
  }

  /** A read as a vCPU thread does it, where no device bits are concerned; all ones where nobody answers. */
  read(bus: number, device: number, offset: number, width: number, fn = 0): number {
    const index = this.bus.windowOf[keyOf({ bus, device, function: fn })]!;
    if (index === 0) return ones(width);
    return readLe(this.store.windows[index - 1]!.image, offset, width);
  }

  write(bus: number, device: number, offset: number, width: number, value: number, fn = 0): void {
    const address = this.layout.ecam.start + keyOf({ bus, device, function: fn }) * 4096 + offset;
    const found = this.#mmio.handlerAt(address);
    found?.handler.write(found.offset, width, value);
  }

  slotControl(device: number): number {
    return this.read(0, device, PORT_EXPRESS + EXP.SLOT_CONTROL, 2);
  }

  slotStatus(device: number): number {
    return this.read(0, device, PORT_EXPRESS + EXP.SLOT_STATUS, 2);
  }

  linkStatus(device: number): number {
    return this.read(0, device, PORT_EXPRESS + EXP.LINK_STATUS, 2);
  }

  /** As pciehp does it: events and MSI on. */
  listen(device: number, data = 0x41): void {
    this.write(0, device, PORT_MSI + 4, 4, 0xfee0_0000);
    this.write(0, device, PORT_MSI + 12, 2, data);
    this.write(0, device, PORT_MSI + 2, 2, 0x0001);
    const enables = SLOT_CONTROL.EVENTS | SLOT_CONTROL.INTERRUPT | SLOT_CONTROL.LINK_STATE;
    this.command(device, this.slotControl(device) | enables);
    // That was a command too, and told as such.
    this.#heard = this.vm.injections.length;
  }

  /** Writes slot control and takes note of its completion. */
  command(device: number, control: number): void {
    this.write(0, device, PORT_EXPRESS + EXP.SLOT_CONTROL, 2, control);
    this.clear(device, SLOT_STATUS.COMMAND_COMPLETED);
  }

  clear(device: number, events: number): void {
    this.write(0, device, PORT_EXPRESS + EXP.SLOT_STATUS, 2, events);
  }

  power(device: number, on: boolean): void {
    const kept = this.slotControl(device) & ~(SLOT_CONTROL.POWER_OFF | SLOT_CONTROL.POWER_INDICATOR);
    if (on) {
      this.command(device, kept | SLOT_CONTROL.POWER_INDICATOR_ON);
      return;
    }
    // Power first, and the indicator a while later.
    this.command(device, kept | SLOT_CONTROL.POWER_INDICATOR_ON | SLOT_CONTROL.POWER_OFF);
    this.command(device, kept | SLOT_CONTROL.POWER_INDICATOR_OFF | SLOT_CONTROL.POWER_OFF);
  }

  /** MSI data of the interrupts that reached the guest since it listens. */
  interrupts(): number[] {
    return this.vm.injections.slice(this.#heard).flatMap(({ route }) => (route?.kind === 'msi' ? [route.data] : []));
  }
}
