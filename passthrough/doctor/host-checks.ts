/** vfio.dmalimit, mem.thp, sec.sb: limits and policies of the host that bear on assigned devices. */
import type { HostFiles } from '../../native/types.ts';
import { formatSize } from '../../vmm/base/units.ts';
import { readText } from '../host/sysfs.ts';
import { type Finding, fix } from './finding.ts';

const DMA_LIMIT = '/sys/module/vfio_iommu_type1/parameters/dma_entry_limit';
/** The kernel's own value. A VM takes few mappings; one that was lowered to a handful may be too low. */
const USUAL_DMA_LIMIT = 65535;
const THP = '/sys/kernel/mm/transparent_hugepage/enabled';
const HUGE_PAGES = '/sys/kernel/mm/hugepages';
const EFI_VARIABLES = '/sys/firmware/efi/efivars';
/** Of an EFI variable in sysfs, before its value. */
const ATTRIBUTE_BYTES = 4;

export function checkHost(files: HostFiles): Finding[] {
  return [...dmaLimit(files), ...hugePages(files), ...secureBoot(files)];
}

function dmaLimit(files: HostFiles): Finding[] {
  const value = readText(files, DMA_LIMIT);
  if (value === undefined || !(Number(value) < USUAL_DMA_LIMIT)) return [];
  return [
    {
      id: 'vfio.dmalimit',
      severity: 'warning',
      subject: 'host',
      evidence: [{ path: DMA_LIMIT, value }],
      explanation: `a container may have only ${value} DMA mappings`,
      fix: [fix(`echo ${USUAL_DMA_LIMIT} | sudo tee ${DMA_LIMIT}`)],
    },
  ];
}

/** Large pages make pinning quick and translations few. */
function hugePages(files: HostFiles): Finding[] {
  const mode = readText(files, THP);
  const reserves = list(files, HUGE_PAGES).flatMap((name) => {
    const free = readText(files, `${HUGE_PAGES}/${name}/free_hugepages`);
    const kib = /^hugepages-(\d+)kB$/.exec(name)?.[1];
    return free === undefined || kib === undefined ? [] : [{ name, free, size: formatSize(Number(kib) * 1024) }];
  });
  if (mode === undefined && reserves.length === 0) return [];
  const isOff = mode?.includes('[never]') ?? true;
  const kept = reserves.map(({ free, size }) => `${free} free of ${size}`).join(', ') || 'none';
  return [
    {
      id: 'mem.thp',
      severity: 'info',
      subject: 'host',
      evidence: [
        ...(mode === undefined ? [] : [{ path: THP, value: mode }]),
        ...reserves.map(({ name, free }) => ({ path: `${HUGE_PAGES}/${name}/free_hugepages`, value: free })),
      ],
      explanation: `guest RAM ${isOff ? 'gets no' : 'can have'} transparent huge pages; in reserve: ${kept}`,
      fix: isOff ? [fix(`echo madvise | sudo tee ${THP}`)] : [],
    },
  ];
}

function secureBoot(files: HostFiles): Finding[] {
  const name = list(files, EFI_VARIABLES).find((variable) => variable.startsWith('SecureBoot-'));
  const path = `${EFI_VARIABLES}/${name}`;
  let bytes: Uint8Array;
  try {
    bytes = files.readFile(path);
  } catch {
    return [];
  }
  if (name === undefined || bytes[ATTRIBUTE_BYTES] !== 1) return [];
  return [
    {
      id: 'sec.sb',
      severity: 'info',
      subject: 'host',
      evidence: [{ path, value: 'on' }],
      explanation: 'Secure Boot is on: VFIO works, modules that are not signed do not load',
      fix: [],
    },
  ];
}

function list(files: HostFiles, path: string): string[] {
  try {
    return files.readDir(path);
  } catch {
    return [];
  }
}
