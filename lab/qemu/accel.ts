import { accessSync, constants, readFileSync } from 'node:fs';

/** How the lab's processor is made. */
export type Accel = 'tcg' | 'kvm';

/** What the choice rests on. */
export interface HostCpu {
  /** The flags line of /proc/cpuinfo. */
  readonly flags: readonly string[];
  /** The content of kvm_intel's or kvm_amd's `nested` parameter. */
  readonly nested: string | undefined;
  /** Whether /dev/kvm can be opened for reading and writing. */
  readonly kvm: boolean;
}

/** Read what the choice rests on from this host. */
export function readHostCpu(): HostCpu {
  const read = (path: string) => {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return undefined;
    }
  };
  const flags = /^flags\s*:\s*(.*)$/m.exec(read('/proc/cpuinfo') ?? '')?.[1]?.split(' ') ?? [];
  const nested = ['kvm_intel', 'kvm_amd'].map((name) => read(`/sys/module/${name}/parameters/nested`)?.trim());
  let kvm = true;
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    kvm = false;
  }
  return { flags, nested: nested.find((value) => value !== undefined), kvm };
}

/**
 * KVM only where a guest of a guest is known to work: nested virtualisation switched on, the processor able, and the host
 * not itself a guest (there /dev/kvm may exist and yet fail to boot anything). Everything else gets emulation.
 */
export function chooseAccel(cpu: HostCpu): { accel: Accel; reason: string } {
  const tcg = (reason: string) => ({ accel: 'tcg' as const, reason });
  if (!cpu.kvm) return tcg('/dev/kvm cannot be opened');
  if (!cpu.flags.includes('vmx') && !cpu.flags.includes('svm')) return tcg('the processor shows neither VMX nor SVM');
  if (cpu.flags.includes('hypervisor')) return tcg('this host is itself a virtual machine');
  if (!['Y', '1'].includes(cpu.nested ?? '')) return tcg('nested virtualisation is off');
  return { accel: 'kvm', reason: 'nested virtualisation is on' };
}

/** The KVM modules the lab's kernel needs: emulation offers SVM, KVM what the host's processor has. */
export function kvmModules(accel: Accel, cpu: HostCpu): string[] {
  return accel === 'kvm' && cpu.flags.includes('vmx') ? ['kvm-intel'] : ['kvm-amd'];
}
