/** Whether a device's MSI-X can be given to a guest. */
import { VFIO_PCI_IRQ } from '../../native/vfio-abi.ts';
import { CAP, walkCapabilities } from '../../vmm/pci/capabilities.ts';
import type { BarRequest } from '../../vmm/pci/function.ts';
import { type MsixLayout, parseMsix } from '../../vmm/pci/msix.ts';
import type { VfioDevice } from '../vfio/device.ts';

/**
 * The MSI-X layout, unless it lies outside its BARs or VFIO has no vectors. Where VFIO has fewer, fewer are
 * offered, but all of the hardware's table stays out of the guest's reach.
 */
export function usableMsix(
  hardware: Uint8Array,
  device: VfioDevice,
  bars: readonly BarRequest[],
  warn: (message: string) => void,
): MsixLayout | undefined {
  const capability = walkCapabilities(hardware).capabilities.find(({ id }) => id === CAP.MSIX);
  const vectors = device.irqs[VFIO_PCI_IRQ.MSIX]!.count;
  if (!capability || vectors === 0) return undefined;
  const layout = parseMsix(hardware, capability.offset);
  for (const { bar, offset, sizeBytes } of [layout.table, layout.pending]) {
    const isMemory = bars.some(({ index, kind }) => index === bar && kind === 'memory');
    if (isMemory && offset + sizeBytes <= device.regions[bar]!.sizeBytes) continue;
    warn('MSI-X lies outside its BAR and is hidden');
    return undefined;
  }
  return { ...layout, vectorCount: Math.min(layout.vectorCount, vectors) };
}
