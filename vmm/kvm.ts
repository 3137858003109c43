/** The host's KVM: opened, checked for what Causeway needs, asked what it can. */
import { KVM_CAP } from '../native/kvm-abi.ts';
import type { CpuidEntry, Fd, Native } from '../native/types.ts';
import { CausewayError, hasErrno } from './base/errors.ts';
import { X2APIC_FORMAT } from './irq/irq-router.ts';

export const KVM_DEVICE = '/dev/kvm';
const API_VERSION = 12;
const TSC_DEADLINE_TIMER = 72;

/** What must be there, and what it is for. */
const REQUIRED: readonly (readonly [keyof typeof KVM_CAP, string])[] = [
  ['IRQCHIP', 'interrupt controllers in the kernel'],
  ['PIT2', 'the timer chip'],
  ['IRQ_ROUTING', 'routing of MSI vectors'],
  ['IRQFD', 'interrupts by eventfd'],
  ['IRQFD_RESAMPLE', 'level-triggered interrupts of assigned devices'],
  ['SIGNAL_MSI', 'message-signalled interrupts'],
  ['IMMEDIATE_EXIT', 'stopping a vCPU at any moment'],
];

export interface KvmHost extends Disposable {
  readonly fd: Fd;
  readonly cpuid: readonly CpuidEntry[];
  readonly maxVcpus: number;
  readonly tscDeadline: boolean;
  /** A VM can be given {@link X2APIC_FORMAT}. */
  readonly x2apicFormat: boolean;
}

/** Problems that opening KVM would meet; nothing is opened. */
export function checkKvm(native: Native): CausewayError[] {
  const errno = native.access(KVM_DEVICE, 'rw');
  if (errno === 0) return [];
  return [native.exists(KVM_DEVICE) ? permission() : missing()];
}

/**
 * @param given KVM as somebody else opened it; its number is closed
 * @throws CausewayError KVM_MISSING, KVM_PERMISSION, KVM_UNSUPPORTED
 */
export function openKvm(native: Native, given?: Fd): KvmHost {
  let fd: Fd;
  try {
    fd = given === undefined ? native.open(KVM_DEVICE, 'rw') : adopted(native, given);
  } catch (error) {
    throw hasErrno(error, 'EACCES', 'EPERM') ? permission(error) : missing(error);
  }
  try {
    const version = versionOf(native, fd);
    if (version !== API_VERSION) throw unsupported(`its API has version ${version}, not ${API_VERSION}`);
    for (const [capability, purpose] of REQUIRED) {
      if (native.kvmCheckExtension(fd, KVM_CAP[capability]) === 0)
        throw unsupported(`KVM_CAP_${capability} (${purpose}) is missing`);
    }
    return {
      fd,
      cpuid: native.kvmGetSupportedCpuid(fd),
      maxVcpus: native.kvmCheckExtension(fd, KVM_CAP.MAX_VCPUS),
      tscDeadline: native.kvmCheckExtension(fd, TSC_DEADLINE_TIMER) !== 0,
      x2apicFormat: (native.kvmCheckExtension(fd, KVM_CAP.X2APIC_API) & X2APIC_FORMAT) === X2APIC_FORMAT,
      [Symbol.dispose]: () => native.close(fd),
    };
  } catch (error) {
    native.close(fd);
    throw error;
  }
}

function versionOf(native: Native, fd: Fd): number {
  try {
    return native.kvmApiVersion(fd);
  } catch (cause) {
    if (!hasErrno(cause, 'ENOTTY', 'EINVAL')) throw cause;
    throw new CausewayError('CONFIG_INVALID', `the file that was handed in as KVM is no ${KVM_DEVICE}`, { cause });
  }
}

/** Under a number of our own, close-on-exec. */
function adopted(native: Native, given: Fd): Fd {
  const fd = native.dup(given);
  native.close(given);
  return fd;
}

function missing(cause?: unknown): CausewayError {
  return new CausewayError('KVM_MISSING', `${KVM_DEVICE} does not exist`, {
    cause,
    path: KVM_DEVICE,
    hint: 'load the module (modprobe kvm_intel or kvm_amd); if that fails, turn on VT-x or SVM in the firmware',
  });
}

function permission(cause?: unknown): CausewayError {
  return new CausewayError('KVM_PERMISSION', `${KVM_DEVICE} may not be opened by this user`, {
    cause,
    path: KVM_DEVICE,
    hint: 'add yourself to its group and log in again: sudo usermod -aG kvm $USER',
  });
}

function unsupported(what: string): CausewayError {
  return new CausewayError('KVM_UNSUPPORTED', `this kernel's KVM cannot be used: ${what}`, {
    path: KVM_DEVICE,
    hint: 'use a newer kernel, or bare metal instead of a nested VM',
  });
}
