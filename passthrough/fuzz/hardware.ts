/** What the fuzzed guest gets: functions made up to have every register that a guest can play with. */
import { type FakePciSpec, pciConfig } from '../../native/fake/pci-spec.ts';

const KIB = 1024;

/** Registers that no capability covers, by offset: raw behind VFIO, closed to the guest but for grants. */
export const GAPS = [0xf0, 0xf4, 0x800, 0xffc] as const;
export const TABLE = { bar: 0, offset: 0x2000, vectors: 20, pendingOffset: 0x3800 } as const;
/** Offsets of capabilities in {@link rich}; the others have none of those that {@link pciConfig} does not make. */
export const CAPABILITY = { pm: 0x40, msi: 0x50, msix: 0x70, pcie: 0x80, vpd: 0xb8, vendor: 0xc0, af: 0xd8 } as const;
const VENDOR_BYTES = 16;

/** Everything at once: ports, a big 64-bit BAR, one below a page, MSI, MSI-X, VPD, vendor, AF, AER, SR-IOV, gaps. */
function rich(): FakePciSpec {
  const spec: FakePciSpec = {
    bdf: '0000:07:00.0',
    group: 30,
    vendor: 0x1234,
    device: 0x5678,
    driver: 'vfio-pci',
    bars: [
      { sizeBytes: 64 * KIB, address: 0xfe00_0000 },
      { sizeBytes: 64, kind: 'io', address: 0xd000 },
      { sizeBytes: 4096 * KIB, is64: true, prefetch: true, address: 0x40_0020_0000 },
      undefined,
      { sizeBytes: 256, mmap: true, address: 0xfe10_0000 },
    ],
    msi: 8,
    msix: {
      vectors: TABLE.vectors,
      tableBar: TABLE.bar,
      tableOffset: TABLE.offset,
      pbaBar: TABLE.bar,
      pbaOffset: TABLE.pendingOffset,
    },
  };
  const config = pciConfig(spec);
  const view = new DataView(config.buffer);
  const link = (at: number, id: number, next: number) => config.set([id, next], at);
  config[CAPABILITY.pcie + 1] = CAPABILITY.vpd;
  link(CAPABILITY.vpd, 0x03, CAPABILITY.vendor);
  link(CAPABILITY.vendor, 0x09, CAPABILITY.af);
  config[CAPABILITY.vendor + 2] = VENDOR_BYTES;
  link(CAPABILITY.af, 0x13, 0);
  config.set([6, 3], CAPABILITY.af + 2);
  view.setUint32(0x100, 0x1401_0001, true);
  view.setUint32(0x140, 0x1a01_0010, true);
  view.setUint32(0x1a0, 0x0001_0003, true);
  for (const gap of GAPS) view.setUint32(gap, 0x5a00_0000 + gap, true);
  return { ...spec, config };
}

/** A second one in its way: two BARs, MSI-X in a BAR of its own, vectors that cannot be added later. */
function fixed(): FakePciSpec {
  return {
    bdf: '0000:08:00.0',
    group: 31,
    vendor: 0x1234,
    device: 0x0001,
    driver: 'vfio-pci',
    bars: [
      { sizeBytes: 16 * KIB, address: 0xfd00_0000 },
      { sizeBytes: 32 * KIB, address: 0xfd01_0000 },
      { sizeBytes: 8 * KIB, mmap: false, address: 0xfd02_0000 },
    ],
    msi: 1,
    msix: { vectors: 20, tableBar: 1, tableOffset: 0x2000, pbaBar: 1, pbaOffset: 0x3800 },
    vfio: { dynamicMsix: false, availableVectors: 12 },
  };
}

/** A virtual function: its memory enable is the kernel's. No INTx. */
function virtual(): FakePciSpec {
  return {
    bdf: '0000:09:10.0',
    group: 32,
    vendor: 0x1234,
    device: 0x0002,
    driver: 'vfio-pci',
    isVf: true,
    interruptPin: 0,
    bars: [
      { sizeBytes: 16 * KIB, is64: true, address: 0x41_0000_0000 },
      undefined,
      { sizeBytes: 16 * KIB, is64: true },
    ],
    msix: { vectors: 3, tableBar: 2, tableOffset: 0, pbaBar: 2, pbaOffset: 0x2000 },
  };
}

export const FUNCTIONS: readonly FakePciSpec[] = [rich(), fixed(), virtual()];

/** Hardware bits that a guest may change without a grant, by offset. */
export function openBits(config: Uint8Array, isVf: boolean): Uint8Array {
  const open = new Uint8Array(config.length);
  open[0x04] = isVf ? 0x15 : 0x17;
  open[0x05] = 0x04;
  open[CAPABILITY.pm + 4] = 0x03;
  open.set([0x10, 0x79], CAPABILITY.pcie + 8);
  open[CAPABILITY.pcie + 40] = 0x1f;
  const isRich = config[CAPABILITY.vendor] === 0x09;
  if (isRich) open.fill(0xff, CAPABILITY.vendor + 3, CAPABILITY.vendor + VENDOR_BYTES);
  return open;
}
