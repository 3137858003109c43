/** Whether a device's MSI-X can be given to a guest. */
import { VFIO_PCI_IRQ } from '../../native/vfio-abi.ts';
import { CAP, walkCapabilities } from '../../vmm/pci/capabilities.ts';
import type { BarRequest } from '../../vmm/pci/function.ts';
import { type MsixLayout, parseMsix } from '../../vmm/pci/msix.ts';
import type { VfioDevice } from '../vfio/device.ts';

/** Where the hardware has its table and pending bits, if it has any: the guest must not reach that table, usable or not. */
export function hardwareMsix(hardware: Uint8Array): MsixLayout | undefined {
  const capability = walkCapabilities(hardware).capabilities.find(({ id }) => id === CAP.MSIX);
  return capability && parseMsix(hardware, capability.offset);
}

/**
 * The layout as the guest gets it, unless it lies outside its BARs or VFIO has no vectors. Where VFIO has fewer, fewer
 * are offered.
 */
export function usableMsix(
  layout: MsixLayout | undefined,
  device: VfioDevice,
  bars: readonly BarRequest[],
  warn: (message: string) => void,
): MsixLayout | undefined {
  const vectors = device.irqs[VFIO_PCI_IRQ.MSIX]!.count;
  if (!layout || vectors === 0) return undefined;
  for (const { bar, offset, sizeBytes } of [layout.table, layout.pending]) {
    const isMemory = bars.some(({ index, kind }) => index === bar && kind === 'memory');
    if (isMemory && offset + sizeBytes <= device.regions[bar]!.sizeBytes) continue;
    warn('MSI-X lies outside its BAR and is hidden');
    return undefined;
  }
  return { ...layout, vectorCount: Math.min(layout.vectorCount, vectors) };
}
