/**
 * A scripted kernel in memory: implements the whole seam, keeps the kernel's rules, writes a journal and injects
 * faults. Tests of the layers above run on it without a device, without /dev/kvm and without root.
 */

import type { Fd, FileDescriptors, HostFiles, Hva, Iommufd, Kvm, Memory, Native, Process, Vfio } from '../types.ts';
import { FakeDevice } from './fake-device.ts';
import { FakeDeviceFile } from './fake-device-file.ts';
import { FakeFds } from './fake-fds.ts';
import { FakeFiles } from './fake-files.ts';
import { FakeIommufd } from './fake-iommufd.ts';
import { FakeKvm, FakeKvmFd } from './fake-kvm.ts';
import { FakeMemory } from './fake-memory.ts';
import { FakePciBus } from './fake-pci-bus.ts';
import { FakeProcess } from './fake-process.ts';
import { FakeGroupFile, FakeVfio } from './fake-vfio.ts';
import { Journal, type JournalEntry } from './journal.ts';
import type { FakePciSpec } from './pci-spec.ts';

const FILE_CALLS = ['readFile', 'readOwnedFile', 'writeFile', 'readDir', 'readLink', 'exists', 'access'] as const;
const FD_CALLS = [
  ...(['open', 'close', 'dup', 'pread', 'readAll', 'pwrite', 'eventfd', 'eventfdSignal', 'eventfdTake'] as const),
  ...(['isReadable', 'watch', 'unwatch'] as const),
] as const;
const MEMORY_CALLS = ['memfd', 'map', 'mapAnonymous', 'view', 'unmap', 'dropPages', 'mmioRead', 'mmioWrite'] as const;
const KVM_CALLS = [
  ...(['kvmApiVersion', 'kvmCheckExtension', 'kvmGetSupportedCpuid', 'kvmCreateVm', 'vmSetTssAddress'] as const),
  ...(['vmSetIdentityMapAddress', 'vmCreateIrqchip', 'vmCreatePit', 'vmEnableCap', 'vmSetMemorySlot'] as const),
  ...(['vmSetGsiRouting', 'vmAssignIrqfd', 'vmDeassignIrqfd', 'vmAssignIoeventfd', 'vmDeassignIoeventfd'] as const),
  ...(['vmIrqLine', 'vmSignalMsi', 'vmCreateDevice', 'kvmVfioAddFile', 'kvmVfioDeleteFile'] as const),
  ...(['vmCreateVcpu', 'vcpuMapRun', 'vcpuSetCpuid', 'vcpuGetRegs', 'vcpuSetRegs', 'vcpuGetSregs'] as const),
  ...(['vcpuSetSregs', 'vcpuGetMsrs', 'vcpuSetMsrs', 'vcpuSetTscKhz', 'vcpuNmi', 'vcpuClockPaused'] as const),
  ...(['vcpuRun', 'vcpuKick'] as const),
] as const;
const VFIO_CALLS = [
  ...(['vfioApiVersion', 'vfioCheckExtension', 'vfioSetIommu', 'vfioIommuInfo', 'vfioGroupStatus'] as const),
  ...(['vfioGroupSetContainer', 'vfioGroupUnsetContainer', 'vfioGroupGetDevice', 'vfioDeviceInfo'] as const),
  ...(['vfioRegionInfo', 'vfioIrqInfo', 'vfioSetIrqs', 'vfioDeviceReset', 'vfioHotResetInfo', 'vfioHotReset'] as const),
  ...(['vfioDeviceFeature', 'vfioMapDma', 'vfioUnmapDma'] as const),
] as const;
const IOMMUFD_CALLS = [
  ...(['iommufdAllocIoas', 'iommufdDestroy', 'iommufdIovaRanges', 'iommufdMap', 'iommufdUnmap'] as const),
  ...(['vfioBindIommufd', 'vfioAttachIoas', 'vfioDetachIoas'] as const),
] as const;
const PROCESS_CALLS = ['resourceLimit', 'setResourceLimit', 'structLayout'] as const;

/** Methods of a part, each through the journal. */
function journalled<Part extends object, Name extends keyof Part & string>(
  journal: Journal,
  part: Part,
  names: readonly Name[],
): Pick<Part, Name> {
  const entries = names.map((name) => {
    const method = part[name];
    if (typeof method !== 'function') throw new Error(`fake kernel: ${name} is no method`);
    return [name, (...args: unknown[]) => journal.run(name, args, () => method.apply(part, args))] as const;
  });
  return Object.fromEntries(entries) as unknown as Pick<Part, Name>;
}

// The methods of the seam are put on each object by the constructor; this names their types once for all.
const Seam: new () => Native = class {} as unknown as new () => Native;

export class FakeKernel extends Seam {
  readonly journalBook: Journal = new Journal();
  readonly files: FakeFiles = new FakeFiles();
  readonly fds: FakeFds = new FakeFds(this.files);
  readonly memory: FakeMemory = new FakeMemory(this.fds);
  readonly kvm: FakeKvm = new FakeKvm(this.fds, this.memory);
  readonly vfio: FakeVfio = new FakeVfio(this.fds, this.memory);
  readonly iommufd: FakeIommufd = new FakeIommufd(this.fds, this.memory, this.vfio);
  readonly process: FakeProcess = new FakeProcess();
  readonly pci: FakePciBus = new FakePciBus(this.files, this.vfio);
  readonly devices: Map<string, FakeDevice> = new Map();

  constructor() {
    super();
    const journal = this.journalBook;
    const files: HostFiles = journalled(journal, this.files, FILE_CALLS);
    const fds: FileDescriptors = journalled(journal, this.fds, FD_CALLS);
    const memory: Memory = journalled(journal, this.memory, MEMORY_CALLS);
    const kvm: Kvm = journalled(journal, this.kvm, KVM_CALLS);
    const vfio: Vfio = journalled(journal, this.vfio, VFIO_CALLS);
    const iommufd: Iommufd = journalled(journal, this.iommufd, IOMMUFD_CALLS);
    const limits: Omit<Process, 'pageSizeBytes'> = journalled(journal, this.process, PROCESS_CALLS);
    Object.assign(this, files, fds, memory, kvm, vfio, iommufd, limits, { pageSizeBytes: this.process.pageSizeBytes });
    this.kvm.isVfioFile = (file) => file instanceof FakeGroupFile || file instanceof FakeDeviceFile;
    this.vfio.memlockBytes = () => this.process.pinnableBytes;
    this.files.addDevice('/dev/kvm', () => new FakeKvmFd());
    this.files.addDevice('/dev/vfio/vfio', () => this.vfio.openContainer());
    this.pci.addDriver('vfio-pci');
    this.pci.createDevice = (spec) => this.addPciDevice(spec);
  }

  /** Everything that was asked, in order. */
  get journal(): JournalEntry[] {
    return this.journalBook.entries;
  }

  /** Names of the calls in order, of some methods only when given; failed ones as `name!EBUSY`. */
  calls(...names: readonly (keyof Native)[]): string[] {
    return this.journalBook.names(...names);
  }

  /** Makes the next matching call of `method` fail with `errno` (a number or a name). */
  failNext(method: keyof Native, errno: number | string, when?: (args: readonly unknown[]) => boolean): void {
    this.journalBook.failNext(method, errno, when);
  }

  /** Adds a PCI function: its sysfs directory, its driver, its group, and what vfio-pci will show of it. */
  addPciDevice(spec: FakePciSpec): FakeDevice {
    const device = new FakeDevice(spec, (fd) => this.fds.find(fd));
    this.devices.set(spec.bdf, device);
    this.pci.add(device);
    return device;
  }

  /** A kernel with IOMMUFD and VFIO_DEVICE_CDEV, unlike Debian's. */
  enableIommufd(): void {
    this.files.addDevice('/dev/iommu', () => this.iommufd.open());
    this.pci.enableCdevs((device) => new FakeDeviceFile(device));
  }

  /** An fd that this process got from its parent: opened by another hand, and its file known from /proc. */
  inheritFd(path: string): Fd {
    const fd = this.fds.open(path, 'rw');
    this.files.addLink(`/proc/self/fd/${fd}`, path);
    return fd;
  }

  /** Delivers pending eventfds to their watches now; else it happens at setImmediate. */
  flush(): void {
    this.fds.flush();
  }

  /** Fds that nobody closed: empty after a clean teardown. */
  openFds(): { fd: Fd; label: string }[] {
    return this.fds.list();
  }

  /** Mappings that nobody unmapped. */
  liveMappings(): { hva: Hva; sizeBytes: number; label: string; offset: number }[] {
    return this.memory.list();
  }
}
