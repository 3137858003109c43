/** struct boot_params, the "zero page" of Linux (kernel: arch/x86/include/uapi/asm/bootparam.h, zero-page.rst). Pure. */
import { high32, low32, PAGE_SIZE } from '../base/bits.ts';
import type { Range } from '../base/ranges.ts';
import type { E820Entry } from './memory-map.ts';
import { SETUP_HEADER_OFFSET } from './setup-header.ts';

export interface ZeroPageInput {
  /** Setup header of the bzImage; without one a header is made up that says the same to an unpacked kernel. */
  readonly header: Uint8Array | undefined;
  readonly map: readonly E820Entry[];
  /** Guest-physical address of the NUL-terminated command line, below 4 GiB. */
  readonly cmdline: number;
  readonly initrd: Range | undefined;
  readonly rsdp: number;
}

/** The zero page has room for so many; a longer map would need a setup_data list. */
export const MAX_E820_ENTRIES = 128;
/** Loaders without a number of their own. */
const LOADER_UNDEFINED = 0xff;
const LOADED_HIGH = 1;

/** @throws RangeError when the memory map has too many entries */
export function zeroPage({ header, map, cmdline, initrd, rsdp }: ZeroPageInput): Uint8Array {
  if (map.length > MAX_E820_ENTRIES) throw new RangeError(`${map.length} e820 entries; the zero page holds 128`);
  const page = new Uint8Array(PAGE_SIZE);
  const view = new DataView(page.buffer);
  const u32 = (offset: number, value: number) => view.setUint32(offset, value, true);
  const u64 = (offset: number, value: number) => view.setBigUint64(offset, BigInt(value), true);
  if (header) {
    page.set(header, SETUP_HEADER_OFFSET);
  } else {
    view.setUint16(0x1fe, 0xaa55, true);
    u32(0x202, 0x5372_6448);
    view.setUint16(0x206, 0x20c, true);
    page[0x211] = LOADED_HIGH;
    u32(0x230, 0x20_0000);
  }
  page[0x210] = LOADER_UNDEFINED;
  u32(0x228, cmdline);
  if (initrd) {
    u32(0x218, low32(initrd.start));
    u32(0x21c, low32(initrd.size));
    // ext_ramdisk_image and ext_ramdisk_size: the upper halves.
    u32(0x0c0, high32(initrd.start));
    u32(0x0c4, high32(initrd.size));
  }
  // setup_data: no list, whatever the file says.
  u64(0x250, 0);
  u64(0x070, rsdp);
  page[0x1e8] = map.length;
  for (const [index, entry] of map.entries()) {
    u64(0x2d0 + index * 20, entry.start);
    u64(0x2d0 + index * 20 + 8, entry.size);
    u32(0x2d0 + index * 20 + 16, entry.type);
  }
  return page;
}
