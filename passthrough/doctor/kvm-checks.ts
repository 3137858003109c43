/** kvm.*: is there a KVM, may this user have it, can it do what is needed, and is it real. */
import type { Native } from '../../native/types.ts';
import { isCausewayError } from '../../vmm/base/errors.ts';
import { checkKvm, openKvm } from '../../vmm/kvm.ts';
import { readText } from '../host/sysfs.ts';
import { type Finding, findingOf, fix } from './finding.ts';
import { type KvmSpeed, probeKvm } from './kvm-probe.ts';

/** A guest that is so many times slower than the process around it is not run by the processor. */
const EMULATED_RATIO = 20;
/** Hardware takes 1 to 3, one level of nesting 10 to 30. */
const SLOW_EXIT_MICROSECONDS = 40;

export function checkKvmHost(native: Native): Finding[] {
  const findings = checkKvm(native).map((error) => findingOf(error));
  const flags =
    readText(native, '/proc/cpuinfo')
      ?.match(/^flags\s*:\s*(.*)$/m)?.[1]
      ?.split(' ') ?? [];
  if (findings.length > 0) {
    const extension = flags.find((flag) => flag === 'vmx' || flag === 'svm');
    return findings.map((finding) => ({
      ...finding,
      evidence: [...finding.evidence, { path: '/proc/cpuinfo', value: extension ?? 'neither vmx nor svm' }],
    }));
  }
  try {
    openKvm(native)[Symbol.dispose]();
  } catch (error) {
    if (!isCausewayError(error)) throw error;
    return [findingOf(error)];
  }
  findings.push({
    id: 'kvm.caps',
    severity: 'info',
    subject: 'host',
    evidence: [{ path: '/dev/kvm', value: 'every capability that is needed' }],
    explanation: 'KVM can do what Causeway needs',
    fix: [],
  });
  if (flags.includes('hypervisor')) findings.push(nested());
  return [...findings, speedFinding(native)];
}

function nested(): Finding {
  return {
    id: 'kvm.nested',
    severity: 'info',
    subject: 'host',
    evidence: [{ path: '/proc/cpuinfo', value: 'flag hypervisor' }],
    explanation: 'this host is itself a virtual machine: devices can be assigned only if it has a virtual IOMMU',
    fix: [
      fix('outer QEMU: -device intel-iommu,intremap=on,caching-mode=on -machine q35,kernel-irqchip=split', {
        persistent: true,
        reboot: true,
      }),
    ],
  };
}

function speedFinding(native: Native): Finding {
  let speed: KvmSpeed;
  try {
    speed = probeKvm(native);
  } catch (error) {
    return {
      id: 'kvm.run',
      severity: 'fatal',
      subject: 'host',
      evidence: [{ path: 'KVM_RUN', value: error instanceof Error ? error.message : String(error) }],
      explanation: 'KVM is there, and cannot run a guest of six instructions',
      fix: [fix('use bare metal, or a virtual machine with working nested virtualisation')],
    };
  }
  return judgeSpeed(speed);
}

/** What the measurement means. Pure. */
export function judgeSpeed(speed: KvmSpeed): Finding {
  const { instructions, instructionsPerSecond, hostInstructionsPerSecond, exitMicroseconds } = speed;
  const ratio = hostInstructionsPerSecond / instructionsPerSecond;
  const isEmulated = ratio > EMULATED_RATIO;
  const isFar = exitMicroseconds > SLOW_EXIT_MICROSECONDS;
  const rounded = (value: number): string => value.toPrecision(3);
  const evidence = [
    {
      path: 'measured: a loop in a guest',
      value: `${rounded(instructionsPerSecond / 1e6)} million instructions a second, over ${instructions}`,
    },
    {
      path: 'measured: the same loop in this process',
      value: `${rounded(hostInstructionsPerSecond / 1e6)} million instructions a second`,
    },
    { path: 'measured: port exit', value: `${rounded(exitMicroseconds)} microseconds` },
  ];
  const base = { id: 'kvm.speed', subject: 'host', evidence } as const;
  if (isEmulated) {
    return {
      ...base,
      severity: 'warning',
      explanation: `this KVM does not let the processor run guests: they are ${rounded(ratio)} times slower than this process`,
      fix: [fix('use bare metal, or a virtual machine with nested virtualisation in hardware')],
    };
  }
  if (isFar) {
    return {
      ...base,
      severity: 'warning',
      explanation: `the processor runs guests, but each exit takes ${rounded(exitMicroseconds)} microseconds: nested or emulated virtualisation`,
      fix: [],
    };
  }
  return { ...base, severity: 'info', explanation: 'the processor itself runs guests', fix: [] };
}
