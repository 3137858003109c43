/**
 * Where a guest finds the MSI-X table and the pending bits. They are emulated, so they may lie anywhere: moved into a BAR
 * of their own, or behind the end of another, they no longer force the registers beside them to be trapped.
 *
 * The page that is opened by it holds the device's real table, too. What a guest writes there garbles the device's own
 * messages, which interrupt remapping keeps from doing harm to the host: without it nothing is moved.
 */
import type { HostFiles } from '../../native/types.ts';
import { alignDown, alignUp } from '../../vmm/base/bits.ts';
import { CausewayError } from '../../vmm/base/errors.ts';
import type { Range } from '../../vmm/base/ranges.ts';
import { formatSize } from '../../vmm/base/units.ts';
import type { MsixRelocation } from '../../vmm/config/model.ts';
import { BAR_COUNT } from '../../vmm/pci/bar-registers.ts';
import type { BarRequest } from '../../vmm/pci/function.ts';
import type { MsixLayout } from '../../vmm/pci/msix.ts';
import { readText } from '../host/sysfs.ts';

const UNSAFE_INTERRUPTS = ['vfio_iommu_type1', 'iommufd'].map(
  (module) => `/sys/module/${module}/parameters/allow_unsafe_interrupts`,
);

/** Both layouts of one function, and the BARs that go with them. */
export interface MsixPlacement {
  readonly guest: MsixLayout;
  /** Where the device has its own. */
  readonly hardware: MsixLayout;
  readonly isRelocated: boolean;
  /** With the one that the table went to grown or added. */
  readonly bars: readonly BarRequest[];
  /** For people: where it went, or why it stays. Absent when nobody asked. */
  readonly detail?: string;
}

/** Why messages from the device may not be isolated; undefined when they are: VFIO takes no other IOMMU unless told to. */
export function unsafeInterrupts(files: HostFiles): string | undefined {
  return UNSAFE_INTERRUPTS.find((path) => ['Y', '1'].includes(readText(files, path) ?? ''));
}

/**
 * @param unsafe from {@link unsafeInterrupts}
 * @param label for the error
 * @throws CausewayError DEVICE_UNSUPPORTED for a BAR that cannot take it
 */
export function placeMsix(
  wish: MsixRelocation,
  hardware: MsixLayout,
  bars: readonly BarRequest[],
  {
    unsafe,
    label,
    pageBytes,
  }: { readonly unsafe: string | undefined; readonly label: string; readonly pageBytes: number },
): MsixPlacement {
  const unmoved = { guest: hardware, hardware, isRelocated: false, bars };
  if (wish === 'off') return unmoved;
  if (unsafe !== undefined) {
    return { ...unmoved, detail: `not moved: ${unsafe} is on, so a guest could forge interrupts by the real table` };
  }
  const target = wish === 'auto' ? bestBar(bars) : Number(wish.slice('bar'.length));
  const bar = target === undefined ? undefined : roomIn(target, bars, bytesOf(hardware), pageBytes);
  if (bar) return relocated(hardware, bars, bar.request, bar.offset);
  if (wish === 'auto')
    return { ...unmoved, detail: 'not moved: the device has neither a free BAR nor one that can grow' };
  throw new CausewayError(
    'DEVICE_UNSUPPORTED',
    `${label}: the MSI-X table cannot be moved to ${wish}: it is ${nature(target!, bars)}`,
    {
      hint: 'msixRelocation "auto" finds a BAR by itself',
    },
  );
}

function relocated(
  hardware: MsixLayout,
  bars: readonly BarRequest[],
  request: BarRequest,
  offset: number,
): MsixPlacement {
  const { table, pending, vectorCount } = hardware;
  const others = bars.filter(({ index }) => index !== request.index);
  const isNew = others.length === bars.length;
  return {
    guest: {
      vectorCount,
      table: { bar: request.index, offset, sizeBytes: table.sizeBytes },
      pending: { bar: request.index, offset: offset + alignUp(table.sizeBytes, 8), sizeBytes: pending.sizeBytes },
    },
    hardware,
    isRelocated: true,
    bars: [...others, request].sort((a, b) => a.index - b.index),
    detail: `moved to BAR${request.index}, ${isNew ? 'added' : 'grown'} to ${formatSize(request.sizeBytes)}`,
  };
}

/** The BAR that would take it, and where in it. */
function roomIn(
  index: number,
  bars: readonly BarRequest[],
  sizeBytes: number,
  pageBytes: number,
): { readonly request: BarRequest; readonly offset: number } | undefined {
  const present = bars.find((bar) => bar.index === index);
  if (present) {
    const size = powerOfTwo(present.sizeBytes + sizeBytes);
    if (present.kind !== 'memory' || (!present.is64 && size > 2 ** 31)) return undefined;
    return { request: { ...present, sizeBytes: size }, offset: present.sizeBytes };
  }
  if (isUpperHalf(index, bars)) return undefined;
  const size = powerOfTwo(Math.max(pageBytes, sizeBytes));
  return { request: { index, sizeBytes: size, kind: 'memory', is64: false, prefetchable: false }, offset: 0 };
}

/** A free register; else the smallest memory BAR, not a prefetchable one if there is another. */
function bestBar(bars: readonly BarRequest[]): number | undefined {
  for (let index = 0; index < BAR_COUNT; index++) {
    if (!bars.some((bar) => bar.index === index) && !isUpperHalf(index, bars)) return index;
  }
  const memory = bars.filter(({ kind }) => kind === 'memory');
  memory.sort((a, b) => Number(a.prefetchable) - Number(b.prefetchable) || a.sizeBytes - b.sizeBytes);
  return memory[0]?.index;
}

/** Whole pages of the real table, with nothing else in them: they stay closed wherever the guest's table is. */
export function tableOnlyPages({ table }: MsixLayout, bar: number, pageBytes: number): Range[] {
  if (table.bar !== bar) return [];
  const start = alignUp(table.offset, pageBytes);
  const end = alignDown(table.offset + table.sizeBytes, pageBytes);
  return end > start ? [{ start, size: end - start }] : [];
}

function bytesOf({ table, pending }: MsixLayout): number {
  return alignUp(table.sizeBytes, 8) + pending.sizeBytes;
}

function isUpperHalf(index: number, bars: readonly BarRequest[]): boolean {
  return bars.some((bar) => bar.is64 && bar.index === index - 1);
}

function nature(index: number, bars: readonly BarRequest[]): string {
  if (isUpperHalf(index, bars)) return `the upper half of BAR${index - 1}`;
  const bar = bars.find((candidate) => candidate.index === index);
  return bar?.kind === 'port' ? 'a BAR of ports' : 'too large to grow';
}

function powerOfTwo(sizeBytes: number): number {
  return 2 ** Math.ceil(Math.log2(sizeBytes));
}
