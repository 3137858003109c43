/** The error of every layer: one base class, stable codes, and a hint that says what to do next. */
import type { HostBdf, KernelError } from '../../native/types.ts';

/** Exit codes of the command line. After a signal it is 128 plus the signal's number, as in a shell. */
export const EXIT_CODE = {
  /** The guest powered off. */
  ok: 0,
  /** Causeway itself failed: a defect or an unexpected error of the kernel. */
  internal: 1,
  /** The command line is wrong. */
  usage: 2,
  /** This host cannot do it: no KVM, no IOMMU, no permission, a limit too low. */
  host: 3,
  /** The configuration or a file that it names is wrong. */
  config: 4,
  /** The guest died: panic, triple fault with reboots off, an instruction that KVM cannot emulate. */
  guest: 5,
  /** The guest rebooted more often than allowed. */
  rebootLimit: 6,
  /** The assigned device cannot be used, or was lost. */
  device: 7,
  /** The guest wrote a value other than 0 to the debug-exit port; the value itself is reported, not squeezed in here. */
  debugExit: 64,
  timeout: 124,
  interrupted: 130,
} as const;

export type ExitCodeName = keyof typeof EXIT_CODE;

/** Every stable error code, with the exit code it leads to and what it means. `docs/errors.md` is generated from it. */
export const ERROR_CODES = {
  USAGE: { exit: 'usage', meaning: 'The command line is wrong.' },
  CONFIG_INVALID: {
    exit: 'config',
    meaning: 'The VM configuration has faults; all of them are listed, each with its path.',
  },
  KERNEL_NOT_FOUND: { exit: 'config', meaning: 'The kernel image cannot be read.' },
  KERNEL_INVALID: { exit: 'config', meaning: 'The kernel image is neither a bzImage nor an x86-64 ELF kernel.' },
  INITRD_NOT_FOUND: { exit: 'config', meaning: 'The initrd cannot be read.' },
  INITRD_TOO_BIG: { exit: 'config', meaning: 'The initrd does not fit into guest memory beside the kernel.' },
  CMDLINE_TOO_LONG: { exit: 'config', meaning: 'The kernel command line is longer than the kernel accepts.' },
  MEMORY_TOO_SMALL: { exit: 'config', meaning: 'Guest memory is too small for what has to be loaded.' },
  MEMORY_UNAVAILABLE: { exit: 'host', meaning: 'The host cannot give that much memory.' },
  KVM_MISSING: { exit: 'host', meaning: '/dev/kvm does not exist.' },
  KVM_PERMISSION: { exit: 'host', meaning: '/dev/kvm may not be opened.' },
  KVM_UNSUPPORTED: { exit: 'host', meaning: "The kernel's KVM lacks something that Causeway needs." },
  ADDON_MISSING: { exit: 'host', meaning: 'The native addon is not built or does not load.' },
  DEVICE_NOT_FOUND: { exit: 'device', meaning: 'No PCI device has that address.' },
  DEVICE_NOT_ENDPOINT: { exit: 'device', meaning: 'The address is that of a bridge, not of an endpoint.' },
  DEVICE_NOT_BOUND: { exit: 'device', meaning: 'The device is still on its host driver, or on none.' },
  DEVICE_BUSY: { exit: 'device', meaning: "Another process holds the device's IOMMU group." },
  DEVICE_IN_USE: { exit: 'device', meaning: 'The host itself depends on the device: a default route, a mounted disk.' },
  DEVICE_UNSUPPORTED: { exit: 'device', meaning: 'VFIO or Causeway cannot assign this device.' },
  DEVICE_LOST: { exit: 'device', meaning: 'The device stopped answering.' },
  DEVICE_RESET_FAILED: { exit: 'device', meaning: 'The device could not be reset.' },
  SRIOV_FAILED: { exit: 'device', meaning: 'The virtual functions of a device cannot be made or removed.' },
  IOMMU_MISSING: { exit: 'host', meaning: 'The device has no IOMMU group: the IOMMU is off or absent.' },
  IRQ_REMAPPING_MISSING: { exit: 'host', meaning: 'The platform does not isolate interrupts.' },
  GROUP_NOT_VIABLE: { exit: 'device', meaning: 'A neighbour in the IOMMU group is still used by a host driver.' },
  VFIO_MISSING: { exit: 'host', meaning: 'The VFIO modules are not loaded.' },
  VFIO_PERMISSION: { exit: 'host', meaning: 'The VFIO group may not be opened.' },
  VF_TOKEN_REQUIRED: { exit: 'device', meaning: 'The physical function is held through VFIO with a token.' },
  MEMLOCK_TOO_LOW: { exit: 'host', meaning: 'RLIMIT_MEMLOCK does not allow guest memory to be pinned for DMA.' },
  DMA_MAP_FAILED: { exit: 'host', meaning: 'Guest memory could not be mapped for the device.' },
  BAR_NO_SPACE: { exit: 'device', meaning: "The device's BARs do not fit into the guest's windows." },
  TOO_MANY_DEVICES: { exit: 'config', meaning: "More devices than the guest's bus has room for." },
  PORT_UNAVAILABLE: { exit: 'config', meaning: 'No root port of the guest is there, or free, for the device.' },
  GUEST_CRASHED: { exit: 'guest', meaning: 'The guest did something that KVM cannot carry on from.' },
  REBOOT_LIMIT: { exit: 'rebootLimit', meaning: 'The guest rebooted more often than allowed.' },
  TIMEOUT: { exit: 'timeout', meaning: 'The time allowed ran out.' },
  ABORTED: { exit: 'interrupted', meaning: 'The run was aborted by its caller.' },
  CONTROL_UNAVAILABLE: { exit: 'host', meaning: 'The control socket cannot be made, or nobody answers on it.' },
  STATE: { exit: 'internal', meaning: 'The call does not fit the state of the object.' },
  INTERNAL: { exit: 'internal', meaning: 'An unexpected failure; please report it.' },
} as const satisfies Record<string, { exit: ExitCodeName; meaning: string }>;

export type ErrorCode = keyof typeof ERROR_CODES;

/** What an error may carry beside code and message. */
export interface ErrorDetails {
  /** One sentence that says what to do next, with the command where there is one. */
  readonly hint?: string;
  readonly cause?: unknown;
  readonly path?: string;
  readonly bdf?: HostBdf;
  /** Every fault of a configuration. */
  readonly issues?: readonly ConfigIssue[];
}

/** One fault of a configuration. */
export interface ConfigIssue {
  /** Where: `devices[1].bdf`; empty for the whole. */
  readonly path: string;
  readonly message: string;
}

const BRAND = Symbol.for('causeway.error');

/** Thrown by everything that Causeway exports. Check with {@link isCausewayError}: it holds across two copies of the package. */
export class CausewayError extends Error {
  override readonly name = 'CausewayError';
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly path: string | undefined;
  readonly bdf: HostBdf | undefined;
  /** Positive errno and name of the failing call, when a kernel call was the cause. */
  readonly errno: number | undefined;
  readonly syscall: string | undefined;
  readonly issues: readonly ConfigIssue[] | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    const kernel = isKernelError(details.cause) ? details.cause : undefined;
    this.code = code;
    this.hint = details.hint;
    this.path = details.path ?? kernel?.path;
    this.bdf = details.bdf;
    this.errno = kernel?.errno;
    this.syscall = kernel?.syscall;
    this.issues = details.issues;
    Object.defineProperty(this, BRAND, { value: true });
  }

  /** Exit code of the command line for this error. */
  get exitCode(): number {
    return EXIT_CODE[ERROR_CODES[this.code].exit];
  }

  /** What `--json` prints. */
  toJSON(): Record<string, unknown> {
    const { code, message, hint, path, bdf, errno, syscall, issues } = this;
    return { code, message, hint, path, bdf, errno, syscall, issues };
  }
}

export function isCausewayError(value: unknown): value is CausewayError {
  return typeof value === 'object' && value !== null && BRAND in value;
}

/** True for what the native layer throws when a kernel call fails. */
export function isKernelError(value: unknown): value is KernelError {
  return value instanceof Error && value.name === 'KernelError' && 'errno' in value;
}

/** True when `error` is a kernel error with one of these symbolic codes. */
export function hasErrno(error: unknown, ...codes: string[]): error is KernelError {
  return isKernelError(error) && codes.includes(error.code);
}
