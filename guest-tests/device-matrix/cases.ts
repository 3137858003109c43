/** The devices of the matrix: what each is in the lab, its Linux driver, and the work that driver is to do. */
import type { DeviceFacts } from '../harness/index.ts';

/** The kind of work; the guest's script has a function of this name. */
export type Work = 'nic' | 'disk' | 'screen' | 'memory' | 'edu' | 'window';

export interface DeviceCase {
  /** Unique in a {@link Batch}. Letters, digits and dashes: it is a word of the guest's script. */
  readonly name: string;
  /** What is special about it, for the document. */
  readonly about: string;
  /** QEMU's device, as the lab takes it; none for the next function of the device before. */
  readonly device?: string;
  /** Whether a device of the host is what the case is about. */
  readonly isReally?: (device: DeviceFacts) => boolean;
  /** Kernel module and PCI driver; none for devices that Linux has no driver for: then the script is the driver. */
  readonly driver?: { readonly module: string; readonly name: string; readonly parameters?: string };
  readonly work: Work;
  /** Moves its data through ports, a word an exit: it is given less to transfer. */
  readonly slow?: true;
  /** How its interrupts appear in the guest's /proc/interrupts. */
  readonly interrupts?: 'PCI-MSI' | 'IO-APIC';
}

/** Devices that one guest has all at once. */
export interface Batch {
  readonly name: string;
  readonly cases: readonly DeviceCase[];
  /** Its devices want a QEMU that only `npm run matrix` fetches; sriov.test.ts has them, too. */
  readonly isForDocument?: true;
}

const e1000e = (parameters: string) => ({ module: 'e1000e', name: 'e1000e', parameters });
/** Functions of one slot whose IOMMU group has both. */
const ofTwo = {
  driver: e1000e(''),
  work: 'nic',
  interrupts: 'PCI-MSI',
  isReally: ({ group }: DeviceFacts) => group?.members.length === 2,
} as const;

/** A test of the harness is told by it which batch its devices are. */
export const BATCH_VARIABLE = 'CAUSEWAY_MATRIX_BATCH';

export const BATCHES: readonly Batch[] = [
  {
    // Root ports in the lab share 64 KiB of I/O space: eight of them can have a device with I/O BARs.
    name: 'cards with I/O ports',
    cases: [
      {
        name: 'e1000',
        about: 'INTx, I/O BAR',
        device: 'e1000',
        driver: { module: 'e1000', name: 'e1000' },
        work: 'nic',
        interrupts: 'IO-APIC',
      },
      {
        name: 'rtl8139',
        about: 'INTx, I/O BAR, BAR of 256 bytes',
        device: 'rtl8139',
        driver: { module: '8139cp', name: '8139cp' },
        work: 'nic',
        interrupts: 'IO-APIC',
      },
      {
        name: 'ne2k_pci',
        about: 'I/O ports only',
        device: 'ne2k_pci',
        driver: { module: 'ne2k-pci', name: 'ne2k-pci' },
        work: 'nic',
        slow: true,
        interrupts: 'IO-APIC',
      },
      {
        name: 'pcnet',
        about: 'INTx, I/O BAR, BAR of 32 bytes',
        device: 'pcnet',
        driver: { module: 'pcnet32', name: 'pcnet32' },
        work: 'nic',
        interrupts: 'IO-APIC',
      },
      {
        name: 'vmxnet3',
        about: 'MSI-X, three small BARs',
        device: 'vmxnet3',
        driver: { module: 'vmxnet3', name: 'vmxnet3' },
        work: 'nic',
        interrupts: 'PCI-MSI',
      },
      {
        name: 'virtio-net',
        about: 'MSI-X, vendor capabilities, iommu_platform',
        device: 'virtio-net-pci',
        driver: { module: 'virtio_net', name: 'virtio-pci' },
        work: 'nic',
        interrupts: 'PCI-MSI',
      },
      {
        name: 'e1000e',
        about: 'MSI-X',
        device: 'e1000e',
        driver: e1000e('IntMode=2'),
        work: 'nic',
        interrupts: 'PCI-MSI',
      },
      {
        name: 'ahci',
        about: 'MSI, disk',
        device: 'ahci',
        driver: { module: 'ahci', name: 'ahci' },
        work: 'disk',
        interrupts: 'PCI-MSI',
      },
    ],
  },
  {
    name: 'memory and messages',
    cases: [
      {
        name: 'e1000e-msi',
        about: 'MSI by driver parameter, INTx when its trial of it fails',
        device: 'e1000e',
        driver: e1000e('IntMode=1,0'),
        work: 'nic',
        // The driver tries an MSI first, and with this model mostly finds none within 100 ms; under QEMU as well.
      },
      {
        name: 'e1000e-intx',
        about: 'INTx, by driver parameter',
        device: 'e1000e',
        driver: e1000e('IntMode=1,0'),
        work: 'nic',
        interrupts: 'IO-APIC',
      },
      {
        name: 'nvme',
        about: '65 MSI-X vectors, disk',
        device: 'nvme',
        driver: { module: 'nvme', name: 'nvme' },
        work: 'disk',
        interrupts: 'PCI-MSI',
      },
      {
        name: 'xhci',
        about: 'MSI-X, USB storage',
        device: 'qemu-xhci',
        driver: { module: 'xhci-pci', name: 'xhci_hcd' },
        work: 'disk',
        interrupts: 'PCI-MSI',
      },
      { name: 'edu', about: 'DMA out and back, no driver in Linux', device: 'edu', work: 'edu' },
      {
        name: 'bochs-display',
        about: 'prefetchable BAR, write-combining in the guest',
        device: 'bochs-display',
        driver: { module: 'bochs', name: 'bochs-drm' },
        work: 'screen',
      },
      { name: 'ivshmem', about: 'prefetchable BAR of shared memory', device: 'ivshmem-plain', work: 'memory' },
      { name: 'pci-testdev', about: 'BAR of 8 GiB', device: 'pci-testdev,membar=8G', work: 'window' },
    ],
  },
  {
    name: 'slots, bridges, resets',
    cases: [
      {
        name: 'e1000e-function-0',
        about: 'first of two functions in one slot',
        device: 'e1000e,functions=2',
        ...ofTwo,
      },
      { name: 'e1000e-function-1', about: 'second function, same slot and IOMMU group', ...ofTwo },
      {
        name: 'e1000-behind-bridge',
        about: 'conventional bridge, which is in its IOMMU group',
        device: 'e1000,place=bridge',
        driver: { module: 'e1000', name: 'e1000' },
        work: 'nic',
        interrupts: 'IO-APIC',
        isReally: ({ group }) => group?.members.some(({ isBridge }) => isBridge) === true,
      },
      {
        name: 'edu-without-reset',
        about: 'root bus: the kernel has no reset for it',
        device: 'edu,place=root',
        work: 'edu',
        isReally: ({ resetMethods }) => resetMethods.length === 0,
      },
    ],
  },
  {
    name: 'physical and virtual functions',
    isForDocument: true,
    cases: [
      {
        name: 'igb',
        about: 'MSI-X, physical function',
        device: 'igb',
        driver: { module: 'igb', name: 'igb' },
        work: 'nic',
        interrupts: 'PCI-MSI',
        isReally: ({ physicalFunction }) => physicalFunction === undefined,
      },
      {
        name: 'igb-vf',
        about: 'virtual function, whose physical one the host has',
        device: 'igb,vfs=1',
        driver: { module: 'igbvf', name: 'igbvf' },
        work: 'nic',
        interrupts: 'PCI-MSI',
        isReally: ({ physicalFunction }) => physicalFunction !== undefined,
      },
    ],
  },
];

/** The batch that {@link BATCH_VARIABLE} names. @throws Error when it names none */
export function chosenBatch(): Batch {
  const wanted = process.env[BATCH_VARIABLE];
  const batch = BATCHES.find(({ name }) => name === wanted);
  if (batch) return batch;
  throw new Error(`${BATCH_VARIABLE} must be one of: ${BATCHES.map(({ name }) => `"${name}"`).join(', ')}`);
}

/** Slot and function of each case's device on the guest's root bus, under every monitor: devices from slot 1 on, in order. */
export function guestAddresses(cases: readonly DeviceCase[]): readonly string[] {
  let slot = 0;
  let number = 0;
  return cases.map(({ device }) => {
    if (device === undefined) number++;
    else [slot, number] = [slot + 1, 0];
    return `${slot.toString(16).padStart(2, '0')}.${number}`;
  });
}
