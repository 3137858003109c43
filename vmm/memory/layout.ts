/** Where things lie in guest-physical memory. A pure function, shared by RAM, PCI, ACPI and the boot loader. */
import { alignUp, GIB, MIB } from '../base/bits.ts';
import { endOf, type Range } from '../base/ranges.ts';

/** The guest-physical map. All addresses are GPAs, bytes. */
export interface MemoryLayout {
  /** One or two ranges: below the PCI hole, and from 4 GiB up. */
  readonly ram: readonly Range[];
  /** 32-bit window for BARs. */
  readonly mmio32: Range;
  /** 64-bit prefetchable window for BARs, above all RAM. */
  readonly mmio64: Range;
  /** Memory-mapped config space, 1 MiB a bus. */
  readonly ecam: Range;
}

/** RAM ends here below 4 GiB; up to 4 GiB lies the hole: BARs, ECAM, IOAPIC, LAPIC, KVM's own pages. */
export const PCI_HOLE_START: number = 3 * GIB;
export const HIGH_RAM_START: number = 4 * GIB;
export const IOAPIC_BASE = 0xfec0_0000;
export const LAPIC_BASE = 0xfee0_0000;
/** Three pages that KVM on Intel needs for real mode, and the page of its identity map. Below 4 GiB, in the hole. */
export const KVM_TSS_BASE = 0xfffb_d000;
export const KVM_IDENTITY_MAP_BASE = 0xfffb_c000;
const ECAM_START = 0xe000_0000;
const MMIO32: Range = { start: PCI_HOLE_START, size: ECAM_START - PCI_HOLE_START };
/** The 64-bit window starts here or in the middle of what the CPU can address, so that big BARs are naturally aligned. */
const MMIO64_START: number = 64 * GIB;

/**
 * @param sizeBytes guest RAM, a multiple of 4 KiB
 * @param physicalBits width of guest-physical addresses (CPUID 0x80000008); the 64-bit window stays below 2^bits
 * @param buses that ECAM covers. Linux probes every device number of every bus that MCFG names and the hierarchy does not
 *   lead to, two exits each, so none is offered that cannot hold a device
 */
export function memoryLayout(sizeBytes: number, physicalBits: number, buses = 1): MemoryLayout {
  const low: Range = { start: 0, size: Math.min(sizeBytes, PCI_HOLE_START) };
  const high: Range = { start: HIGH_RAM_START, size: sizeBytes - low.size };
  const ram = high.size > 0 ? [low, high] : [low];
  const top = 2 ** Math.min(physicalBits, 48);
  const ramEnd = endOf(ram.at(-1)!);
  // Natural alignment of the largest BAR wants a start that is itself well aligned, where there is room for that.
  const aligned = [32 * GIB, GIB].map((align) => Math.max(Math.min(MMIO64_START, top / 2), alignUp(ramEnd, align)));
  const start = aligned.find((candidate) => candidate < top) ?? top;
  const mmio64 = { start, size: Math.max(0, Math.min(top - start, 512 * GIB)) };
  return { ram, mmio32: MMIO32, mmio64, ecam: { start: ECAM_START, size: buses * MIB } };
}

/**
 * The layout with its 64-bit window kept to addresses that DMA can reach, so that devices can reach each other's BARs
 * there: an IOMMU may be narrower than the processor. As it was where they have nothing in common.
 * @param reachable ranges that the IOMMU can map
 */
export function withinReach(layout: MemoryLayout, reachable: readonly Range[]): MemoryLayout {
  const { mmio64 } = layout;
  const common = reachable.map((range): Range => {
    const start = Math.max(range.start, mmio64.start);
    return { start, size: Math.min(endOf(range), endOf(mmio64)) - start };
  });
  const largest = common.reduce((best, range) => (range.size > best.size ? range : best), { start: 0, size: 0 });
  return largest.size > 0 ? { ...layout, mmio64: largest } : layout;
}
