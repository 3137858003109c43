/** What sysfs says of a device, as arguments of the `pci` payload: the guest must find the same. */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { PayloadArgs } from './run.ts';

const BAR_COUNT = 6;
/** Flags in `resource` (kernel: include/linux/ioport.h). */
const FLAG = { port: 0x100, prefetchable: 0x2000, is64: 0x10_0000 } as const;
const PAGE_SIZE = 4096;

/**
 * IDs, class, size of config space, and every BAR.
 * @param bdf host address in full form
 */
export function argsFromSysfs(bdf: string): PayloadArgs {
  const folder = join('/sys/bus/pci/devices', bdf);
  const read = (name: string) => readFileSync(join(folder, name), 'utf8').trim();
  const hex = (value: number) => `0x${value.toString(16)}`;
  const pair = (high: string, low: string) => hex(Number(read(high)) * 0x1_0000 + Number(read(low)));
  return {
    id: pair('device', 'vendor'),
    class: hex(Number(read('class')) * 0x100 + Number(read('revision'))),
    subsystem: pair('subsystem_device', 'subsystem_vendor'),
    config: statSync(join(folder, 'config')).size,
    bars: 'all',
    ...Object.fromEntries(read('resource').split('\n').slice(0, BAR_COUNT).flatMap(barArgument)),
  };
}

/** A line of `resource`: first and last address, flags. */
function barArgument(line: string, index: number): [string, string][] {
  const [start = 0, end = 0, flags = 0] = line.split(' ').map(Number);
  if (end === 0) return [];
  const isPort = (flags & FLAG.port) !== 0;
  // A guest's BAR is at least a page, so that nothing else can share it.
  const size = isPort ? end - start + 1 : Math.max(PAGE_SIZE, end - start + 1);
  const kinds = [
    isPort ? 'io' : '',
    !isPort && flags & FLAG.is64 ? '64' : '',
    !isPort && flags & FLAG.prefetchable ? 'p' : '',
  ];
  return [[`bar${index}`, `${size.toString(16)},${kinds.join('')}`]];
}
