/** What the host says about a device while it is assigned: an error was seen, or the host wants it back. */
import type { Fd, HostBdf, Native } from '../../native/types.ts';
import { VFIO_PCI_IRQ } from '../../native/vfio-abi.ts';
import type { VfioDevice } from '../vfio/device.ts';
import { DeviceIrqs } from '../vfio/irqs.ts';

export interface DeviceEvent {
  readonly type: 'device';
  readonly bdf: HostBdf;
  /** The function's label. */
  readonly label: string;
  /**
   * `error`: an uncorrectable PCIe error, the device's state is unknown.
   * `release-request`: the host wants to unbind it and waits; repeated every 10 s.
   */
  readonly what: 'error' | 'release-request';
}

const KINDS = [
  { index: VFIO_PCI_IRQ.ERR, what: 'error' },
  { index: VFIO_PCI_IRQ.REQ, what: 'release-request' },
] as const;

/** Registers for both, where the kernel has them. Returns what ends it. */
export function watchDevice(
  native: Native,
  device: VfioDevice,
  listener: (what: DeviceEvent['what']) => void,
  warn: (message: string) => void,
): () => void {
  const watched: { readonly fd: Fd; readonly irqs: DeviceIrqs }[] = [];
  for (const { index, what } of KINDS) {
    if ((device.irqs[index]?.count ?? 0) === 0) continue;
    const fd = native.eventfd();
    const irqs = new DeviceIrqs(native, device.fd, index);
    try {
      irqs.trigger(0, [fd]);
      native.watch(fd, () => listener(what));
      watched.push({ fd, irqs });
    } catch (error) {
      native.close(fd);
      warn(`${device.bdf}: ${what} events are not to be had: ${String(error)}`);
    }
  }
  return () => {
    for (const { fd, irqs } of watched.splice(0)) {
      native.unwatch(fd);
      try {
        irqs.disable();
      } catch {
        // A device that is gone takes its interrupts along.
      }
      native.close(fd);
    }
  };
}
