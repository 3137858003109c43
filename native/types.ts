/**
 * The one seam to the kernel. Every ioctl, mmap, eventfd and sysfs access of Causeway is a method here.
 * Two implementations stand behind it: the addon (`native/index.ts`) and the scripted kernel of the tests (`native/fake/`).
 *
 * Conventions: a failing call throws {@link KernelError} unless its doc says that it returns `-errno` (the calls of the
 * vCPU loop, which must not allocate). Addresses and sizes are JS numbers: all of them are below 2^53. 64-bit
 * registers are bigints.
 */

declare const brand: unique symbol;
type Branded<T, Name extends string> = T & { readonly [brand]: Name };

/** A file descriptor of this process. */
export type Fd = Branded<number, 'Fd'>;
/** Guest-physical address, bytes. */
export type Gpa = Branded<number, 'Gpa'>;
/** Host-virtual address in this process, bytes. */
export type Hva = Branded<number, 'Hva'>;
/** I/O virtual address as a device sees it, bytes. */
export type Iova = Branded<number, 'Iova'>;
/** Global system interrupt of one VM. */
export type Gsi = Branded<number, 'Gsi'>;
/** `0000:01:00.0`: domain, bus, device, function of the host. */
export type HostBdf = Branded<string, 'HostBdf'>;

/** Width of one access, bytes. */
export type Width = 1 | 2 | 4 | 8;

/** What a failing kernel call throws. The layers above wrap it into an error that says what to do. */
export interface KernelError extends Error {
  readonly name: 'KernelError';
  /** Symbolic errno, for example `EBUSY`. */
  readonly code: string;
  /** Positive errno. */
  readonly errno: number;
  /** The call that failed, for example `VFIO_IOMMU_MAP_DMA`. */
  readonly syscall: string;
  /** The file concerned, if the call had one. */
  readonly path?: string;
}

/** One entry of KVM_SET_CPUID2 (struct kvm_cpuid_entry2). All values are unsigned 32-bit. */
export interface CpuidEntry {
  function: number;
  index: number;
  flags: number;
  eax: number;
  ebx: number;
  ecx: number;
  edx: number;
}

export interface Msr {
  readonly index: number;
  readonly value: bigint;
}

/** struct kvm_regs. */
export interface GeneralRegisters {
  rax: bigint;
  rbx: bigint;
  rcx: bigint;
  rdx: bigint;
  rsi: bigint;
  rdi: bigint;
  rsp: bigint;
  rbp: bigint;
  r8: bigint;
  r9: bigint;
  r10: bigint;
  r11: bigint;
  r12: bigint;
  r13: bigint;
  r14: bigint;
  r15: bigint;
  rip: bigint;
  rflags: bigint;
}

/** struct kvm_segment. */
export interface Segment {
  base: bigint;
  limit: number;
  selector: number;
  type: number;
  present: number;
  dpl: number;
  db: number;
  s: number;
  l: number;
  g: number;
  avl: number;
  unusable: number;
}

/** struct kvm_dtable. */
export interface DescriptorTable {
  base: bigint;
  limit: number;
}

/** struct kvm_sregs, without the pending-interrupt bitmap. */
export interface SystemRegisters {
  cs: Segment;
  ds: Segment;
  es: Segment;
  fs: Segment;
  gs: Segment;
  ss: Segment;
  tr: Segment;
  ldt: Segment;
  gdt: DescriptorTable;
  idt: DescriptorTable;
  cr0: bigint;
  cr2: bigint;
  cr3: bigint;
  cr4: bigint;
  cr8: bigint;
  efer: bigint;
  apicBase: bigint;
}

/** One entry of KVM_SET_GSI_ROUTING. */
export type GsiRoute =
  | { readonly kind: 'irqchip'; readonly gsi: Gsi; readonly chip: 0 | 1 | 2; readonly pin: number }
  | {
      readonly kind: 'msi';
      readonly gsi: Gsi;
      readonly addressLo: number;
      readonly addressHi: number;
      readonly data: number;
    };

/** KVM_IRQFD. `resampleFd` makes it level-triggered: KVM signals that fd when the guest ends the interrupt. */
export interface Irqfd {
  readonly fd: Fd;
  readonly gsi: Gsi;
  readonly resampleFd?: Fd;
}

/** KVM_IOEVENTFD. */
export interface Ioeventfd {
  readonly fd: Fd;
  readonly space: 'port' | 'memory';
  readonly address: number;
  /** Width of the store that matches, bytes; 0 matches any width (memory only). */
  readonly width: 0 | Width;
  readonly datamatch?: bigint;
}

/** Where the addon shall place a mapping: at an address congruent to `phase` modulo `align`. */
export interface MapAlignment {
  /** Power of two, bytes. */
  readonly align: number;
  /** Wanted remainder of the HVA modulo `align`, bytes. */
  readonly phase: number;
}

/** VFIO_DEVICE_SET_IRQS. `data` decides the DATA flag: null = NONE, Uint8Array = BOOL, Int32Array = EVENTFD (fds, -1 = none). */
export interface VfioIrqSet {
  readonly index: number;
  readonly start: number;
  readonly count: number;
  readonly action: 'trigger' | 'mask' | 'unmask';
  readonly data: null | Uint8Array | Int32Array;
}

/** What {@link HostFiles.readOwnedFile} read. */
export interface OwnedFile {
  readonly bytes: Uint8Array;
  readonly uid: number;
  /** Permission bits, as in stat(2). */
  readonly mode: number;
}

/** Files, directories and links of the host, mostly in sysfs and procfs. */
export interface HostFiles {
  /** @throws KernelError with `path` */
  readFile(path: string): Uint8Array;
  /** Writes in one write(2), as sysfs wants. @throws KernelError with `path` */
  writeFile(path: string, text: string): void;
  /**
   * A file with its owner and permission bits, all of the one file that was opened, so that nobody can change it in between.
   * @throws KernelError with `path`
   */
  readOwnedFile(path: string): OwnedFile;
  readDir(path: string): string[];
  readLink(path: string): string;
  exists(path: string): boolean;
  /** access(2) with R_OK|W_OK or R_OK; returns 0 or -errno. */
  access(path: string, mode: 'r' | 'rw'): number;
}

export interface FileDescriptors {
  /** open(2) with O_CLOEXEC. @throws KernelError with `path` */
  open(path: string, mode: 'r' | 'rw'): Fd;
  close(fd: Fd): void;
  dup(fd: Fd): Fd;
  /** One pread(2) of exactly `width` bytes into `bytes[at]`. Returns 0 or -errno (-EIO when short). For the vCPU loop. */
  pread(fd: Fd, offset: number, bytes: Uint8Array, at: number, width: number): number;
  /** One pwrite(2) of exactly `width` bytes from `bytes[at]`. Returns 0 or -errno (-EIO when short). For the vCPU loop. */
  pwrite(fd: Fd, offset: number, bytes: Uint8Array, at: number, width: number): number;
  /**
   * Fills `bytes` from `offset` by as few pread(2) as the kernel takes. Returns 0 or -errno (-EIO when the file ends
   * before). For what is read as a whole: a device sees accesses of the kernel's choice.
   */
  readAll(fd: Fd, offset: number, bytes: Uint8Array): number;
  /** eventfd(2), close-on-exec, non-blocking. */
  eventfd(): Fd;
  /** Adds `count` to an eventfd. */
  eventfdSignal(fd: Fd, count: number): void;
  /** Takes an eventfd's count and leaves 0. Returns 0 when nothing was pending. */
  eventfdTake(fd: Fd): number;
  /** poll(2) for POLLIN with no wait: tells without taking. */
  isReadable(fd: Fd): boolean;
  /**
   * Watches an eventfd: whenever it is signalled, its count is taken and `listener` is called on the calling thread's
   * event loop. One epoll thread serves all; signals that arrive before the listener ran are added up. A watch keeps
   * the event loop alive only when `keepAlive` is true.
   */
  watch(fd: Fd, listener: (count: number) => void, keepAlive?: boolean): void;
  /** Ends a watch; no listener call happens after it returns. Unwatched fds are ignored. */
  unwatch(fd: Fd): void;
}

export interface Memory {
  /** memfd_create(2) of `sizeBytes`, sealed against shrinking; `hugePageBytes` 0, 2 MiB or 1 GiB. */
  memfd(name: string, sizeBytes: number, hugePageBytes: number): Fd;
  /** MAP_SHARED mapping of a file or device, read-write, MADV_DONTFORK. The addon keeps a record of it. */
  map(fd: Fd, offset: number, sizeBytes: number, alignment?: MapAlignment): Hva;
  /**
   * Anonymous private memory, zeroed, read-write, MADV_DONTFORK. With an alignment the kernel is also asked for
   * transparent huge pages.
   */
  mapAnonymous(sizeBytes: number, alignment?: MapAlignment): Hva;
  /**
   * An ArrayBuffer over part of a recorded mapping, at most 4 GiB. Only for RAM and for `kvm_run` pages, never for
   * device BARs: JS promises nothing about access width.
   */
  view(hva: Hva, sizeBytes: number): ArrayBuffer;
  /**
   * Detaches this thread's views of the mapping (they become length 0) and unmaps once no thread holds one.
   * A second call is ignored.
   */
  unmap(hva: Hva): void;
  /**
   * MADV_DONTNEED: takes the pages of a range out of this process; an access brings them back. Only for mappings of
   * files that were never written to: what else they held is lost.
   */
  dropPages(start: Hva, sizeBytes: number): void;
  /** One volatile access of exactly `width` to a recorded mapping of a device BAR. */
  mmioRead(hva: Hva, offset: number, width: Width): bigint;
  mmioWrite(hva: Hva, offset: number, width: Width, value: bigint): void;
}

export interface Kvm {
  /** KVM_GET_API_VERSION of an fd of /dev/kvm. */
  kvmApiVersion(kvm: Fd): number;
  /** KVM_CHECK_EXTENSION, on /dev/kvm or a VM. */
  kvmCheckExtension(fd: Fd, capability: number): number;
  kvmGetSupportedCpuid(kvm: Fd): CpuidEntry[];
  /** KVM_CREATE_VM. */
  kvmCreateVm(kvm: Fd): Fd;
  vmSetTssAddress(vm: Fd, gpa: Gpa): void;
  vmSetIdentityMapAddress(vm: Fd, gpa: Gpa): void;
  /** KVM_CREATE_IRQCHIP: the full chip (PIC, IOAPIC, LAPICs). */
  vmCreateIrqchip(vm: Fd): void;
  /** KVM_CREATE_PIT2 with a dummy speaker port. */
  vmCreatePit(vm: Fd): void;
  vmEnableCap(vm: Fd, capability: number, args: readonly number[]): void;
  /** KVM_SET_USER_MEMORY_REGION; size 0 deletes the slot. */
  vmSetMemorySlot(vm: Fd, slot: number, gpa: Gpa, sizeBytes: number, hva: Hva, readonly: boolean): void;
  /** KVM_SET_GSI_ROUTING: replaces the whole table. */
  vmSetGsiRouting(vm: Fd, routes: readonly GsiRoute[]): void;
  vmAssignIrqfd(vm: Fd, irqfd: Irqfd): void;
  vmDeassignIrqfd(vm: Fd, irqfd: Irqfd): void;
  vmAssignIoeventfd(vm: Fd, ioeventfd: Ioeventfd): void;
  vmDeassignIoeventfd(vm: Fd, ioeventfd: Ioeventfd): void;
  /** KVM_IRQ_LINE. */
  vmIrqLine(vm: Fd, gsi: Gsi, level: boolean): void;
  /** KVM_SIGNAL_MSI. Returns how many vCPUs got it, 0 when blocked by the guest. */
  vmSignalMsi(vm: Fd, addressLo: number, addressHi: number, data: number): number;
  /** KVM_CREATE_DEVICE. `vfio` is KVM_DEV_TYPE_VFIO. */
  vmCreateDevice(vm: Fd, type: 'vfio'): Fd;
  /** KVM_DEV_VFIO_FILE_ADD of a group or device fd. */
  kvmVfioAddFile(device: Fd, file: Fd): void;
  kvmVfioDeleteFile(device: Fd, file: Fd): void;
  /** KVM_CREATE_VCPU; `index` is also the APIC ID. */
  vmCreateVcpu(vm: Fd, index: number): Fd;
  /** Maps the vCPU's `kvm_run` area and records it for {@link Kvm.vcpuKick}. Its size is that of `view`. */
  vcpuMapRun(kvm: Fd, vcpu: Fd): { readonly hva: Hva; readonly sizeBytes: number };
  vcpuSetCpuid(vcpu: Fd, entries: readonly CpuidEntry[]): void;
  vcpuGetRegs(vcpu: Fd): GeneralRegisters;
  vcpuSetRegs(vcpu: Fd, registers: GeneralRegisters): void;
  vcpuGetSregs(vcpu: Fd): SystemRegisters;
  vcpuSetSregs(vcpu: Fd, registers: SystemRegisters): void;
  vcpuGetMsrs(vcpu: Fd, indices: readonly number[]): Msr[];
  /** @throws KernelError EINVAL naming the first MSR that the kernel refused */
  vcpuSetMsrs(vcpu: Fd, msrs: readonly Msr[]): void;
  /**
   * KVM_SET_TSC_KHZ.
   * @param kilohertz 0 for that of the host's, as the host measures it now (kvm_arch_vcpu_ioctl, arch/x86/kvm/x86.c)
   * @throws KernelError EINVAL of a rate that the host cannot give
   */
  vcpuSetTscKhz(vcpu: Fd, kilohertz: number): void;
  vcpuNmi(vcpu: Fd): void;
  /** KVM_KVMCLOCK_CTRL: tells the guest that it was stopped, so that its watchdogs keep quiet. */
  vcpuClockPaused(vcpu: Fd): void;
  /** KVM_RUN on the calling thread. Returns 0 or -errno (-EINTR when kicked). For the vCPU loop. */
  vcpuRun(vcpu: Fd): number;
  /**
   * Makes a present or coming `vcpuRun` of that vCPU return: sets `immediate_exit` and signals its thread.
   * From any thread. The vCPU's thread clears `immediate_exit` (byte 1 of kvm_run) before it runs again.
   */
  vcpuKick(vcpu: Fd): void;
}

export interface Vfio {
  vfioApiVersion(container: Fd): number;
  vfioCheckExtension(container: Fd, extension: number): boolean;
  vfioSetIommu(container: Fd, type: number): void;
  /** Raw struct vfio_iommu_type1_info with its capability chain, re-queried once with the size that the kernel asked for. */
  vfioIommuInfo(container: Fd): Uint8Array;
  /** VFIO_GROUP_GET_STATUS flags: 1 viable, 2 container set. */
  vfioGroupStatus(group: Fd): number;
  vfioGroupSetContainer(group: Fd, container: Fd): void;
  vfioGroupUnsetContainer(group: Fd): void;
  /** @param name BDF, optionally followed by ` vf_token=UUID` */
  vfioGroupGetDevice(group: Fd, name: string): Fd;
  /** Raw struct vfio_device_info with its capability chain. */
  vfioDeviceInfo(device: Fd): Uint8Array;
  /** Raw struct vfio_region_info with its capability chain. */
  vfioRegionInfo(device: Fd, index: number): Uint8Array;
  vfioIrqInfo(device: Fd, index: number): { readonly flags: number; readonly count: number };
  /**
   * VFIO_DEVICE_SET_IRQS. Returns what the ioctl returned: 0, or, when fewer vectors are to be had than were asked
   * for, that positive number, and then nothing was enabled.
   */
  vfioSetIrqs(device: Fd, set: VfioIrqSet): number;
  vfioDeviceReset(device: Fd): void;
  /** Raw struct vfio_pci_hot_reset_info with its array of dependent devices. */
  vfioHotResetInfo(device: Fd): Uint8Array;
  /** @param groups fds that prove ownership; none for a device that was opened by its own file */
  vfioHotReset(device: Fd, groups: readonly Fd[]): void;
  /** VFIO_DEVICE_FEATURE. `payload` is what follows the 8-byte header; a GET fills it. */
  vfioDeviceFeature(device: Fd, flags: number, payload: Uint8Array): void;
  /** VFIO_IOMMU_MAP_DMA, readable and writable by the device. */
  vfioMapDma(container: Fd, hva: Hva, iova: Iova, sizeBytes: number): void;
  /** VFIO_IOMMU_UNMAP_DMA. Returns the bytes unmapped. */
  vfioUnmapDma(container: Fd, iova: Iova, sizeBytes: number): number;
}

/** iommufd, and VFIO devices opened by their own files in /dev/vfio/devices. */
export interface Iommufd {
  /** IOMMU_IOAS_ALLOC: an empty address space of IOVAs. Returns its id. */
  iommufdAllocIoas(iommufd: Fd): number;
  /** IOMMU_DESTROY of any object that nothing uses. */
  iommufdDestroy(iommufd: Fd, id: number): void;
  /**
   * IOMMU_IOAS_IOVA_RANGES, re-queried once with the number that the kernel asked for. `ranges` is the raw array of
   * struct iommu_iova_range. They shrink when a device is attached.
   */
  iommufdIovaRanges(iommufd: Fd, ioas: number): { readonly alignmentBytes: number; readonly ranges: Uint8Array };
  /** IOMMU_IOAS_MAP at a fixed IOVA, readable and writable by the device. */
  iommufdMap(iommufd: Fd, ioas: number, hva: Hva, iova: Iova, sizeBytes: number): void;
  /** IOMMU_IOAS_UNMAP. Returns the bytes unmapped. @throws KernelError ENOENT when nothing was mapped there */
  iommufdUnmap(iommufd: Fd, ioas: number, iova: Iova, sizeBytes: number): number;
  /**
   * VFIO_DEVICE_BIND_IOMMUFD: opens the device behind a file of /dev/vfio/devices; before it every other call on the
   * file is EINVAL. Returns the device's id.
   * @param token 16 bytes of a UUID, see VFIO_DEVICE_BIND_FLAG_TOKEN; kernels before 6.17 answer EINVAL to any
   */
  vfioBindIommufd(device: Fd, iommufd: Fd, token?: Uint8Array): number;
  /** VFIO_DEVICE_ATTACH_IOMMUFD_PT: the device's DMA goes through this address space. Returns the id of the page table. */
  vfioAttachIoas(device: Fd, ioas: number): number;
  /** VFIO_DEVICE_DETACH_IOMMUFD_PT: all DMA of the device is blocked. */
  vfioDetachIoas(device: Fd): void;
}

export interface Process {
  readonly pageSizeBytes: number;
  /** RLIMIT_MEMLOCK and RLIMIT_NOFILE; Infinity when unlimited. */
  resourceLimit(which: 'memlock' | 'nofile'): { readonly soft: number; readonly hard: number };
  /** Raises a soft limit up to the hard one (or beyond, with privilege). */
  setResourceLimit(which: 'memlock' | 'nofile', soft: number, hard: number): void;
  /** Sizes and field offsets of the C structs that TypeScript decodes, by `struct` or `struct.field`, as the addon's compiler sees them. */
  structLayout(): Readonly<Record<string, number>>;
}

/** Everything. Each layer asks for the part that it needs. */
export interface Native extends HostFiles, FileDescriptors, Memory, Kvm, Vfio, Iommufd, Process {}
