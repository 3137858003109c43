/** struct hvm_start_info version 1, what a PVH kernel gets (Xen: xen/include/public/arch-x86/hvm/start_info.h). Pure. */
import { PAGE_SIZE } from '../base/bits.ts';
import type { Range } from '../base/ranges.ts';
import type { E820Entry } from './memory-map.ts';

export interface StartInfoInput {
  /** Guest-physical address at which the bytes will lie. */
  readonly base: number;
  readonly map: readonly E820Entry[];
  readonly cmdline: number;
  readonly initrd: Range | undefined;
  readonly rsdp: number;
}

const MAGIC = 0x336e_c578;
const MODULES_OFFSET = 0x40;
const MAP_OFFSET = 0x80;
const MAP_ENTRY_SIZE = 24;

/**
 * The structure, its module list and its memory map in one page.
 * @throws RangeError when the memory map has too many entries
 */
export function startInfo({ base, map, cmdline, initrd, rsdp }: StartInfoInput): Uint8Array {
  if (MAP_OFFSET + map.length * MAP_ENTRY_SIZE > PAGE_SIZE) throw new RangeError(`${map.length} memory map entries`);
  const page = new Uint8Array(PAGE_SIZE);
  const view = new DataView(page.buffer);
  const u32 = (offset: number, value: number) => view.setUint32(offset, value, true);
  const u64 = (offset: number, value: number) => view.setBigUint64(offset, BigInt(value), true);
  u32(0, MAGIC);
  u32(4, 1);
  u64(24, cmdline);
  u64(32, rsdp);
  u64(40, base + MAP_OFFSET);
  u32(48, map.length);
  if (initrd) {
    u32(12, 1);
    u64(16, base + MODULES_OFFSET);
    u64(MODULES_OFFSET, initrd.start);
    u64(MODULES_OFFSET + 8, initrd.size);
  }
  for (const [index, entry] of map.entries()) {
    const at = MAP_OFFSET + index * MAP_ENTRY_SIZE;
    u64(at, entry.start);
    u64(at + 8, entry.size);
    u32(at + 16, entry.type);
  }
  return page;
}
