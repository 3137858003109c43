import { describe, expect, test } from 'vitest';
import { FakeKernel } from '../../native/fake/fake-kernel.ts';
import { KVM_EXIT, KVM_RUN } from '../../native/kvm-abi.ts';
import type { HostBdf } from '../../native/types.ts';
import { e1000e } from '../fixtures/devices.ts';
import { examine } from './doctor.ts';
import { doctorExitCode, type Finding } from './finding.ts';
import { judgeSpeed } from './kvm-checks.ts';
import { probeKvm } from './kvm-probe.ts';

const BDF = '0000:03:00.0' as HostBdf;
const RAM = 512 * 2 ** 20;

/** A host in order, with one device on vfio-pci. */
function host(prepare: (kernel: FakeKernel) => void = () => {}): FakeKernel {
  const kernel = new FakeKernel();
  kernel.addPciDevice({ ...e1000e(), resetMethod: 'flr bus' });
  kernel.files.addDir('/sys/class/iommu/dmar0');
  kernel.files.addFile('/proc/interrupts', ' 24: 0 IR-PCI-MSIX-0000:03:00.0 0-edge\n');
  kernel.files.addFile('/proc/cmdline', 'quiet\n');
  prepare(kernel);
  runsGuests(kernel);
  return kernel;
}

/** Every KVM_RUN ends at the port, as the guest of the probe does. */
function runsGuests(kernel: FakeKernel, reason: number = KVM_EXIT.IO): void {
  const create = kernel.vmCreateVcpu.bind(kernel);
  kernel.vmCreateVcpu = (vm, index) => {
    const fd = create(vm, index);
    const exits = kernel.kvm.vcpus.at(-1)!.exits;
    exits.push(
      ...Array.from({ length: 4000 }, () => (run: DataView) => {
        run.setUint32(KVM_RUN.exitReason, reason, true);
        return 0;
      }),
    );
    return fd;
  };
}

function ids(findings: readonly Finding[], severity?: Finding['severity']): string[] {
  return findings.filter((each) => severity === undefined || each.severity === severity).map(({ id }) => id);
}

const look = (kernel: FakeKernel, bdfs: readonly HostBdf[] = [BDF]): Finding[] =>
  examine(kernel, { bdfs, ramBytes: RAM }).filter(({ id }) => id !== 'kvm.speed');

test('a host in order: nothing fatal, the group is opened and closed, the device never', () => {
  const kernel = host();
  const findings = look(kernel);
  expect(ids(findings, 'fatal')).toEqual([]);
  expect(ids(findings, 'warning')).toEqual([]);
  expect(ids(findings)).toEqual(expect.arrayContaining(['kvm.caps', 'iommu.active', 'iommu.irqremap', 'vfio.open']));
  expect(doctorExitCode(findings)).toBe(0);
  expect(kernel.calls('vfioGroupGetDevice', 'writeFile')).toEqual([]);
  expect(kernel.openFds()).toEqual([]);
  expect(kernel.liveMappings()).toEqual([]);
});

describe('one thing wrong is found, with evidence and a cure', () => {
  test.each<[string, string, Finding['severity'], (kernel: FakeKernel) => void]>([
    ['no KVM', 'kvm.present', 'fatal', (kernel) => kernel.files.remove('/dev/kvm')],
    ['no right to KVM', 'kvm.access', 'fatal', (kernel) => kernel.files.deny('/dev/kvm', 'rw')],
    ['a capability of KVM', 'kvm.caps', 'fatal', (kernel) => kernel.kvm.capabilities.set(82, 0)],
    ['no IOMMU', 'iommu.active', 'fatal', (kernel) => kernel.files.remove('/sys/class/iommu')],
    [
      'the IOMMU switched off',
      'iommu.cmdline',
      'warning',
      (kernel) => kernel.files.addFile('/proc/cmdline', 'amd_iommu=off quiet\n'),
    ],
    [
      'no interrupt remapping',
      'iommu.irqremap',
      'fatal',
      (kernel) => kernel.files.addFile('/proc/interrupts', ' 24: 0 PCI-MSIX-0000:03:00.0 0-edge\n'),
    ],
    [
      'unsafe interrupts without need',
      'iommu.unsafe',
      'warning',
      (kernel) => kernel.files.addFile('/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts', 'Y\n'),
    ],
    ['no VFIO', 'vfio.loaded', 'fatal', (kernel) => kernel.files.remove('/dev/vfio/vfio')],
    ['a group of others', 'vfio.perm', 'fatal', (kernel) => kernel.files.deny('/dev/vfio/12', 'rw')],
    [
      'a memory limit',
      'vfio.memlock',
      'fatal',
      (kernel) => {
        kernel.process.limits.memlock = { soft: 65536, hard: 65536 };
      },
    ],
    [
      'a neighbour on its driver',
      'group.viable',
      'fatal',
      (kernel) => void kernel.addPciDevice({ ...e1000e('0000:03:00.1'), driver: 'e1000e' }),
    ],
    [
      'no driver',
      'dev.driver',
      'fatal',
      (kernel) => kernel.files.remove('/sys/devices/pci0000:00/0000:03:00.0/driver'),
    ],
    [
      'a lost device',
      'dev.gone',
      'fatal',
      (kernel) => kernel.files.addFile(`/sys/devices/pci0000:00/${BDF}/config`, new Uint8Array(256).fill(0xff)),
    ],
    [
      'an override to nothing',
      'dev.override.stale',
      'warning',
      (kernel) => kernel.files.addFile(`/sys/devices/pci0000:00/${BDF}/driver_override`, 'vfio-pcii\n'),
    ],
    [
      'no way to reset',
      'dev.reset',
      'warning',
      (kernel) => kernel.files.remove(`/sys/devices/pci0000:00/${BDF}/reset_method`),
    ],
    [
      'a cold device',
      'dev.power',
      'warning',
      (kernel) => kernel.files.addFile(`/sys/devices/pci0000:00/${BDF}/power_state`, 'D3cold\n'),
    ],
    [
      'a narrow link',
      'dev.link',
      'warning',
      (kernel) => {
        kernel.files.addFile(`/sys/devices/pci0000:00/${BDF}/current_link_width`, '4\n');
        kernel.files.addFile(`/sys/devices/pci0000:00/${BDF}/max_link_width`, '16\n');
      },
    ],
  ])('%s', (_name, id, severity, prepare) => {
    const findings = look(host(prepare));
    const found = findings.find((finding) => finding.id === id && finding.severity === severity);
    expect(found, ids(findings).join()).toBeDefined();
    expect(found!.explanation.length).toBeGreaterThan(10);
    expect(found!.fix.length).toBeGreaterThan(0);
    expect(doctorExitCode(findings)).toBe(severity === 'fatal' ? 2 : 1);
    expect(findings[0]!.severity).toBe(severity);
  });

  test('a device on its host driver: the command that binds it comes first', () => {
    const kernel = new FakeKernel();
    kernel.addPciDevice({ ...e1000e(), driver: 'e1000e' });
    const found = look(kernel).find(({ id }) => id === 'dev.driver');
    expect(found?.fix[0]).toEqual({
      command: `sudo causeway bind ${BDF}`,
      needsRoot: true,
      persistent: false,
      reboot: false,
    });
  });

  test('virtual functions in the way of binding', () => {
    const kernel = new FakeKernel();
    kernel.addPciDevice({ ...e1000e(), driver: 'igb', attributes: { sriov_numvfs: '4\n' } });
    expect(ids(look(kernel), 'fatal')).toContain('dev.pf.vfs');
  });

  test('an address without a device', () => {
    expect(ids(look(host(), ['0000:03:00.5' as HostBdf]), 'fatal')).toEqual(['dev.exists']);
  });

  // Enforces P53.
  test('a group that the IOMMU refuses, seen by trying', () => {
    const kernel = host();
    kernel.failNext('vfioSetIommu', 'EPERM');
    expect(look(kernel).find(({ severity }) => severity === 'fatal')).toMatchObject({ id: 'iommu.irqremap' });
    expect(kernel.openFds()).toEqual([]);
  });

  test('a neighbour that the host needs', () => {
    const kernel = host((made) => {
      made.addPciDevice({ ...e1000e('0000:03:00.1'), driver: 'e1000e' });
      made.files.addFile('/sys/devices/pci0000:00/0000:03:00.1/boot_vga', '1\n');
    });
    expect(ids(look(kernel))).toEqual(expect.arrayContaining(['group.members', 'group.critical']));
  });
});

describe('the probe of KVM', () => {
  test('times a loop and exits, and leaves nothing behind', () => {
    const kernel = host();
    let clock = 0;
    const speed = probeKvm(kernel, () => {
      clock += 10;
      return clock;
    });
    expect(speed.exitMicroseconds).toBeGreaterThan(0);
    expect(speed.instructions).toBe(1e7);
    expect(kernel.openFds()).toEqual([]);
    expect(kernel.liveMappings()).toEqual([]);
  });

  test('a guest that ends otherwise is a KVM that cannot be used', () => {
    const kernel = new FakeKernel();
    runsGuests(kernel, KVM_EXIT.INTERNAL_ERROR);
    const found = examine(kernel, { bdfs: [], ramBytes: RAM }).find(({ id }) => id === 'kvm.run');
    expect(found).toMatchObject({ severity: 'fatal' });
    expect(found!.evidence[0]!.value).toContain('exit reason 17');
    expect(kernel.openFds()).toEqual([]);
  });

  test.each([
    ['hardware', 6e9, 6e9, 1.5, 'info', /processor itself/],
    ['an interpreter', 1e6, 6e9, 16, 'warning', /6\.00e\+3 times slower/],
    ['hardware far away', 5e8, 6e8, 90, 'warning', /each exit takes 90\.0 microseconds/],
  ] as const)('%s', (_name, guest, host_, exit, severity, text) => {
    const finding = judgeSpeed({
      instructions: 1e7,
      instructionsPerSecond: guest,
      hostInstructionsPerSecond: host_,
      exitMicroseconds: exit,
    });
    expect(finding.severity).toBe(severity);
    expect(finding.explanation).toMatch(text);
  });
});
