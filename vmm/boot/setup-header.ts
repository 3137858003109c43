/**
 * The setup header of a bzImage (kernel: Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header").
 * The file is not trusted: every number is checked before it is used.
 */
import { alignUp, isPowerOfTwo, join32, MIB, readLe } from '../base/bits.ts';
import { CausewayError } from '../base/errors.ts';
import { hex } from '../base/units.ts';

/** Bytes from the start of the file that hold the whole header. */
export const HEADER_PROBE_SIZE = 4096;
/** Offset of the setup header, in the file and in the zero page alike. */
export const SETUP_HEADER_OFFSET = 0x1f1;
/** The zero page has its next field there. */
const SETUP_HEADER_LIMIT = 0x290;
const SECTOR = 512;
/** Boot protocol 2.12 brought the 64-bit flags. */
const MIN_VERSION = 0x20c;
const LOADED_HIGH = 1;
const XLF_KERNEL_64 = 1;
const XLF_CAN_BE_LOADED_ABOVE_4G: number = 1 << 1;

/** What the loader needs of a bzImage. Offsets are in the file, addresses guest-physical, sizes bytes. */
export interface SetupHeader {
  /** The header itself, to be copied into the zero page at {@link SETUP_HEADER_OFFSET}. */
  readonly raw: Uint8Array;
  /** Boot protocol, for example 0x20f. */
  readonly version: number;
  /** The protected-mode part of the file. */
  readonly code: { readonly offset: number; readonly sizeBytes: number };
  /** Where that part is loaded. The kernel proper ends up at the same place. */
  readonly loadAddress: number;
  /** Memory that the kernel uses from there before it knows the memory map. */
  readonly initSizeBytes: number;
  /** Longest command line, without the closing NUL. */
  readonly cmdlineSize: number;
  /** Highest address that the initrd may occupy. */
  readonly initrdAddrMax: number;
  readonly initrdAbove4g: boolean;
  /** The packed kernel, undefined when the header says nothing usable. */
  readonly payload: { readonly offset: number; readonly sizeBytes: number } | undefined;
}

/** True when the file begins as a bzImage does. */
export function hasSetupHeader(head: Uint8Array): boolean {
  return head.length >= 0x206 && readLe(head, 0x1fe, 2) === 0xaa55 && readLe(head, 0x202, 4) === 0x5372_6448;
}

/**
 * @param head the first {@link HEADER_PROBE_SIZE} bytes of the file, or all of a shorter one
 * @throws CausewayError KERNEL_INVALID
 */
export function parseSetupHeader(head: Uint8Array, fileSize: number, path: string): SetupHeader {
  const fail = (fault: string, hint: string) =>
    new CausewayError('KERNEL_INVALID', `${path} is not a usable bzImage: ${fault}`, { path, hint });
  const truncated = (what: string) => fail(`the file ends within its ${what}`, 'copy or build the kernel again');
  const u32 = (offset: number) => readLe(head, offset, 4);

  const rawEnd = 0x202 + (head[0x201] ?? 0);
  const version = readLe(head, 0x206, 2);
  if (version < MIN_VERSION) {
    throw fail(
      `it speaks boot protocol ${version >> 8}.${version & 0xff}, and 2.12 is needed`,
      'use a 64-bit kernel of version 3.8 or later',
    );
  }
  if (head.length < Math.max(rawEnd, 0x264)) throw truncated('setup header');
  if (rawEnd < 0x264 || rawEnd > SETUP_HEADER_LIMIT) {
    throw fail(`its setup header ends at ${hex(rawEnd)}`, 'copy or build the kernel again');
  }
  const xloadflags = readLe(head, 0x236, 2);
  if (!(xloadflags & XLF_KERNEL_64)) {
    throw fail('it has no 64-bit entry point', 'use an x86-64 kernel (CONFIG_64BIT=y)');
  }
  if (!(head[0x211]! & LOADED_HIGH)) throw fail('it wants to be loaded low (zImage)', 'build a bzImage');

  const offset = ((head[0x1f1] || 4) + 1) * SECTOR;
  const sizeBytes = fileSize - offset;
  // The file may be longer: signatures follow the kernel.
  if (sizeBytes <= SECTOR || sizeBytes < u32(0x1f4) * 16) throw truncated('protected-mode code');

  const alignment = u32(0x230);
  const preferred = join32(u32(0x258), u32(0x25c));
  const relocatable = head[0x234] !== 0;
  if (!isPowerOfTwo(alignment)) throw fail(`its alignment is ${hex(alignment)}`, 'copy or build the kernel again');
  // The kernel proper is never put below the preferred address, so that nothing is won by a lower one.
  const loadAddress = relocatable ? alignUp(Math.max(preferred, MIB), alignment) : preferred;
  if (loadAddress < MIB || loadAddress >= 2 ** 32) {
    throw fail(`it wants to be loaded at ${hex(preferred)}`, 'copy or build the kernel again');
  }
  return {
    raw: head.slice(SETUP_HEADER_OFFSET, rawEnd),
    version,
    code: { offset, sizeBytes },
    loadAddress,
    initSizeBytes: Math.max(u32(0x260), sizeBytes),
    cmdlineSize: u32(0x238),
    initrdAddrMax: u32(0x22c),
    initrdAbove4g: (xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G) !== 0,
    payload: payloadOf(u32(0x248), u32(0x24c), offset, sizeBytes),
  };
}

function payloadOf(at: number, length: number, codeOffset: number, codeSize: number): SetupHeader['payload'] {
  if (length < 16 || at + length > codeSize) return undefined;
  return { offset: codeOffset + at, sizeBytes: length };
}
