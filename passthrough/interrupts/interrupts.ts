/** Keeps VFIO's and KVM's interrupts equal to what a function's registers ask for. For one power cycle. */
import type { Native } from '../../native/types.ts';
import { VFIO_PCI_IRQ } from '../../native/vfio-abi.ts';
import type { PciServices } from '../../vmm/pci/function.ts';
import type { VfioDevice } from '../vfio/device.ts';
import { DeviceIrqs } from '../vfio/irqs.ts';
import type { DesiredInterrupts } from './desired.ts';
import { IntxLine } from './intx.ts';
import { VectorSet } from './vectors.ts';

export type InterruptMode = DesiredInterrupts['mode'];

export class Interrupts {
  readonly #device: VfioDevice;
  readonly #warn: (message: string) => void;
  readonly #intx: IntxLine;
  readonly #msi: VectorSet;
  readonly #msix: VectorSet;
  #mode: InterruptMode = 'none';
  /** Vectors with which the mode was turned on; MSI has to be turned off and on to change it. */
  #count = 0;

  constructor(native: Native, device: VfioDevice, services: PciServices) {
    this.#device = device;
    const warned = new Set<string>();
    this.#warn = (message) => {
      if (!warned.has(message)) services.warn(message);
      warned.add(message);
    };
    const irqs = (index: number): DeviceIrqs => new DeviceIrqs(native, device.fd, index);
    this.#intx = new IntxLine(native, services.irq, irqs(VFIO_PCI_IRQ.INTX), services.intxGsi);
    this.#msi = new VectorSet(native, services.irq, irqs(VFIO_PCI_IRQ.MSI), this.#warn);
    this.#msix = new VectorSet(native, services.irq, irqs(VFIO_PCI_IRQ.MSIX), this.#warn);
  }

  get mode(): InterruptMode {
    return this.#mode;
  }

  /** Vectors that KVM delivers right now. */
  get routedCount(): number {
    if (this.#mode === 'intx') return this.#intx.enabled ? 1 : 0;
    return this.#vectors?.attachedCount ?? 0;
  }

  /** Whether an interrupt of a vector of the current mode waits; undefined when only the hardware knows. */
  isPending(vector: number): boolean | undefined {
    return this.#vectors?.isPending(vector);
  }

  /** Never throws for what a guest asks for. VFIO allows one mode at a time, so the old one goes first. */
  apply(desired: DesiredInterrupts): void {
    const count = 'count' in desired ? desired.count : 0;
    if (desired.mode !== this.#mode || count !== this.#count) {
      this.#disable();
      this.#mode = desired.mode;
      this.#count = count;
      this.#enable(desired.mode, count);
    }
    if ('armed' in desired) this.#vectors?.apply(desired.armed);
  }

  get #vectors(): VectorSet | undefined {
    if (this.#mode === 'msix') return this.#msix;
    return this.#mode === 'msi' ? this.#msi : undefined;
  }

  #enable(mode: InterruptMode, count: number): void {
    try {
      if (mode === 'intx') this.#intx.enable();
      if (mode === 'msi') this.#msi.enableMsi(count);
      if (mode === 'msix') this.#msix.enableMsix(this.#device.irqs[VFIO_PCI_IRQ.MSIX]!, count);
    } catch (error) {
      this.#warn(`${mode} cannot be enabled: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  #disable(): void {
    this.#intx.disable();
    this.#vectors?.disable();
  }
}
