import { describe, expect, test } from 'vitest';
import { FakeKernel } from '../native/fake/fake-kernel.ts';
import type { FakePciSpec } from '../native/fake/pci-spec.ts';
import type { HostBdf } from '../native/types.ts';
import { type AuditReport, audit, type Criterion } from './audit.ts';
import { configFixture } from './fixtures/config-text.ts';
import { e1000e, everything, xhci } from './fixtures/devices.ts';
import { RESOURCE, readResources } from './host/sysfs.ts';
import { inspectDevice } from './inspect.ts';

const KIB = 1024;

function auditOf(spec: FakePciSpec, pageBytes = 4096): AuditReport {
  const kernel = new FakeKernel();
  const device = kernel.addPciDevice(spec);
  const bdf = spec.bdf as HostBdf;
  return audit({ config: device.config.hardware, resources: readResources(kernel, bdf), pageBytes });
}

function verdict({ criteria }: AuditReport, id: Criterion['id']): Criterion['verdict'] {
  return criteria.find((criterion) => criterion.id === id)!.verdict;
}

describe('C1, BARs', () => {
  // Enforces A2, A3, A4.
  test('memory of a page and more passes, ports are trapped, upper halves are none', () => {
    const { bars } = auditOf(everything());
    expect(bars.map(({ bar, verdict: each, why, is64 }) => [bar, each, why, is64])).toEqual([
      [0, 'pass', undefined, false],
      [1, 'trap', 'io-bar', false],
      [2, 'pass', undefined, true],
      [4, 'soft', 'sub-page', false],
    ]);
    expect(verdict(auditOf(everything()), 'C1')).toBe('warn');
  });

  // Enforces A5.
  test('below a page it depends on the alignment at the host', () => {
    const at = (address: number) => auditOf({ ...e1000e(), bars: [{ sizeBytes: 256, mmap: true, address }] }).bars[0];
    expect(at(0xfe00_0000)).toMatchObject({ verdict: 'soft', basis: 'predicted' });
    expect(at(0xfe00_0100)).toMatchObject({ verdict: 'trap', why: 'sub-page' });
    expect(at(0)).toMatchObject({ verdict: 'trap', why: 'unassigned' });
  });

  test('what VFIO says counts more than what sysfs lets expect', () => {
    const region = { index: 0, sizeBytes: 4096, fdOffset: 0, flags: 3, mmapAreas: [] };
    const resources = [{ start: 0xfe00_0000, sizeBytes: 4096, flags: RESOURCE.MEMORY }];
    const report = audit({ config: new Uint8Array(256), resources, pageBytes: 4096, regions: [region] });
    expect(report.bars).toMatchObject([{ verdict: 'trap', why: 'no-mmap', basis: 'vfio' }]);
    expect(verdict(report, 'C1')).toBe('fail');
  });
});

describe('C2, MSI-X', () => {
  // Enforces A6.
  test.each([
    ['xHCI', xhci(), 16, 0x3000, 0x3800],
    [
      'NVMe',
      { ...e1000e(), config: configFixture('nvme'), bars: [{ sizeBytes: 16 * KIB, is64: true, address: 0xfe00_0000 }] },
      65,
      0x2000,
      0x3000,
    ],
    ['e1000e', e1000e(), 5, 0, 0x2000],
  ])('%s: ranges are those of an independent decode', (_name, spec, vectors, table, pending) => {
    const { msix } = auditOf(spec);
    expect(msix).toMatchObject({
      vectors,
      table: { offset: table, sizeBytes: vectors * 16 },
      pending: { offset: pending, sizeBytes: Math.ceil(vectors / 64) * 8 },
    });
  });

  // Enforces A7.
  test('bytes in the same pages are named, with 4 KiB and with 64 KiB pages', () => {
    expect(auditOf(xhci()).msix?.shared).toEqual([
      { bar: 0, start: 0x3100, size: 0x700 },
      { bar: 0, start: 0x3808, size: 0x7f8 },
    ]);
    expect(auditOf(xhci(), 64 * KIB).msix?.shared).toEqual([
      { bar: 0, start: 0, size: 0x3000 },
      { bar: 0, start: 0x3100, size: 0x700 },
      { bar: 0, start: 0x3808, size: 0x7f8 },
    ]);
    expect(verdict(auditOf(xhci()), 'C2')).toBe('warn');
  });

  test('a BAR of nothing else is clean', () => {
    const spec: FakePciSpec = {
      ...everything(),
      bars: [{ sizeBytes: 4 * KIB, address: 0xfe00_0000 }],
      msix: { vectors: 16, tableBar: 0, tableOffset: 0, pbaBar: 0, pbaOffset: 0x800 },
    };
    expect(auditOf(spec).msix?.shared).toEqual([]);
    expect(verdict(auditOf(spec), 'C2')).toBe('pass');
  });

  // Enforces A8.
  test('table and pending bits may lie in different BARs', () => {
    const spec: FakePciSpec = {
      ...everything(),
      msix: { vectors: 256, tableBar: 0, tableOffset: 0x1000, pbaBar: 2, pbaOffset: 0x40_0000 - 0x1000 },
    };
    // 256 entries fill their page.
    expect(auditOf(spec).msix?.shared).toEqual([{ bar: 2, start: 0x3f_f020, size: 0xfe0 }]);
  });

  test('without the capability it does not apply', () => {
    expect(verdict(auditOf({ ...e1000e(), config: configFixture('edu') }), 'C2')).toBe('n/a');
  });
});

describe('C3, the legacy interrupt', () => {
  const conventional = (spec: Partial<FakePciSpec>): FakePciSpec => ({ ...everything(), express: false, ...spec });
  // Enforces A9.
  test.each([
    ['no pin', conventional({ interruptPin: 0 }), 'n/a'],
    ['PCI Express', e1000e(), 'pass'],
    ['conventional: not known without writing', conventional({}), 'unknown'],
  ] as const)('%s', (_name, spec, expected) => {
    expect(verdict(auditOf(spec), 'C3')).toBe(expected);
  });

  test('a mask bit that is set exists', () => {
    const config = configFixture('rtl8139');
    config[0x05]! |= 0x04;
    expect(verdict(auditOf({ ...e1000e(), config }), 'C3')).toBe('pass');
  });

  test('nointxmask takes it away', () => {
    const kernel = new FakeKernel();
    kernel.addPciDevice(e1000e());
    kernel.files.addFile('/sys/module/vfio_pci/parameters/nointxmask', 'Y\n');
    const { audit: report } = inspectDevice(kernel, '0000:03:00.0' as HostBdf, { pageBytes: 4096 });
    expect(report.criteria[2]).toMatchObject({ id: 'C3', verdict: 'fail' });
  });
});

describe('C4, config space', () => {
  // Enforces A10.
  test('a register in no capability is reported with its offset', () => {
    const config = configFixture('e1000e');
    config.set([1, 0, 0, 0], 0x40);
    config.set([0x78, 0x56, 0x34, 0x12], 0x800);
    const report = auditOf({ ...e1000e(), config });
    expect(report.strays).toEqual([
      { offset: 0x40, value: 1 },
      { offset: 0x800, value: 0x1234_5678 },
    ]);
    expect(verdict(report, 'C4')).toBe('warn');
  });

  test.each(['e1000e', 'igb', 'nvme', 'edu', 'rtl8139'])('%s has none', (name) => {
    expect(auditOf({ ...e1000e(), config: configFixture(name), bars: [] }).strays).toEqual([]);
  });

  test('an xHCI keeps its USB release number in a gap (xHCI §5.2.3)', () => {
    expect(auditOf(xhci()).strays).toEqual([{ offset: 0x60, value: 0x30 }]);
  });

  // Enforces A11.
  test('loops of the chains end, and are told', () => {
    const config = configFixture('e1000e');
    config[0xe1] = 0xc8;
    config.set([0x03, 0x00, 0x01, 0x10], 0x140);
    const report = auditOf({ ...e1000e(), config });
    expect(report.faults).toEqual([
      expect.stringContaining('capability chain loops'),
      expect.stringContaining('extended capability chain loops'),
    ]);
    expect(verdict(report, 'C4')).toBe('fail');
  });

  // Enforces A12.
  test('an extended chain whose first entry is hidden is walked to its end', () => {
    const config = configFixture('e1000e');
    config.set([0, 0], 0x100);
    const { capabilities } = auditOf({ ...e1000e(), config });
    expect(capabilities.filter(({ kind }) => kind === 'extended').map(({ name }) => name)).toEqual([
      'device serial number',
    ]);
  });
});

describe('inspect', () => {
  // Enforces A1, A10, P50.
  test('tells group, driver, reset, reserved regions and NUMA node, and touches nothing', () => {
    const kernel = new FakeKernel();
    kernel.addPciDevice({ ...e1000e(), driver: 'e1000e', numaNode: 1 });
    kernel.addPciDevice({ ...e1000e('0000:03:00.1'), driver: 'e1000e' });
    kernel.files.addFile(
      '/usr/share/misc/pci.ids',
      '8086  Intel Corporation\n\t10d3  82574L Gigabit Network Connection\nC 02  Network controller\n\t00  Ethernet controller\n',
    );
    kernel.journalBook.clear();
    const report = inspectDevice(kernel, '0000:03:00.0' as HostBdf, { config: true, pageBytes: 4096 });
    const reads = ['readFile', 'readDir', 'readLink', 'exists'];
    expect(kernel.journal.map(({ call }) => call).filter((call) => !reads.includes(call))).toEqual([]);
    expect(report).toMatchObject({
      name: 'Intel Corporation 82574L Gigabit Network Connection',
      className: 'Ethernet controller',
      driver: 'e1000e',
      resetMethods: ['pm', 'bus'],
      numaNode: 1,
      group: {
        number: 12,
        type: 'DMA',
        reservedRegions: ['0x00000000fee00000 0x00000000feefffff msi'],
        members: [{ bdf: '0000:03:00.0' }, { bdf: '0000:03:00.1', driver: 'e1000e' }],
        blocking: ['0000:03:00.1'],
      },
    });
    expect(report.capabilities.map(({ name, shown }) => [name, shown])).toContainEqual([
      'advanced error reporting',
      false,
    ]);
    expect(report.config?.length).toBeGreaterThan(20);
  });

  test('without root most is unknown, and said to be', () => {
    const kernel = new FakeKernel();
    kernel.addPciDevice(e1000e());
    const config = configFixture('e1000e').subarray(0, 64);
    const directory = '/sys/devices/pci0000:00/0000:03:00.0';
    kernel.files.addFile(`${directory}/config`, config.slice());
    const report = inspectDevice(kernel, '0000:03:00.0' as HostBdf, { config: true, pageBytes: 4096 });
    expect(report.audit.criteria.map(({ id, verdict: each }) => [id, each])).toEqual([
      ['C1', 'pass'],
      ['C2', 'unknown'],
      ['C3', 'unknown'],
      ['C4', 'unknown'],
    ]);
    expect(report.config).toBeUndefined();
  });

  // Enforces P33.
  test('what a start would find of write-combining is told before it', () => {
    const kernel = new FakeKernel();
    kernel.addPciDevice({ ...everything(), driver: 'nic' });
    kernel.files.addFile('/sys/module/kvm_amd/parameters/npt', '1\n');
    kernel.files.addFile('/proc/cpuinfo', 'flags\t\t: fpu pat svm\n');
    const { writeCombining } = inspectDevice(kernel, '0000:07:00.0' as HostBdf, { pageBytes: 4096 });
    expect(writeCombining.map(({ bar, guestWc, guestWcAdvertised }) => [bar, guestWc, guestWcAdvertised])).toEqual([
      [0, 'yes', false],
      [2, 'yes', true],
      [4, 'yes', false],
    ]);
  });

  test('the expansion ROM is told from sysfs alone, shadow copies as such', () => {
    const kernel = new FakeKernel();
    kernel.addPciDevice({ ...e1000e(), romBytes: 0x2_0000, romShadow: true });
    kernel.addPciDevice(everything());
    const rom = (bdf: string) => inspectDevice(kernel, bdf as HostBdf, { pageBytes: 4096 }).rom;
    expect(rom('0000:03:00.0')).toEqual({ sizeBytes: 0x2_0000, isShadowed: true, isReadable: true });
    expect(rom('0000:07:00.0')).toBeUndefined();
    expect(kernel.calls('writeFile', 'open')).toEqual([]);
  });

  test('an address without a device names near ones', () => {
    const kernel = new FakeKernel();
    kernel.addPciDevice(e1000e());
    expect(() => inspectDevice(kernel, '0000:03:00.1' as HostBdf, { pageBytes: 4096 })).toThrow(/no PCI device/);
  });
});
