/**
 * Numbers of the KVM ABI that TypeScript decodes itself (include/uapi/linux/kvm.h, x86). Offsets are compared with the
 * compiler's at test time, see `structLayout`.
 */

/** Offsets in struct kvm_run, bytes. */
export const KVM_RUN = {
  requestInterruptWindow: 0,
  immediateExit: 1,
  exitReason: 8,
  io: { direction: 32, size: 33, port: 34, count: 36, dataOffset: 40 },
  mmio: { physAddr: 32, data: 40, len: 48, isWrite: 52 },
  failEntry: { hardwareEntryFailureReason: 32 },
  internal: { suberror: 32 },
  systemEvent: { type: 32 },
  hw: { hardwareExitReason: 32 },
} as const;

export const KVM_EXIT = {
  UNKNOWN: 0,
  EXCEPTION: 1,
  IO: 2,
  HYPERCALL: 3,
  DEBUG: 4,
  HLT: 5,
  MMIO: 6,
  IRQ_WINDOW_OPEN: 7,
  SHUTDOWN: 8,
  FAIL_ENTRY: 9,
  INTR: 10,
  INTERNAL_ERROR: 17,
  SYSTEM_EVENT: 24,
} as const;

export const KVM_EXIT_IO_IN = 0;
export const KVM_EXIT_IO_OUT = 1;

/** Arguments of KVM_CAP_X2APIC_API. */
export const KVM_X2APIC_API = { USE_32BIT_IDS: 1, DISABLE_BROADCAST_QUIRK: 2 } as const;

export const KVM_CAP = {
  IRQCHIP: 0,
  USER_MEMORY: 3,
  SET_TSS_ADDR: 4,
  EXT_CPUID: 7,
  NR_VCPUS: 9,
  NR_MEMSLOTS: 10,
  IRQ_ROUTING: 25,
  IRQFD: 32,
  PIT2: 33,
  SET_BOOT_CPU_ID: 34,
  IOEVENTFD: 36,
  SET_IDENTITY_MAP_ADDR: 37,
  ADJUST_CLOCK: 39,
  MAX_VCPUS: 66,
  KVMCLOCK_CTRL: 76,
  SIGNAL_MSI: 77,
  READONLY_MEM: 81,
  IRQFD_RESAMPLE: 82,
  X2APIC_API: 129,
  IMMEDIATE_EXIT: 136,
} as const;
