/** Functions that tests assign: ready-made specs for the fake kernel. */

import type { Fd } from '../types.ts';
import type { FakeKernel } from './fake-kernel.ts';
import type { FakePciSpec } from './pci-spec.ts';

/** A NIC like an 82574L: a memory BAR, an I/O BAR, and a BAR of its own for the MSI-X table. */
export function nicSpec(overrides: Partial<FakePciSpec> = {}): FakePciSpec {
  return {
    bdf: '0000:01:00.0',
    vendor: 0x8086,
    device: 0x10d3,
    class: 0x020000,
    group: 7,
    driver: 'vfio-pci',
    nativeDriver: 'e1000e',
    bars: [
      { sizeBytes: 0x20000, address: 0xfebc0000 },
      undefined,
      { sizeBytes: 0x20, kind: 'io', address: 0xc000 },
      { sizeBytes: 0x4000, address: 0xfeb80000 },
    ],
    msi: 1,
    msix: { vectors: 5, tableBar: 3, tableOffset: 0, pbaBar: 3, pbaOffset: 0x2000 },
    ...overrides,
  };
}

/** Fds of an opened device and all that stands before it. */
export interface OpenedDevice {
  readonly container: Fd;
  readonly group: Fd;
  readonly device: Fd;
}

/** The legacy sequence up to the device fd. */
export function openDevice(kernel: FakeKernel, bdf = '0000:01:00.0', groupNumber = 7): OpenedDevice {
  const container = kernel.open('/dev/vfio/vfio', 'rw');
  const group = kernel.open(`/dev/vfio/${groupNumber}`, 'rw');
  kernel.vfioGroupSetContainer(group, container);
  kernel.vfioSetIommu(container, 3);
  return { container, group, device: kernel.vfioGroupGetDevice(group, bdf) };
}
