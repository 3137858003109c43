import { expect, test } from 'vitest';
import { FakeKernel } from '../../native/fake/fake-kernel.ts';
import { type FakePciSpec, pciConfig } from '../../native/fake/pci-spec.ts';
import type { HostBdf } from '../../native/types.ts';
import { writeLe } from '../../vmm/base/bits.ts';
import { e1000e } from '../fixtures/devices.ts';
import { readDevice } from '../host/sysfs.ts';
import { checkFacts } from './fact-checks.ts';
import type { Finding } from './finding.ts';
import { checkHost } from './host-checks.ts';
import { checkPath, upstreamPorts } from './path-checks.ts';

const BDF = '0000:03:00.0' as HostBdf;
const PORT = '0000:00:1c.0';
const SYSFS = `/sys/bus/pci/devices/${BDF}`;
const RAM = 512 * 2 ** 20;

function host(spec: Partial<FakePciSpec> = {}, prepare: (kernel: FakeKernel) => void = () => {}): FakeKernel {
  const kernel = new FakeKernel();
  prepare(kernel);
  kernel.addPciDevice({ ...e1000e(), ...spec });
  return kernel;
}

const facts = (kernel: FakeKernel): Finding[] => checkFacts(kernel, readDevice(kernel, BDF)!);
const path = (kernel: FakeKernel, ramBytes = RAM): Finding[] => checkPath(kernel, readDevice(kernel, BDF)!, ramBytes);
const found = (findings: readonly Finding[], id: string): Finding | undefined =>
  findings.find((each) => each.id === id);

test('a plain device has nothing to tell but how its group is translated', () => {
  const kernel = host();
  expect(facts(kernel)).toEqual([]);
  expect(path(kernel).map(({ id, evidence }) => [id, evidence[0]?.value])).toEqual([['iommu.pt', 'DMA']]);
  expect(checkHost(kernel)).toEqual([]);
});

test('dev.rom: a ROM that can be read, a shadow, and one that the kernel does not offer', () => {
  expect(found(facts(host({ romBytes: 0x2_0000 })), 'dev.rom')).toMatchObject({
    severity: 'info',
    evidence: [{ value: '128 KiB' }, { path: `${SYSFS}/rom`, value: 'there' }],
    fix: [],
  });
  const shadow = found(facts(host({ romBytes: 0x2_0000, romShadow: true })), 'dev.rom');
  expect(shadow?.explanation).toMatch(/only the copy that firmware made/);
  expect(shadow?.fix[0]?.command).toMatch(/file:PATH/);
});

test('dev.aer: errors since boot; more than correctable ones are a warning', () => {
  const counts = (correctable: number, fatal: number) => ({
    aer_dev_correctable: `RxErr ${correctable}\nBadTLP 0\nTOTAL_ERR_COR ${correctable}\n`,
    aer_dev_nonfatal: 'Undefined 0\nTOTAL_ERR_NONFATAL 0\n',
    aer_dev_fatal: `DLP ${fatal}\nTOTAL_ERR_FATAL ${fatal}\n`,
  });
  expect(found(facts(host({ attributes: counts(0, 0) })), 'dev.aer')).toBeUndefined();
  expect(found(facts(host({ attributes: counts(7, 0) })), 'dev.aer')).toMatchObject({
    severity: 'info',
    evidence: [{ path: `${SYSFS}/aer_dev_correctable`, value: '7 since boot' }],
  });
  expect(found(facts(host({ attributes: counts(7, 2) })), 'dev.aer')).toMatchObject({ severity: 'warning' });
});

test('dev.numa: where to run, on hosts with more than one node', () => {
  const spec = { numaNode: 1, attributes: { local_cpulist: '8-15\n' } };
  expect(found(facts(host(spec)), 'dev.numa')).toBeUndefined();
  const kernel = host(spec, (made) => made.files.addFile('/sys/devices/system/node/online', '0-1\n'));
  const finding = found(facts(kernel), 'dev.numa');
  expect(finding?.explanation).toBe('it is on node 1, near CPUs 8-15: a VM there reaches it soonest');
  expect(finding?.fix[0]?.command).toContain('--cpunodebind=1');
});

test('dev.denylist: what vfio-pci refuses, unless it was told not to', () => {
  const qat = { vendor: 0x8086, device: 0x37c8, driver: 'c6xx' };
  expect(found(facts(host(qat)), 'dev.denylist')).toMatchObject({
    severity: 'fatal',
    evidence: [{ value: '8086:37c8' }],
  });
  const allowed = host(qat, (made) => made.files.addFile('/sys/module/vfio_pci/parameters/disable_denylist', 'Y\n'));
  expect(found(facts(allowed), 'dev.denylist')).toBeUndefined();
});

/** A port above the device, with this ACS control, or none. */
function below(control: number | undefined, readable = true): FakeKernel {
  const port: FakePciSpec = { bdf: PORT, vendor: 0x8086, device: 0x9d10, class: 0x060400, driver: 'pcieport' };
  const config = pciConfig(port);
  writeLe(config, 0x100, 4, control === undefined ? 0x0001_0003 : 0x0001_000d);
  writeLe(config, 0x104, 4, 0x001f | ((control ?? 0) << 16));
  const kernel = host({ parent: PORT }, (made) => void made.addPciDevice({ ...port, config }));
  if (!readable) {
    const readFile = kernel.readFile.bind(kernel);
    kernel.readFile = (name) => (name.endsWith('/config') ? readFile(name).subarray(0, 64) : readFile(name));
  }
  return kernel;
}

test('group.acs: the first port that lets traffic pass by the IOMMU is named', () => {
  expect(upstreamPorts(below(0x1f), BDF)).toEqual([PORT]);
  expect(found(path(below(0x1d)), 'group.acs')?.explanation).toMatch(/every port above it isolates/);
  for (const control of [undefined, 0x01, 0]) {
    const finding = found(path(below(control)), 'group.acs');
    expect(finding?.explanation).toMatch(/0000:00:1c.0 above it does not isolate/);
    expect(finding?.evidence[0]?.value).toMatch(control === undefined ? /no ACS/ : /needed 0x1d/);
  }
  expect(found(path(below(0x1d, false)), 'group.acs')?.explanation).toMatch(/only root can read/);
});

test('iommu.aperture: guest RAM at addresses that the IOMMU reserves', () => {
  const reserved = (text: string): FakeKernel => {
    const kernel = host();
    kernel.files.addFile('/sys/kernel/iommu_groups/12/reserved_regions', text);
    return kernel;
  };
  const lines = '0x00000000fee00000 0x00000000feefffff msi\n0x0000000010000000 0x00000000100fffff ';
  expect(found(path(reserved(`${lines}direct-relaxable\n`)), 'iommu.aperture')).toBeUndefined();
  const kernel = reserved(`${lines}reserved\n`);
  expect(found(path(kernel, 128 * 2 ** 20), 'iommu.aperture')).toBeUndefined();
  expect(found(path(kernel), 'iommu.aperture')).toMatchObject({
    severity: 'warning',
    evidence: [{ value: '0x0000000010000000 0x00000000100fffff reserved' }],
  });
});

test('limits and policies of the host', () => {
  const kernel = host({}, ({ files }) => {
    files.addFile('/sys/module/vfio_iommu_type1/parameters/dma_entry_limit', '100\n');
    files.addFile('/sys/kernel/mm/transparent_hugepage/enabled', 'always madvise [never]\n');
    files.addFile('/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages', '64\n');
    files.addFile('/sys/firmware/efi/efivars/SecureBoot-8be4df61', new Uint8Array([6, 0, 0, 0, 1]));
  });
  expect(checkHost(kernel).map(({ id, severity, explanation }) => [id, severity, explanation])).toEqual([
    ['vfio.dmalimit', 'warning', 'a container may have only 100 DMA mappings'],
    ['mem.thp', 'info', 'guest RAM gets no transparent huge pages; in reserve: 64 free of 2 MiB'],
    ['sec.sb', 'info', 'Secure Boot is on: VFIO works, modules that are not signed do not load'],
  ]);
});
