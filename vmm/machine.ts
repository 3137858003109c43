/**
 * One power cycle of a guest: a KVM VM with its vCPUs, chips and devices, from power-on to power-off. A reboot is a new
 * Machine over the same memory and functions, so nothing of the old boot can remain.
 * Built in named phases; each phase registers what undoes it, and power-off runs those in reverse.
 */
import type { Fd, GeneralRegisters, Gpa, Gsi, Native, SystemRegisters } from '../native/types.ts';
import { buildAcpi } from './acpi/acpi.ts';
import { Disposer } from './base/disposer.ts';
import { type KernelImage, loadGuest } from './boot/index.ts';
import { BusMemory } from './bus/bus-memory.ts';
import { SharedBytes, TrapTable } from './bus/trap-table.ts';
import { CallServer } from './cpu/call-server.ts';
import { cpuidFor } from './cpu/cpuid.ts';
import { type Mailbox, NOTICE } from './cpu/mailbox.ts';
import { BOOT_MSRS } from './cpu/msrs.ts';
import { Vcpu } from './cpu/vcpu.ts';
import { DebugExit } from './devices/debug-exit.ts';
import type { DeviceBus } from './devices/device.ts';
import { I8042 } from './devices/i8042.ts';
import { PostCode } from './devices/post-code.ts';
import { Power } from './devices/power.ts';
import { Rtc } from './devices/rtc.ts';
import type { Serial } from './devices/serial.ts';
import { IrqRouter } from './irq/irq-router.ts';
import type { KvmHost } from './kvm.ts';
import type { GuestMemory } from './memory/guest-memory.ts';
import { KVM_IDENTITY_MAP_BASE, KVM_TSS_BASE, LAPIC_BASE, type MemoryLayout } from './memory/layout.ts';
import { SlotTable } from './memory/memory-slots.ts';
import type { ConfigStore } from './pci/config-window.ts';
import { RootComplex } from './pci/root-complex.ts';
import type { SlotPlan } from './pci/topology.ts';

const EFAULT = 14;
/** The reason of a pause that was asked for. */
const USER: unique symbol = Symbol('user');
/** Delivery mode 100b in the data of an MSI (SDM vol. 3, 11.11.2). */
const MSI_DELIVERY_NMI = 0x400;

/** Why a power cycle ended. */
export type MachineEnd =
  | { readonly kind: 'power-off' }
  | { readonly kind: 'reset'; readonly by: string }
  | { readonly kind: 'debug-exit'; readonly value: number }
  | { readonly kind: 'crash'; readonly detail: string }
  | { readonly kind: 'stop' };

export interface MachineOptions {
  readonly native: Native;
  readonly kvm: KvmHost;
  readonly memory: GuestMemory;
  readonly layout: MemoryLayout;
  readonly image: KernelImage;
  readonly initrd: string | undefined;
  readonly cmdline: string;
  /** Guest memory is still all zeros. */
  readonly isFresh: boolean;
  readonly cpus: number;
  readonly store: ConfigStore;
  /** Assigned functions and root ports, in the order of their device numbers on the root bus. */
  readonly slots: readonly SlotPlan[];
  /** The console outlives power cycles. */
  readonly serial: Serial;
  /** The second serial port, where one was asked for; outlives power cycles, too. */
  readonly channel: Serial | undefined;
  /** One a vCPU; keep their counters over power cycles. */
  readonly mailboxes: readonly Mailbox[];
  /** The guest turned the power of a root port's slot off and is done with what is in it. */
  onTurnedOff(port: string): void;
  warn(message: string): void;
}

export class Machine {
  /** Resolves once, when the guest or {@link stop} ended the power cycle; vCPUs may still be on their way out. */
  readonly ended: Promise<MachineEnd>;
  readonly #options: MachineOptions;
  readonly #undo = new Disposer();
  readonly #bus = new BusMemory();
  readonly #shared = new SharedBytes(this.#bus);
  readonly #mmio = new TrapTable(this.#bus.mmio, this.#bus, this.#shared);
  readonly #ports = new TrapTable(this.#bus.ports, this.#bus, this.#shared);
  readonly #calls = new CallServer({
    bus: this.#bus,
    ports: this.#ports,
    mmio: this.#mmio,
    onNotice: (vcpu, kind, detail) => this.#judge(vcpu, kind, detail),
  });
  readonly #vcpus: Vcpu[] = [];
  readonly #vm: Fd;
  readonly #slots: SlotTable;
  readonly #irq: IrqRouter;
  #power: Power | undefined;
  #pci: RootComplex | undefined;
  /** Reasons why no vCPU may run. */
  readonly #holds = new Set<symbol>();
  #end: (end: MachineEnd) => void = () => {};
  #over = false;

  private constructor(options: MachineOptions) {
    const { native, kvm } = options;
    this.#options = options;
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.#vm = native.kvmCreateVm(kvm.fd);
    this.#undo.defer(() => native.close(this.#vm));
    this.#slots = new SlotTable(native, this.#vm);
    this.#irq = new IrqRouter(native, this.#vm, kvm.x2apicFormat);
  }

  /** Builds a machine that is ready to {@link start}. Undoes everything when a phase fails. */
  static async powerOn(options: MachineOptions): Promise<Machine> {
    const machine = new Machine(options);
    try {
      machine.#addMemory();
      machine.#addChips();
      machine.#addDevices();
      const { intx } = machine.#addFunctions();
      machine.#boot(intx);
      return machine;
    } catch (error) {
      await machine.powerOff().catch((undo: unknown) => options.warn(`while giving up: ${String(undo)}`));
      throw error;
    }
  }

  #addMemory(): void {
    for (const window of this.#options.memory.windows) this.#slots.add(window.gpa, window.sizeBytes, window.hva);
  }

  #addChips(): void {
    const { native } = this.#options;
    native.vmSetTssAddress(this.#vm, KVM_TSS_BASE as Gpa);
    native.vmSetIdentityMapAddress(this.#vm, KVM_IDENTITY_MAP_BASE as Gpa);
    native.vmCreateIrqchip(this.#vm);
    native.vmCreatePit(this.#vm);
    this.#irq.commit();
  }

  #addDevices(): void {
    const bus: DeviceBus = { ports: this.#ports, setIrq: (gsi, level) => this.#setIrq(gsi as Gsi, level) };
    this.#power = new Power({
      onPowerOff: () => this.#finish({ kind: 'power-off' }),
      onReset: (by) => this.#finish({ kind: 'reset', by }),
    });
    const devices = [
      ...this.#serialPorts,
      new Rtc(),
      this.#power,
      new I8042({ onReset: () => this.#finish({ kind: 'reset', by: 'i8042' }) }),
      new DebugExit({ onExit: (value) => this.#finish({ kind: 'debug-exit', value }) }),
      new PostCode(),
    ];
    for (const device of devices) device.attach(bus);
    for (const port of this.#serialPorts) this.#undo.defer(() => port.detach());
  }

  /** Plugs the functions in, powers them on, places their BARs. */
  #addFunctions(): RootComplex {
    const { native, layout, store, slots, warn, onTurnedOff } = this.#options;
    let vfio: Fd | undefined;
    const vfioDevice = () => {
      vfio ??= native.vmCreateDevice(this.#vm, 'vfio');
      return vfio;
    };
    this.#undo.defer(() => {
      if (vfio !== undefined) native.close(vfio);
    });
    const pci = new RootComplex({
      bus: this.#bus,
      layout,
      store,
      services: {
        slots: this.#slots,
        memoryTraps: this.#mmio,
        portTraps: this.#ports,
        irq: this.#irq,
        addVfioFile: (file) => native.kvmVfioAddFile(vfioDevice(), file),
        deleteVfioFile: (file) => {
          if (vfio !== undefined) native.kvmVfioDeleteFile(vfio, file);
        },
      },
      slots,
      onTurnedOff,
      warn,
    });
    this.#undo.defer(() => pci.powerOff());
    pci.powerOn();
    this.#pci = pci;
    return pci;
  }

  #boot(intx: RootComplex['intx']): void {
    const { native, kvm, memory, layout, image, initrd, cmdline, cpus, mailboxes, isFresh } = this.#options;
    const acpi = buildAcpi({ cpus, layout, intx, serialPorts: this.#serialPorts.length });
    for (const { gpa, bytes } of acpi.tables) memory.write(gpa, bytes);
    const boot = loadGuest(image, {
      memory,
      layout,
      initrdPath: initrd,
      cmdline,
      rsdp: acpi.rsdp,
      reserved: [acpi.reserved, layout.ecam],
      isFresh,
    });
    for (let index = 0; index < cpus; index++) {
      const vcpu = new Vcpu(native, kvm.fd, this.#vm, index, mailboxes[index]!, {
        cpuid: cpuidFor(kvm.cpuid, index, cpus, kvm),
        msrs: BOOT_MSRS,
        ...(index === 0 ? { start: boot } : {}),
      });
      this.#vcpus.push(vcpu);
      this.#undo.defer(() => vcpu.close());
    }
    this.#undo.defer(() => this.#stopThreads());
  }

  get #serialPorts(): readonly Serial[] {
    const { serial, channel } = this.#options;
    return channel ? [serial, channel] : [serial];
  }

  /** Starts the vCPU threads. */
  start(): void {
    const { store } = this.#options;
    this.#calls.start(this.#vcpus);
    for (const vcpu of this.#vcpus) {
      vcpu.start(this.#bus, store, (error) => this.#finish({ kind: 'crash', detail: `vCPU thread: ${String(error)}` }));
    }
  }

  /** The power cycle has ended, or is about to: nothing new is begun with it. */
  get isOver(): boolean {
    return this.#over;
  }

  /** The PCI hierarchy, from power-on to power-off. */
  get pci(): RootComplex {
    return this.#pci!;
  }

  /** Resolves when no vCPU runs. */
  pause(): Promise<void> {
    return this.#hold(USER);
  }

  resume(): void {
    this.#letGo(USER);
  }

  /** Resolves after every vCPU has been out of the guest once, with what it was doing there done. They then go on, if they may. */
  async quiesce(): Promise<void> {
    const reason = Symbol('quiesce');
    await this.#hold(reason);
    this.#letGo(reason);
  }

  async #hold(reason: symbol): Promise<void> {
    this.#holds.add(reason);
    // A thread that was told to end must not hear anything else.
    if (this.#over) {
      await Promise.all(this.#vcpus.map((vcpu) => vcpu.ended()));
      return;
    }
    for (const vcpu of this.#vcpus) vcpu.requestPause();
    await Promise.all(this.#vcpus.map((vcpu) => vcpu.paused()));
    // What the guest wrote before it was paused has then been seen, too.
    this.#calls.drain();
    for (const port of this.#serialPorts) port.flush();
  }

  #letGo(reason: symbol): void {
    this.#holds.delete(reason);
    if (this.#holds.size > 0 || this.#over) return;
    for (const vcpu of this.#vcpus) vcpu.resume();
  }

  /** Of every vCPU, in order. Only while paused. */
  registers(): { readonly index: number; readonly general: GeneralRegisters; readonly system: SystemRegisters }[] {
    return this.#vcpus.map((vcpu) => ({
      index: vcpu.index,
      general: vcpu.registers(),
      system: vcpu.systemRegisters(),
    }));
  }

  /** Ends the power cycle from outside. */
  stop(): void {
    this.#finish({ kind: 'stop' });
  }

  powerButton(): void {
    this.#power?.pressPowerButton();
  }

  /** Interrupts every vCPU with an NMI. */
  nmi(): void {
    // As a message to each LAPIC: KVM_NMI would wait for a running vCPU to leave the guest.
    for (const { index } of this.#vcpus) {
      this.#irq.signal({ addressLo: LAPIC_BASE + (index << 12), addressHi: 0, data: MSI_DELIVERY_NMI });
    }
  }

  /** Stops the vCPUs and takes the machine apart. A second call finds nothing to do. @throws what could not be undone */
  async powerOff(): Promise<void> {
    this.#finish({ kind: 'stop' });
    await this.#undo.dispose();
  }

  async #stopThreads(): Promise<void> {
    for (const vcpu of this.#vcpus) vcpu.requestStop();
    await Promise.all(this.#vcpus.map((vcpu) => vcpu.ended()));
    // The last output of the guest may still be queued.
    this.#calls.finish();
  }

  /** A console that outlives the machine may still be typed into. */
  #setIrq(gsi: Gsi, level: boolean): void {
    if (!this.#over) this.#irq.setLine(gsi, level);
  }

  #finish(end: MachineEnd): void {
    if (this.#over) return;
    this.#over = true;
    // Set before the call that brought us here is answered, so that the guest executes nothing more.
    for (const vcpu of this.#vcpus) vcpu.requestStop();
    this.#end(end);
  }

  #judge(vcpu: Vcpu, kind: number, detail: number): void {
    if (kind === NOTICE.tripleFault) this.#finish({ kind: 'reset', by: 'triple fault' });
    else if (kind === NOTICE.fault && detail === EFAULT && this.#trapRevoked()) return;
    else this.#finish({ kind: 'crash', detail: describeNotice(vcpu, kind, detail) });
  }

  /** A BAR that was taken away (reset, power state, host) makes KVM_RUN fail; KVM does not say which. */
  #trapRevoked(): boolean {
    return this.pci.functions.filter((fn) => fn.trapAfterRevocation?.()).length > 0;
  }
}

function describeNotice(vcpu: Vcpu, kind: number, detail: number): string {
  const where = `vCPU ${vcpu.index} at rip 0x${vcpu.registers().rip.toString(16)}`;
  switch (kind) {
    case NOTICE.emulationFailure:
      return `KVM could not emulate an instruction (suberror ${detail}), ${where}`;
    case NOTICE.entryFailure:
      return `the CPU refused to enter the guest (reason 0x${detail.toString(16)}), ${where}`;
    case NOTICE.fault:
      return `KVM_RUN failed with errno ${detail}, ${where}`;
    default:
      return `unknown exit ${detail} of KVM_RUN, ${where}`;
  }
}
