/** What a check found. Plain data, the same on the command line and over the wire. */
import { type CausewayError, type ErrorCode, isKernelError } from '../../vmm/base/errors.ts';

/** `fatal`: it cannot work like this. `warning`: it works, with a drawback. `info`: good to know, or simply in order. */
export type Severity = 'fatal' | 'warning' | 'info';

export interface Evidence {
  /** File, ioctl or measurement. */
  readonly path: string;
  readonly value: string;
}

export interface Fix {
  /** A command, or what to do where no command does it. */
  readonly command: string;
  readonly needsRoot: boolean;
  /** Still holds after a reboot. */
  readonly persistent: boolean;
  /** Takes effect with the next boot only. */
  readonly reboot: boolean;
}

export interface Finding {
  /** `iommu.active`: stable, for scripts. */
  readonly id: string;
  readonly severity: Severity;
  /** `host`, or the address of a device. */
  readonly subject: string;
  readonly evidence: readonly Evidence[];
  readonly explanation: string;
  readonly fix: readonly Fix[];
}

/** Which check an error of the start belongs to. Errors that are not here cannot come from a check. */
const CHECK_OF: Partial<Record<ErrorCode, string>> = {
  KVM_MISSING: 'kvm.present',
  KVM_PERMISSION: 'kvm.access',
  KVM_UNSUPPORTED: 'kvm.caps',
  IOMMU_MISSING: 'iommu.active',
  IRQ_REMAPPING_MISSING: 'iommu.irqremap',
  DEVICE_NOT_FOUND: 'dev.exists',
  DEVICE_NOT_ENDPOINT: 'dev.endpoint',
  DEVICE_NOT_BOUND: 'dev.driver',
  DEVICE_UNSUPPORTED: 'iommu.rmrr',
  DEVICE_BUSY: 'vfio.busy',
  GROUP_NOT_VIABLE: 'group.viable',
  VF_TOKEN_REQUIRED: 'dev.vf.token',
  VFIO_MISSING: 'vfio.loaded',
  VFIO_PERMISSION: 'vfio.perm',
  MEMLOCK_TOO_LOW: 'vfio.memlock',
};

/** What would stop a start is fatal here: the same sentence, the same cure. */
export function findingOf(error: CausewayError, subject?: string): Finding {
  const { code, message, hint, path, bdf, cause } = error;
  const evidence: Evidence[] = [];
  if (isKernelError(cause)) evidence.push({ path: cause.path ?? cause.syscall, value: cause.code });
  else if (path !== undefined) evidence.push({ path, value: message });
  return {
    id: CHECK_OF[code] ?? `other.${code.toLowerCase()}`,
    severity: 'fatal',
    subject: subject ?? bdf ?? 'host',
    evidence,
    explanation: message,
    fix: [
      ...(code === 'DEVICE_NOT_BOUND' && bdf !== undefined ? [fix(`sudo causeway bind ${bdf}`)] : []),
      ...(hint === undefined ? [] : [fix(hint)]),
    ],
  };
}

/** @param command that needs root when it says `sudo` */
export function fix(command: string, how: { readonly persistent?: boolean; readonly reboot?: boolean } = {}): Fix {
  return {
    command,
    needsRoot: /\bsudo\b/.test(command),
    persistent: how.persistent ?? false,
    reboot: how.reboot ?? false,
  };
}

/** 0 in order, 1 warnings, 2 something is fatal. */
export function doctorExitCode(findings: readonly Finding[]): 0 | 1 | 2 {
  if (findings.some(({ severity }) => severity === 'fatal')) return 2;
  return findings.some(({ severity }) => severity === 'warning') ? 1 : 0;
}
