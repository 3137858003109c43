/** A kernel file, examined and (when wanted) unpacked: everything that can be known before there is a VM. */
import { closeSync } from 'node:fs';
import { readLe } from '../base/bits.ts';
import { CausewayError } from '../base/errors.ts';
import type { Range } from '../base/ranges.ts';
import { type BootFile, openBootFile, readPiece } from './boot-file.ts';
import { type ElfKernel, isElf, parseElf, type Segment } from './elf.ts';
import { defaultCacheDir, unpackedKernel } from './kernel-cache.ts';
import { packingOf, UnpackFailure } from './payload.ts';
import { HEADER_PROBE_SIZE, hasSetupHeader, parseSetupHeader, type SetupHeader } from './setup-header.ts';

/**
 * How the kernel is entered: `64-bit` is the boot protocol of a bzImage, `unpacked` the kernel proper in long mode,
 * `pvh` the 32-bit entry that its ELF note names.
 */
export type BootProtocol = '64-bit' | 'unpacked' | 'pvh';

/** What is where in a kernel file; independent of any VM. */
export interface KernelPlan {
  readonly protocol: BootProtocol;
  readonly segments: readonly Segment[];
  /** Guest-physical address of the first instruction. */
  readonly entry: number;
  /** All memory that the kernel occupies until it knows the memory map. */
  readonly footprint: Range;
  /** The bzImage's header, undefined for an ELF file. */
  readonly header: SetupHeader | undefined;
  /** Longest command line in bytes, without the closing NUL. */
  readonly cmdlineSize: number;
  /** First address that the initrd must not reach, below 4 GiB. */
  readonly initrdLimit: number;
  readonly initrdAbove4g: boolean;
}

/** A kernel ready to be loaded any number of times. It keeps the file open: replacing the file does not change a reboot. */
export interface KernelImage extends KernelPlan {
  readonly path: string;
  /** The file that the segments' offsets are in. */
  readonly fd: number;
  /** Whether a kernel of protocol `unpacked` came out of the cache. */
  readonly fromCache: boolean;
  /** Why the kernel starts as it is although unpacking was asked for. */
  readonly remark: string | undefined;
  /** A second call is ignored. */
  close(): void;
}

export interface PrepareOptions {
  /** Unpack a bzImage on the host, when that can be done. */
  readonly unpack: boolean;
  /** Default: {@link defaultCacheDir}. */
  readonly cacheDir?: string | undefined;
}

/** Entry of the 64-bit boot protocol, from the load address (kernel: boot.rst, "64-bit Boot Protocol"). */
const ENTRY_64_OFFSET = 0x200;
/** Linux cuts a longer one (COMMAND_LINE_SIZE is 2048 on x86). */
const ELF_CMDLINE_SIZE = 2047;
/** Where Linux 64-bit bzImages want their initrd's end. */
const LINUX_INITRD_LIMIT = 0x8000_0000;

/**
 * Opens, validates and, when asked, unpacks a kernel.
 * @throws CausewayError KERNEL_NOT_FOUND, KERNEL_INVALID
 */
export async function prepareKernel(path: string, options: PrepareOptions): Promise<KernelImage> {
  const file = openBootFile(path, 'KERNEL_NOT_FOUND');
  let keepOpen = false;
  try {
    const plan = planKernel(file);
    let remark: string | undefined;
    if (plan.header && options.unpack) {
      try {
        const unpacked = await unpack(file, plan.header, options.cacheDir ?? defaultCacheDir());
        return kernelImage(path, unpacked.fd, unpackedPlan(plan, plan.header, unpacked.elf), unpacked.fromCache);
      } catch (error) {
        if (!(error instanceof UnpackFailure)) throw error;
        remark = `${path} starts as it is: ${error.message}`;
      }
    }
    keepOpen = true;
    return kernelImage(path, file.fd, plan, false, remark);
  } finally {
    if (!keepOpen) closeSync(file.fd);
  }
}

/**
 * Examines a kernel file as it is, without unpacking.
 * @throws CausewayError KERNEL_INVALID
 */
export function planKernel(file: BootFile): KernelPlan {
  const head = readPiece(file.fd, 0, HEADER_PROBE_SIZE);
  if (isElf(head)) {
    return elfPlan(parseElf((offset, length) => readPiece(file.fd, offset, length), file.sizeBytes, file.path));
  }
  if (!hasSetupHeader(head)) {
    throw new CausewayError('KERNEL_INVALID', `${file.path} is not a bzImage: ${describe(head)}`, {
      path: file.path,
      hint: 'give an x86-64 Linux bzImage (/boot/vmlinuz-*) or an ELF vmlinux',
    });
  }
  return bzImagePlan(parseSetupHeader(head, file.sizeBytes, file.path));
}

function bzImagePlan(header: SetupHeader): KernelPlan {
  const { loadAddress: gpa, initSizeBytes, code } = header;
  return {
    protocol: '64-bit',
    segments: [{ gpa, offset: code.offset, fileSize: code.sizeBytes, memorySize: code.sizeBytes }],
    entry: gpa + ENTRY_64_OFFSET,
    footprint: { start: gpa, size: initSizeBytes },
    header,
    cmdlineSize: header.cmdlineSize || 255,
    initrdLimit: Math.min(header.initrdAddrMax + 1, 2 ** 32),
    initrdAbove4g: header.initrdAbove4g,
  };
}

function elfPlan(elf: ElfKernel): KernelPlan {
  const isPvh = elf.pvhEntry !== undefined;
  return {
    protocol: isPvh ? 'pvh' : 'unpacked',
    segments: elf.segments,
    entry: elf.pvhEntry ?? elf.entry,
    footprint: span(elf.segments),
    header: undefined,
    cmdlineSize: ELF_CMDLINE_SIZE,
    initrdLimit: LINUX_INITRD_LIMIT,
    initrdAbove4g: false,
  };
}

/** The kernel proper in place of its bzImage; the header's promises to the loader still hold. */
function unpackedPlan(plan: KernelPlan, header: SetupHeader, elf: ElfKernel): KernelPlan {
  const { start, size } = span([...elf.segments, { gpa: header.loadAddress, memorySize: header.initSizeBytes }]);
  return { ...plan, protocol: 'unpacked', segments: elf.segments, entry: elf.entry, footprint: { start, size } };
}

function unpack(file: BootFile, header: SetupHeader, cacheDir: string) {
  if (!header.payload) throw new UnpackFailure('its header names no payload');
  return unpackedKernel(file, header.payload, cacheDir);
}

function span(parts: readonly Pick<Segment, 'gpa' | 'memorySize'>[]): Range {
  const start = Math.min(...parts.map((part) => part.gpa));
  return { start, size: Math.max(...parts.map((part) => part.gpa + part.memorySize)) - start };
}

function kernelImage(path: string, fd: number, plan: KernelPlan, fromCache: boolean, remark?: string): KernelImage {
  let open = true;
  const close = () => {
    if (open) closeSync(fd);
    open = false;
  };
  return { ...plan, path, fd, fromCache, remark, close };
}

/** What a file that is no kernel looks like, for the message. */
function describe(head: Uint8Array): string {
  if (head.length === 0) return 'the file is empty';
  const packing = packingOf(head);
  if (packing) return `the file is ${packing} data`;
  if (readLe(head, 56, 4) === 0x644d_5241) return 'the file is a Linux image for arm64';
  if (readLe(head, 0, 2) === 0x5a4d) return 'the file is an EFI program without a Linux setup header';
  if (String.fromCharCode(...head.subarray(0, 5)) === '07070') {
    return 'the file is a cpio archive, perhaps the initrd';
  }
  if (head.length < 0x264) return `the file has only ${head.length} bytes`;
  const printable = head
    .subarray(0, 64)
    .every((byte) => byte === 9 || byte === 10 || byte === 13 || (byte >= 32 && byte < 127));
  return printable ? 'the file is text' : 'the file has no setup header at 0x1f1';
}
