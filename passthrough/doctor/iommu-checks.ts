/** iommu.* of the host as a whole. */
import type { HostFiles } from '../../native/types.ts';
import { readText } from '../host/sysfs.ts';
import { type Evidence, type Finding, fix } from './finding.ts';

const UNSAFE = '/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts';
/** VT-d extended capability register, bit 3: interrupt remapping. */
const ECAP_INTERRUPT_REMAPPING = 8n;
const OFF_TOKENS = ['intel_iommu=off', 'amd_iommu=off', 'iommu=off', 'iommu=soft', 'pci=nomsi'];

export function checkIommu(files: HostFiles): Finding[] {
  const units = list(files, '/sys/class/iommu');
  const groups = list(files, '/sys/kernel/iommu_groups');
  const cmdline = (readText(files, '/proc/cmdline') ?? '').split(/\s+/);
  const isActive = units.length > 0 && groups.length > 0;
  const findings = [activity(files, units, groups, isActive)];
  const off = cmdline.filter((token) => OFF_TOKENS.includes(token));
  if (off.length > 0) {
    findings.push(
      finding('iommu.cmdline', 'warning', `the kernel was booted with ${off.join(' ')}`, {
        evidence: [{ path: '/proc/cmdline', value: off.join(' ') }],
        fix: [fix(`remove ${off.join(' ')} from the kernel's command line`, { persistent: true, reboot: true })],
      }),
    );
  }
  if (!isActive && cmdline.includes('intel_iommu=on')) {
    findings.push(
      finding(
        'iommu.misleading',
        'info',
        'intel_iommu=on only asks for an IOMMU; a log line that it is enabled repeats that',
        {
          evidence: [{ path: '/proc/cmdline', value: 'intel_iommu=on' }],
        },
      ),
    );
  }
  return isActive ? [...findings, ...interruptRemapping(files, units)] : findings;
}

function activity(files: HostFiles, units: readonly string[], groups: readonly string[], isActive: boolean): Finding {
  const evidence: Evidence[] = [
    { path: '/sys/class/iommu', value: units.join(' ') || 'empty' },
    { path: '/sys/kernel/iommu_groups', value: `${groups.length} groups` },
  ];
  if (isActive) return finding('iommu.active', 'info', 'the IOMMU is on', { evidence });
  const table = ['DMAR', 'IVRS'].find((name) => files.exists(`/sys/firmware/acpi/tables/${name}`));
  evidence.push({ path: '/sys/firmware/acpi/tables', value: table ?? 'neither DMAR nor IVRS' });
  return table === undefined
    ? finding('iommu.active', 'fatal', 'firmware offers no IOMMU, so no device can be assigned', {
        evidence,
        fix: [
          fix('turn on VT-d or AMD-Vi (IOMMU) in firmware; in a VM, the outer host must emulate one', {
            persistent: true,
            reboot: true,
          }),
        ],
      })
    : finding('iommu.active', 'fatal', 'firmware offers an IOMMU, and the kernel has it off', {
        evidence,
        fix: [
          fix(table === 'DMAR' ? 'boot with intel_iommu=on' : 'boot without amd_iommu=off and iommu=off', {
            persistent: true,
            reboot: true,
          }),
        ],
      });
}

/** Remapped interrupts show as IR-… in /proc/interrupts; the register of the unit says whether it could. */
function interruptRemapping(files: HostFiles, units: readonly string[]): Finding[] {
  const interrupts = readText(files, '/proc/interrupts') ?? '';
  const isOn = /\bIR-/.test(interrupts);
  const unsafe = readText(files, UNSAFE);
  const isUnsafe = unsafe === 'Y' || unsafe === '1';
  const ecaps = units.flatMap((unit) => {
    const path = `/sys/class/iommu/${unit}/intel-iommu/ecap`;
    const value = readText(files, path);
    return value !== undefined && /^[0-9a-f]+$/i.test(value) ? [{ path, value }] : [];
  });
  const can = ecaps.some(({ value }) => (BigInt(`0x${value}`) & ECAP_INTERRUPT_REMAPPING) !== 0n);
  const evidence = [{ path: '/proc/interrupts', value: isOn ? 'lines with IR-' : 'no line with IR-' }, ...ecaps];
  const findings: Finding[] = [];
  if (isOn) findings.push(finding('iommu.irqremap', 'info', 'interrupts of devices are remapped', { evidence }));
  else {
    const reason = ecaps.length === 0 ? '' : can ? ', though the IOMMU could' : ': the IOMMU cannot';
    findings.push(
      finding(
        'iommu.irqremap',
        isUnsafe ? 'warning' : 'fatal',
        `interrupts of devices are not remapped${reason}, so a guest could forge interrupts of the host`,
        {
          evidence: isUnsafe ? [...evidence, { path: UNSAFE, value: unsafe! }] : evidence,
          fix: [
            fix('turn on interrupt remapping or x2APIC in firmware; remove intremap=off', {
              persistent: true,
              reboot: true,
            }),
            fix(`at your own risk: echo 1 | sudo tee ${UNSAFE}`),
          ],
        },
      ),
    );
  }
  if (isOn && isUnsafe) {
    findings.push(
      finding('iommu.unsafe', 'warning', 'unsafe interrupts are allowed, though there is no need', {
        evidence: [{ path: UNSAFE, value: unsafe! }],
        fix: [fix(`echo 0 | sudo tee ${UNSAFE}`), fix('remove it from /etc/modprobe.d', { persistent: true })],
      }),
    );
  }
  return findings;
}

function finding(
  id: string,
  severity: Finding['severity'],
  explanation: string,
  { evidence = [], fix: fixes = [] }: Partial<Pick<Finding, 'evidence' | 'fix'>>,
): Finding {
  return { id, severity, subject: 'host', evidence, explanation, fix: fixes };
}

function list(files: HostFiles, path: string): string[] {
  try {
    return files.readDir(path);
  } catch {
    return [];
  }
}
