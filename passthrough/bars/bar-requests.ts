/** Which BARs a guest gets for the regions of a device. Pure. */
import { PAGE_SIZE, readLe } from '../../vmm/base/bits.ts';
import { BAR_COUNT, BAR0_OFFSET } from '../../vmm/pci/bar-registers.ts';
import { type BarRequest, ROM_BAR } from '../../vmm/pci/function.ts';
import { type HostResource, RESOURCE } from '../host/sysfs.ts';
import type { Region } from '../vfio/regions.ts';

interface BarKind {
  readonly kind: 'memory' | 'port';
  readonly is64: boolean;
  readonly prefetchable: boolean;
}

/**
 * One request for each region with a size. 64-bit and prefetchable bits are those of the hardware, as guests ask for
 * write-combining only behind them. A BAR smaller than a page becomes one page, so that nothing else can
 * share it.
 */
export function barRequests(
  regions: readonly Region[],
  resources: readonly HostResource[],
  config: Uint8Array,
): BarRequest[] {
  const requests: BarRequest[] = [];
  for (let index = 0; index < BAR_COUNT; index++) {
    const sizeBytes = regions[index]?.sizeBytes ?? 0;
    const upper = requests.at(-1);
    if (sizeBytes === 0 || (upper?.is64 && upper.index === index - 1)) continue;
    const kind = barKind(resources[index]?.flags ?? 0, readLe(config, BAR0_OFFSET + 4 * index, 4));
    const least = kind.kind === 'memory' ? PAGE_SIZE : 4;
    requests.push({ index, sizeBytes: Math.max(least, 2 ** Math.ceil(Math.log2(sizeBytes))), ...kind });
  }
  return requests;
}

/** The BAR of an expansion ROM of so many bytes, a power of two. */
export function romRequest(sizeBytes: number): BarRequest {
  return { index: ROM_BAR, sizeBytes, kind: 'memory', is64: false, prefetchable: false };
}

/** The resource flags of sysfs know more than the register: VFIO shows a BAR that the host did not place as 0. */
function barKind(resourceFlags: number, register: number): BarKind {
  if (resourceFlags & (RESOURCE.IO | RESOURCE.MEMORY)) {
    return {
      kind: resourceFlags & RESOURCE.IO ? 'port' : 'memory',
      is64: (resourceFlags & RESOURCE.MEM_64) !== 0,
      prefetchable: (resourceFlags & RESOURCE.MEMORY) !== 0 && (resourceFlags & RESOURCE.PREFETCH) !== 0,
    };
  }
  if (register & 1) return { kind: 'port', is64: false, prefetchable: false };
  return { kind: 'memory', is64: (register & 6) === 4, prefetchable: (register & 8) !== 0 };
}
