/** What the guest learns about its CPU: KVM's supported set, with each vCPU's own topology (SDM vol. 2A, CPUID). */
import type { CpuidEntry } from '../../native/types.ts';

const LEAF = {
  features: 1,
  cache: 4,
  topology: 0xb,
  topologyV2: 0x1f,
  address: 0x8000_0008,
  amdTopology: 0x8000_001e,
} as const;
const AMD_CACHE = 0x8000_001d;
/** KVM's features, and the one that lets guests name destinations up to 32767 in messages (Documentation/virt/kvm/x86/cpuid.rst). */
const KVM_FEATURES = 0x4000_0001;
const KVM_FEATURE_MSI_EXT_DEST_ID = 1 << 15;
/** CPUID.1:ECX[31]: a hypervisor is present. */
const HYPERVISOR = 1 << 31;
/** CPUID.1:ECX[24]: the LAPIC timer has a TSC deadline mode; KVM emulates it, but lists it apart from the supported set. */
const TSC_DEADLINE = 1 << 24;
/** CPUID.1:EDX[28]: EBX[23:16] is valid. */
const MULTI_THREADED = 1 << 28;

/** Width of guest-physical addresses, bits (CPUID 0x80000008 EAX[7:0]); 36 when the leaf is missing, as the SDM says. */
export function physicalBits(supported: readonly CpuidEntry[]): number {
  const leaf = supported.find((entry) => entry.function === LEAF.address);
  return leaf ? leaf.eax & 0xff : 36;
}

/** Bits needed to number `count` things. */
function widthOf(count: number): number {
  return Math.ceil(Math.log2(Math.max(1, count)));
}

/**
 * The table of one vCPU: one socket, `cpus` cores of one thread each; APIC ID = index.
 * PAT and MTRR stay as KVM offers them: guests need both for write-combining.
 */
export function cpuidFor(
  supported: readonly CpuidEntry[],
  index: number,
  cpus: number,
  { tscDeadline, x2apicFormat }: { readonly tscDeadline: boolean; readonly x2apicFormat: boolean },
): CpuidEntry[] {
  const shift = widthOf(cpus);
  return supported
    .filter((entry) => entry.function !== LEAF.topology && entry.function !== LEAF.topologyV2)
    .map((entry) => {
      const { eax, ebx, ecx, edx } = entry;
      switch (entry.function) {
        case LEAF.features:
          return {
            ...entry,
            ebx: ((ebx & 0x0000_ffff) | (Math.min(cpus, 255) << 16) | (index << 24)) >>> 0,
            ecx: (ecx | HYPERVISOR | (tscDeadline ? TSC_DEADLINE : 0)) >>> 0,
            edx: (cpus > 1 ? edx | MULTI_THREADED : edx & ~MULTI_THREADED) >>> 0,
          };
        case LEAF.cache:
          // EAX[31:26] cores in the package, EAX[25:14] threads that share the cache.
          return (eax & 0x1f) === 0 ? entry : { ...entry, eax: ((eax & 0x3fff) | ((cpus - 1) << 26)) >>> 0 };
        case AMD_CACHE:
          return (eax & 0x1f) === 0 ? entry : { ...entry, eax: (eax & 0x3fff) >>> 0 };
        case LEAF.address:
          return { ...entry, ecx: (((ecx & 0xffff_0f00 & ~0xff) | (shift << 12) | (cpus - 1)) & 0xffff_ffff) >>> 0 };
        case KVM_FEATURES:
          return x2apicFormat ? { ...entry, eax: (eax | KVM_FEATURE_MSI_EXT_DEST_ID) >>> 0 } : entry;
        case LEAF.amdTopology:
          return { ...entry, eax: index, ebx: index & 0xff, ecx: 0 };
        default:
          return entry;
      }
    })
    .concat(topologyLeaf(index, shift, cpus));
}

/** Leaf 0xB: level 0 threads (one each), level 1 cores. */
function topologyLeaf(index: number, shift: number, cpus: number): CpuidEntry[] {
  const SIGNIFICANT_INDEX = 1;
  const leaf = { function: LEAF.topology, flags: SIGNIFICANT_INDEX, edx: index };
  return [
    { ...leaf, index: 0, eax: 0, ebx: 1, ecx: 0x100 },
    { ...leaf, index: 1, eax: shift, ebx: cpus, ecx: 0x201 },
    { ...leaf, index: 2, eax: 0, ebx: 0, ecx: 2 },
  ];
}
