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

/**
 * One mode at a time (PCI 3.0 §6.8.3.3); with MSI and MSI-X off the function is back on INTx.
 * @param isDeliverable whether a message is an interrupt at all
 */
export function desiredInterrupts(
  { intx, msi, msix }: InterruptRegisters,
  isDeliverable: (message: MsiMessage) => boolean,
): DesiredInterrupts {
  const armed = (vectors: readonly ArmedVector[]): ArmedVector[] =>
    vectors.filter(({ message }) => isDeliverable(message));
  if (msix?.enabled) return { mode: 'msix', count: msix.vectorCount, armed: armed(msix.desiredVectors()) };
  if (msi?.enabled) return { mode: 'msi', count: msi.enabledCount, armed: armed(msi.desiredVectors()) };
  return { mode: intx ? 'intx' : 'none' };
}
