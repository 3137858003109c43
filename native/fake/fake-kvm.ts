/** KVM in memory: enforces what virt/kvm and arch/x86/kvm enforce on slots, routes, irqfds, and records injections. */

import { ERRNO, kernelError } from '../kernel-error.ts';
import type {
  CpuidEntry,
  Fd,
  GeneralRegisters,
  Gpa,
  Gsi,
  GsiRoute,
  Hva,
  Ioeventfd,
  Irqfd,
  Kvm,
  Msr,
  SystemRegisters,
} from '../types.ts';
import type { FakeFds } from './fake-fds.ts';
import type { FakeMemory } from './fake-memory.ts';
import { zeroRegisters, zeroSystemRegisters } from './fake-registers.ts';
import { FakeVm, type Slot } from './fake-vm.ts';
import { FakeEventfd, OpenFile } from './open-file.ts';

const RUN_BYTES = 3 * 4096;

export class FakeKvmFd extends OpenFile {
  readonly label = '/dev/kvm';
}

/** One queued outcome of vcpuRun: fills the run page and returns 0 or -errno. */
export type ScriptedExit = (run: DataView) => number;

/** What the host's TSC was thought to count at when KVM started, which it gives to new vCPUs, and what it was found to count at since. */
export const BOOT_TSC_KHZ = 2_440_858;
export const HOST_TSC_KHZ = 2_445_431;

export class FakeVcpu extends OpenFile {
  readonly label: string;
  readonly index: number;
  readonly vm: FakeVm;
  run: Hva | undefined;
  kicks = 0;
  clockPauses = 0;
  nmis = 0;
  tscKhz = BOOT_TSC_KHZ;
  cpuid: readonly CpuidEntry[] = [];
  registers: GeneralRegisters = zeroRegisters();
  systemRegisters: SystemRegisters = zeroSystemRegisters();
  readonly msrs = new Map<number, bigint>();
  readonly exits: ScriptedExit[] = [];

  constructor(vm: FakeVm, index: number) {
    super();
    this.vm = vm;
    this.index = index;
    this.label = `vcpu ${index}`;
    vm.hold();
  }

  protected override released(): void {
    this.vm.drop();
  }
}

/** KVM_DEV_TYPE_VFIO. */
class KvmVfioDevice extends OpenFile {
  readonly label = 'kvm-vfio';
  readonly vm: FakeVm;
  readonly files = new Set<OpenFile>();

  constructor(vm: FakeVm) {
    super();
    this.vm = vm;
    vm.hold();
  }

  protected override released(): void {
    for (const file of this.files) file.drop();
    this.vm.drop();
  }
}

export class FakeKvm implements Kvm {
  /** Every VM ever made, newest last. */
  readonly vms: FakeVm[] = [];
  readonly vcpus: FakeVcpu[] = [];
  /** KVM_CHECK_EXTENSION; what is not listed is 0. */
  readonly capabilities = new Map<number, number>([
    [0, 1], // IRQCHIP
    [3, 1], // USER_MEMORY
    [4, 1], // SET_TSS_ADDR
    [7, 1], // EXT_CPUID
    [9, 4], // NR_VCPUS
    [10, 32764], // NR_MEMSLOTS
    [25, 4096], // IRQ_ROUTING
    [32, 1], // IRQFD
    [33, 1], // PIT2
    [36, 1], // IOEVENTFD
    [37, 1], // SET_IDENTITY_MAP_ADDR
    [66, 1024], // MAX_VCPUS
    [76, 1], // KVMCLOCK_CTRL
    [77, 1], // SIGNAL_MSI
    [81, 1], // READONLY_MEM
    [82, 1], // IRQFD_RESAMPLE
    [129, 3], // X2APIC_API
    [136, 1], // IMMEDIATE_EXIT
  ]);
  supportedCpuid: readonly CpuidEntry[] = [
    { function: 0, index: 0, flags: 0, eax: 0xd, ebx: 0x756e6547, ecx: 0x6c65746e, edx: 0x49656e69 },
    { function: 1, index: 0, flags: 0, eax: 0x306c3, ebx: 0, ecx: 0x80202001, edx: 0x078bfbff },
    { function: 0x40000000, index: 0, flags: 0, eax: 0x40000001, ebx: 0x4b4d564b, ecx: 0x564b4d56, edx: 0x4d },
    { function: 0x40000001, index: 0, flags: 0, eax: 0x01000008, ebx: 0, ecx: 0, edx: 0 },
    { function: 0x80000000, index: 0, flags: 0, eax: 0x80000008, ebx: 0, ecx: 0, edx: 0 },
    { function: 0x80000008, index: 0, flags: 0, eax: 0x3030, ebx: 0, ecx: 0, edx: 0 },
  ];
  /** Which opened files KVM_DEV_VFIO_FILE_ADD takes. */
  isVfioFile: (file: OpenFile) => boolean = () => false;

  private readonly fds: FakeFds;
  private readonly memory: FakeMemory;

  constructor(fds: FakeFds, memory: FakeMemory) {
    this.fds = fds;
    this.memory = memory;
  }

  /** The newest VM: most tests have one. */
  get vm(): FakeVm {
    const vm = this.vms.at(-1);
    if (vm === undefined) throw new Error('fake kernel: no VM was created');
    return vm;
  }

  // ---- /dev/kvm and the VM ------------------------------------------------------------------------------------

  kvmApiVersion(kvm: Fd): number {
    this.fds.get(kvm, FakeKvmFd, 'KVM_GET_API_VERSION');
    return 12;
  }

  kvmCheckExtension(fd: Fd, capability: number): number {
    if (this.fds.find(fd) === undefined) throw kernelError('KVM_CHECK_EXTENSION', 'EBADF');
    return this.capabilities.get(capability) ?? 0;
  }

  kvmGetSupportedCpuid(kvm: Fd): CpuidEntry[] {
    this.fds.get(kvm, FakeKvmFd, 'KVM_GET_SUPPORTED_CPUID');
    return this.supportedCpuid.map((entry) => ({ ...entry }));
  }

  kvmCreateVm(kvm: Fd): Fd {
    this.fds.get(kvm, FakeKvmFd, 'KVM_CREATE_VM');
    const vm = new FakeVm();
    this.vms.push(vm);
    return this.fds.install(vm);
  }

  private getVm(fd: Fd, syscall: string): FakeVm {
    return this.fds.get(fd, FakeVm, syscall);
  }

  vmSetTssAddress(vm: Fd, gpa: Gpa): void {
    this.getVm(vm, 'KVM_SET_TSS_ADDR').tssAddress = gpa;
  }

  vmSetIdentityMapAddress(vm: Fd, gpa: Gpa): void {
    const target = this.getVm(vm, 'KVM_SET_IDENTITY_MAP_ADDR');
    if (target.vcpuCount > 0) throw kernelError('KVM_SET_IDENTITY_MAP_ADDR', 'EINVAL');
    target.identityMapAddress = gpa;
  }

  vmCreateIrqchip(vm: Fd): void {
    this.getVm(vm, 'KVM_CREATE_IRQCHIP').createIrqchip();
  }

  vmCreatePit(vm: Fd): void {
    this.getVm(vm, 'KVM_CREATE_PIT2').createPit();
  }

  vmEnableCap(vm: Fd, capability: number, args: readonly number[]): void {
    this.getVm(vm, 'KVM_ENABLE_CAP').enabledCaps.set(capability, [...args]);
  }

  vmSetMemorySlot(vm: Fd, slot: number, gpa: Gpa, sizeBytes: number, hva: Hva, readonly: boolean): void {
    const wanted: Slot = { slot, gpa, sizeBytes, hva, readonly };
    this.getVm(vm, 'KVM_SET_USER_MEMORY_REGION').setSlot(wanted);
  }

  vmSetGsiRouting(vm: Fd, routes: readonly GsiRoute[]): void {
    this.getVm(vm, 'KVM_SET_GSI_ROUTING').setRoutes(routes);
  }

  vmAssignIrqfd(vm: Fd, { fd, gsi, resampleFd }: Irqfd): void {
    const target = this.getVm(vm, 'KVM_IRQFD');
    const eventfd = this.fds.get(fd, FakeEventfd, 'KVM_IRQFD', 'EINVAL');
    const resample =
      resampleFd === undefined ? undefined : this.fds.get(resampleFd, FakeEventfd, 'KVM_IRQFD', 'EINVAL');
    target.assignIrqfd(eventfd, gsi, resample);
  }

  vmDeassignIrqfd(vm: Fd, { fd, gsi }: Irqfd): void {
    const target = this.getVm(vm, 'KVM_IRQFD');
    target.deassignIrqfd(this.fds.get(fd, FakeEventfd, 'KVM_IRQFD', 'EINVAL'), gsi);
  }

  vmAssignIoeventfd(vm: Fd, ioeventfd: Ioeventfd): void {
    const target = this.getVm(vm, 'KVM_IOEVENTFD');
    target.assignIoeventfd(this.fds.get(ioeventfd.fd, FakeEventfd, 'KVM_IOEVENTFD', 'EINVAL'), ioeventfd);
  }

  vmDeassignIoeventfd(vm: Fd, ioeventfd: Ioeventfd): void {
    const target = this.getVm(vm, 'KVM_IOEVENTFD');
    target.deassignIoeventfd(this.fds.get(ioeventfd.fd, FakeEventfd, 'KVM_IOEVENTFD', 'EINVAL'), ioeventfd);
  }

  vmIrqLine(vm: Fd, gsi: Gsi, level: boolean): void {
    this.getVm(vm, 'KVM_IRQ_LINE').setLine(gsi, level);
  }

  vmSignalMsi(vm: Fd, addressLo: number, addressHi: number, data: number): number {
    this.getVm(vm, 'KVM_SIGNAL_MSI').signalMsi(addressLo, addressHi, data);
    return 1;
  }

  // ---- KVM_DEV_TYPE_VFIO --------------------------------------------------------------------------------------

  vmCreateDevice(vm: Fd, _type: 'vfio'): Fd {
    const target = this.getVm(vm, 'KVM_CREATE_DEVICE');
    if (target.hasVfioDevice) throw kernelError('KVM_CREATE_DEVICE', 'EBUSY');
    target.hasVfioDevice = true;
    return this.fds.install(new KvmVfioDevice(target));
  }

  kvmVfioAddFile(device: Fd, file: Fd): void {
    const call = 'KVM_DEV_VFIO_FILE_ADD';
    const target = this.fds.get(device, KvmVfioDevice, call);
    const opened = this.fds.get(file, OpenFile, call);
    if (!this.isVfioFile(opened)) throw kernelError(call, 'EINVAL');
    if (target.files.has(opened)) throw kernelError(call, 'EEXIST');
    opened.hold();
    target.files.add(opened);
  }

  kvmVfioDeleteFile(device: Fd, file: Fd): void {
    const call = 'KVM_DEV_VFIO_FILE_DEL';
    const target = this.fds.get(device, KvmVfioDevice, call);
    const opened = this.fds.get(file, OpenFile, call);
    if (!target.files.delete(opened)) throw kernelError(call, 'ENOENT');
    opened.drop();
  }

  // ---- vCPUs --------------------------------------------------------------------------------------------------

  vmCreateVcpu(vm: Fd, index: number): Fd {
    const target = this.getVm(vm, 'KVM_CREATE_VCPU');
    if (this.vcpus.some((each) => each.vm === target && each.index === index)) {
      throw kernelError('KVM_CREATE_VCPU', 'EEXIST');
    }
    target.vcpuCount++;
    const vcpu = new FakeVcpu(target, index);
    this.vcpus.push(vcpu);
    return this.fds.install(vcpu);
  }

  vcpuMapRun(kvm: Fd, vcpu: Fd): { readonly hva: Hva; readonly sizeBytes: number } {
    this.fds.get(kvm, FakeKvmFd, 'KVM_GET_VCPU_MMAP_SIZE');
    const hva = this.memory.mapAnonymous(RUN_BYTES);
    this.getVcpu(vcpu, 'mmap').run = hva;
    return { hva, sizeBytes: RUN_BYTES };
  }

  private getVcpu(fd: Fd, syscall: string): FakeVcpu {
    return this.fds.get(fd, FakeVcpu, syscall);
  }

  /** The run page of a vCPU, undefined before vcpuMapRun and after unmap. */
  private runPage(vcpu: FakeVcpu): DataView | undefined {
    if (vcpu.run === undefined || !this.memory.isMapped(vcpu.run, RUN_BYTES)) return undefined;
    return new DataView(this.memory.view(vcpu.run, RUN_BYTES));
  }

  vcpuSetCpuid(vcpu: Fd, entries: readonly CpuidEntry[]): void {
    this.getVcpu(vcpu, 'KVM_SET_CPUID2').cpuid = entries.map((entry) => ({ ...entry }));
  }

  vcpuGetRegs(vcpu: Fd): GeneralRegisters {
    return { ...this.getVcpu(vcpu, 'KVM_GET_REGS').registers };
  }

  vcpuSetRegs(vcpu: Fd, registers: GeneralRegisters): void {
    this.getVcpu(vcpu, 'KVM_SET_REGS').registers = { ...registers };
  }

  vcpuGetSregs(vcpu: Fd): SystemRegisters {
    return structuredClone(this.getVcpu(vcpu, 'KVM_GET_SREGS').systemRegisters);
  }

  vcpuSetSregs(vcpu: Fd, registers: SystemRegisters): void {
    this.getVcpu(vcpu, 'KVM_SET_SREGS').systemRegisters = structuredClone(registers);
  }

  vcpuGetMsrs(vcpu: Fd, indices: readonly number[]): Msr[] {
    const { msrs } = this.getVcpu(vcpu, 'KVM_GET_MSRS');
    return indices.map((index) => ({ index, value: msrs.get(index) ?? 0n }));
  }

  vcpuSetMsrs(vcpu: Fd, msrs: readonly Msr[]): void {
    const target = this.getVcpu(vcpu, 'KVM_SET_MSRS');
    for (const { index, value } of msrs) target.msrs.set(index, value);
  }

  vcpuSetTscKhz(vcpu: Fd, kilohertz: number): void {
    this.getVcpu(vcpu, 'KVM_SET_TSC_KHZ').tscKhz = kilohertz || HOST_TSC_KHZ;
  }

  vcpuNmi(vcpu: Fd): void {
    this.getVcpu(vcpu, 'KVM_NMI').nmis++;
  }

  vcpuClockPaused(vcpu: Fd): void {
    this.getVcpu(vcpu, 'KVM_KVMCLOCK_CTRL').clockPauses++;
  }

  /** Plays the next scripted exit; -EINTR when kicked, or when none is left. */
  vcpuRun(vcpu: Fd): number {
    const target = this.fds.find(vcpu);
    const page = target instanceof FakeVcpu ? this.runPage(target) : undefined;
    if (!(target instanceof FakeVcpu) || page === undefined) return -ERRNO.EBADF!;
    if (page.getUint8(1) !== 0) return -ERRNO.EINTR!;
    return target.exits.shift()?.(page) ?? -ERRNO.EINTR!;
  }

  vcpuKick(vcpu: Fd): void {
    const target = this.getVcpu(vcpu, 'vcpuKick');
    const page = this.runPage(target);
    if (page === undefined) throw kernelError('vcpuKick', 'EBADF');
    target.kicks++;
    page.setUint8(1, 1);
  }
}
