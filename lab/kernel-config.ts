/** The kernel of the iommufd tests: everything that the lab and its tests need is built in, and nothing else. */

/** Options by purpose; the rest is what `make allnoconfig` makes of it. */
const enabled: Readonly<Record<string, readonly string[]>> = {
  'the machine': [
    '64BIT',
    'SMP',
    'PREEMPT_NONE',
    'HIGH_RES_TIMERS',
    'NO_HZ_IDLE',
    'HZ_250',
    'HYPERVISOR_GUEST',
    'PVH',
    'X86_X2APIC',
    'X86_MSR',
    'X86_CPUID',
    'MTRR',
    'X86_PAT',
    'ACPI',
    'PNP',
    'RTC_CLASS',
    'RTC_DRV_CMOS',
  ],
  "what Node, a shell and Debian's file system need": [
    'EXPERT',
    'MULTIUSER',
    'PRINTK',
    'BUG',
    'KALLSYMS',
    'POSIX_TIMERS',
    'FUTEX',
    'EPOLL',
    'SIGNALFD',
    'TIMERFD',
    'EVENTFD',
    'AIO',
    'IO_URING',
    'ADVISE_SYSCALLS',
    'MEMBARRIER',
    'RSEQ',
    'FHANDLE',
    'FILE_LOCKING',
    'SYSVIPC',
    'BINFMT_ELF',
    'BINFMT_SCRIPT',
    'INOTIFY_USER',
    'MAGIC_SYSRQ',
    'TTY',
    'UNIX98_PTYS',
    'SERIAL_8250',
    'SERIAL_8250_CONSOLE',
  ],
  'memory, huge pages included': [
    'SHMEM',
    'TMPFS',
    'TMPFS_XATTR',
    'TMPFS_POSIX_ACL',
    'HUGETLBFS',
    'TRANSPARENT_HUGEPAGE',
    'TRANSPARENT_HUGEPAGE_MADVISE',
    'COMPACTION',
    'MIGRATION',
    'MEMFD_CREATE',
  ],
  'files of the lab: initrd, 9p, overlay': [
    'BLK_DEV_INITRD',
    'RD_GZIP',
    'BLOCK',
    'SYSFS',
    'SYSFS_SYSCALL',
    'PROC_FS',
    'PROC_SYSCTL',
    'PROC_PAGE_MONITOR',
    'DEBUG_FS',
    'DEVTMPFS',
    'OVERLAY_FS',
    'NET_9P',
    'NET_9P_VIRTIO',
    'NETWORK_FILESYSTEMS',
    '9P_FS',
  ],
  virtio: ['VIRTIO_MENU', 'VIRTIO_PCI', 'VIRTIO_PCI_LEGACY', 'VIRTIO_CONSOLE', 'HW_RANDOM', 'HW_RANDOM_VIRTIO'],
  'PCI with hot-plug, errors and SR-IOV; the IOMMU': [
    'PCI',
    'PCI_MSI',
    'PCI_MMCONFIG',
    'PCI_QUIRKS',
    'PCI_IOV',
    'PCIEPORTBUS',
    'PCIEAER',
    'HOTPLUG_PCI',
    'HOTPLUG_PCI_PCIE',
    'IOMMU_SUPPORT',
    'INTEL_IOMMU',
    'INTEL_IOMMU_DEFAULT_ON',
    'IOMMU_DEFAULT_PASSTHROUGH',
    'IRQ_REMAP',
    'AMD_IOMMU',
  ],
  'what all this is for': [
    'VIRTUALIZATION',
    'KVM',
    'KVM_INTEL',
    'KVM_AMD',
    'IOMMUFD',
    'VFIO',
    'VFIO_GROUP',
    'VFIO_CONTAINER',
    'VFIO_DEVICE_CDEV',
    'VFIO_PCI',
    'VFIO_IOMMU_TYPE1',
  ],
  "network, and the host's drivers of the cards that tests assign": [
    'NET',
    'UNIX',
    'PACKET',
    'INET',
    'NETDEVICES',
    'TUN',
    'BRIDGE',
    'NET_CORE',
    'ETHERNET',
    'NET_VENDOR_INTEL',
    'E1000E',
    'IGB',
    'IGBVF',
  ],
};

/** Off although something would turn it on: each costs time, in the build or under emulation. */
const disabled = ['MODULES', 'CPU_MITIGATIONS', 'LOCALVERSION_AUTO', 'INTEL_IOMMU_SVM'];

/** The end of `uname -r`. */
const localVersion = '-causeway-lab';

/** A fragment for `make KCONFIG_ALLCONFIG=... allnoconfig`. */
export function kernelConfig(): string {
  return [
    `CONFIG_LOCALVERSION="${localVersion}"`,
    'CONFIG_NR_CPUS=16',
    // Needs no unwinding tables, which are the slow part of linking.
    'CONFIG_UNWINDER_FRAME_POINTER=y',
    'CONFIG_KERNEL_GZIP=y',
    ...Object.values(enabled).flatMap((names) => names.map((name) => `CONFIG_${name}=y`)),
    ...disabled.map((name) => `# CONFIG_${name} is not set`),
    '',
  ].join('\n');
}

/** Options of the fragment that did not make it into a `.config`. */
export function missingOptions(config: string): string[] {
  const lines = new Set(config.split('\n'));
  return Object.values(enabled)
    .flat()
    .filter((name) => !lines.has(`CONFIG_${name}=y`));
}
