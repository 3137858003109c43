/** Which interrupts a function shall deliver, from its registers alone. Pure. */
import type { MsiMessage } from '../../vmm/irq/irq-router.ts';
import type { ArmedVector, Msi } from '../../vmm/pci/msi.ts';
import type { Msix } from '../../vmm/pci/msix.ts';

export type DesiredInterrupts =
  | { readonly mode: 'none' | 'intx' }
  | {
      readonly mode: 'msi' | 'msix';
      /** Vectors that the guest enabled, masked ones included. */
      readonly count: number;
      /** Vectors to deliver now. */
      readonly armed: readonly ArmedVector[];
    };

export interface InterruptRegisters {
  readonly intx: boolean;
  readonly msi: Pick<Msi, 'enabled' | 'enabledCount' | 'desiredVectors'> | undefined;
  readonly msix: Pick<Msix, 'enabled' | 'vectorCount' | 'desiredVectors'> | undefined;
}

/** One mode at a time (PCI 3.0 §6.8.3.3); with MSI and MSI-X off the function is back on INTx. */
export function desiredInterrupts({ intx, msi, msix }: InterruptRegisters): DesiredInterrupts {
  if (msix?.enabled) {
    return { mode: 'msix', count: msix.vectorCount, armed: msix.desiredVectors().filter(isDeliverable) };
  }
  if (msi?.enabled) return { mode: 'msi', count: msi.enabledCount, armed: msi.desiredVectors().filter(isDeliverable) };
  return { mode: intx ? 'intx' : 'none' };
}

/**
 * Whether a message is an interrupt at all: its address lies in the local APICs' window, below 4 GiB. The upper half
 * names destinations beyond 255 only in KVM's x2APIC format (KVM_CAP_X2APIC_API), which no guest here is large enough
 * for; without it KVM would ignore that half and interrupt the wrong processor.
 */
function isDeliverable({ message }: { readonly message: MsiMessage }): boolean {
  return message.addressLo >>> 20 === 0xfee && message.addressHi === 0;
}
