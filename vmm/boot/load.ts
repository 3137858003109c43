/** Puts a kernel, its initrd and what it is told into guest memory. Synchronous, and repeatable for a reboot. */
import { closeSync } from 'node:fs';
import type { GeneralRegisters, SystemRegisters } from '../../native/types.ts';
import { alignUp, MIB } from '../base/bits.ts';
import { CausewayError } from '../base/errors.ts';
import { endOf, type Range } from '../base/ranges.ts';
import { formatSize, hex } from '../base/units.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';
import type { MemoryLayout } from '../memory/layout.ts';
import { openBootFile, readIntoGuest } from './boot-file.ts';
import { type BootMode, gdt, generalRegisters, pageTables, systemRegisters } from './cpu-state.ts';
import type { BootProtocol, KernelImage, KernelPlan } from './kernel-image.ts';
import { BOOT_AREA, type E820Entry, e820, fits, placeInitrd, usableRam } from './memory-map.ts';
import { startInfo } from './start-info.ts';
import { zeroPage } from './zero-page.ts';

export interface BootInput {
  readonly memory: Pick<GuestMemory, 'bytes' | 'write'>;
  readonly layout: Pick<MemoryLayout, 'ram'>;
  readonly initrdPath: string | undefined;
  readonly cmdline: string;
  /** Guest-physical address of the ACPI root pointer; 0 when there is none. */
  readonly rsdp: number;
  /** What the memory map marks as reserved: ECAM, ACPI tables. */
  readonly reserved: readonly Range[];
  /** Guest memory is all zeros (the first boot), so that zeros need not be written. Default false. */
  readonly isFresh?: boolean;
}

/** How the boot processor starts. The others wait for their start-up interrupt. */
export interface BootState {
  readonly mode: BootMode;
  readonly protocol: BootProtocol;
  /** Guest-physical address of the first instruction. */
  readonly entry: number;
  readonly initrd: Range | undefined;
  readonly map: readonly E820Entry[];
  readonly regs: GeneralRegisters;
  /** The system registers to set, made from those that KVM gives a new vCPU. */
  sregs(base: SystemRegisters): SystemRegisters;
  /** One line for logs. */
  readonly description: string;
}

/**
 * @throws CausewayError MEMORY_TOO_SMALL, CMDLINE_TOO_LONG, INITRD_NOT_FOUND, INITRD_TOO_BIG, KERNEL_INVALID
 * @example
 * const image = await prepareKernel('/boot/vmlinuz', { unpack: true });
 * const boot = loadGuest(image, { memory, layout, initrdPath: undefined, cmdline: 'console=ttyS0', rsdp, reserved });
 */
export function loadGuest(image: KernelImage, input: BootInput): BootState {
  const { memory, rsdp, isFresh = false } = input;
  const map = e820(input.layout.ram, input.reserved);
  const fault = memoryFault(image, image.path, map) ?? cmdlineFault(image, input.cmdline);
  if (fault) throw fault;

  const initrd = input.initrdPath === undefined ? undefined : loadInitrd(image, input.initrdPath, map, memory);
  for (const { gpa, offset, fileSize, memorySize } of image.segments) {
    if (!readIntoGuest(image.fd, offset, memory, gpa, fileSize)) {
      throw new CausewayError('KERNEL_INVALID', `${image.path} became shorter while it was in use`, {
        path: image.path,
        hint: 'put a new kernel in its place by renaming, not by overwriting',
      });
    }
    if (!isFresh) clear(memory, gpa + fileSize, memorySize - fileSize);
  }

  const cmdline = BOOT_AREA.cmdline;
  memory.write(cmdline, Buffer.from(`${input.cmdline}\0`));
  const mode: BootMode = image.protocol === 'pvh' ? 'protected' : 'long';
  memory.write(BOOT_AREA.gdt, gdt(mode));
  let info: number;
  if (mode === 'long') {
    info = BOOT_AREA.zeroPage;
    memory.write(info, zeroPage({ header: image.header?.raw, map, cmdline, initrd, rsdp }));
    memory.write(BOOT_AREA.pageTables, pageTables(BOOT_AREA.pageTables));
  } else {
    info = BOOT_AREA.startInfo;
    memory.write(info, startInfo({ base: info, map, cmdline, initrd, rsdp }));
  }
  return {
    mode,
    protocol: image.protocol,
    entry: image.entry,
    initrd,
    map,
    regs: generalRegisters(mode, image.entry, info),
    sregs: (base) => systemRegisters(mode, base),
    description: describe(image, initrd),
  };
}

/** Says whether the memory map has room for the kernel. */
export function memoryFault(plan: KernelPlan, path: string, map: readonly E820Entry[]): CausewayError | undefined {
  const usable = usableRam(map);
  const parts: Range[] = plan.segments.map(({ gpa, memorySize }) => ({ start: gpa, size: memorySize }));
  // What a bzImage says it needs; the segments of a plain ELF file speak for themselves.
  if (plan.header) parts.push(plan.footprint);
  const bad = parts.find((part) => !fits(part, usable));
  if (!bad) return undefined;
  const lowEnd = Math.max(0, ...usable.map(endOf).filter((end) => end <= 2 ** 32));
  if (bad.start >= MIB && endOf(bad) > lowEnd && endOf(bad) <= 3 * 1024 * MIB) {
    const needed = alignUp(endOf(plan.footprint), MIB);
    return new CausewayError(
      'MEMORY_TOO_SMALL',
      `the kernel ${path} needs guest memory up to ${formatSize(needed)}, and there are ${formatSize(lowEnd)}`,
      { path, hint: `set memory to ${formatSize(alignUp(needed * 1.25, 16 * MIB))} or more` },
    );
  }
  return new CausewayError(
    'KERNEL_INVALID',
    `the kernel ${path} wants ${formatSize(bad.size)} at ${hex(bad.start)}, where the guest has no free RAM`,
    { path, hint: 'link it to an address between 1 MiB and 3 GiB' },
  );
}

export function cmdlineFault(plan: KernelPlan, cmdline: string): CausewayError | undefined {
  const length = Buffer.byteLength(cmdline);
  const limit = Math.min(plan.cmdlineSize, 0xffff);
  if (length <= limit) return undefined;
  return new CausewayError(
    'CMDLINE_TOO_LONG',
    `the kernel command line has ${length} bytes, and this kernel takes ${limit}`,
    { hint: 'shorten cmdline; settings for user space can go into the initrd' },
  );
}

/** Where an initrd of `sizeBytes` goes, or the error that says why it goes nowhere. */
export function initrdPlace(
  plan: KernelPlan,
  path: string,
  sizeBytes: number,
  map: readonly E820Entry[],
): number | CausewayError {
  const usable = usableRam(map);
  const start = placeInitrd(usable, sizeBytes, plan.footprint, plan.initrdLimit, plan.initrdAbove4g);
  if (start !== undefined) return start;
  const total = usable.reduce((sum, range) => sum + range.size, 0);
  return new CausewayError(
    'INITRD_TOO_BIG',
    `the initrd ${path} (${formatSize(sizeBytes)}) does not fit beside the kernel in ${formatSize(alignUp(total, MIB))}`,
    // The packed initrd, what is unpacked from it, and something to work with.
    { path, hint: `set memory to ${formatSize(alignUp(endOf(plan.footprint) + 4 * sizeBytes, 64 * MIB))} or more` },
  );
}

function loadInitrd(plan: KernelPlan, path: string, map: readonly E820Entry[], memory: BootInput['memory']): Range {
  const file = openBootFile(path, 'INITRD_NOT_FOUND');
  try {
    const start = initrdPlace(plan, path, file.sizeBytes, map);
    if (start instanceof CausewayError) throw start;
    if (!readIntoGuest(file.fd, 0, memory, start, file.sizeBytes)) {
      throw new CausewayError('INITRD_NOT_FOUND', `the initrd ${path} became shorter while it was read`, {
        path,
        hint: 'start again when it is completely written',
      });
    }
    return { start, size: file.sizeBytes };
  } finally {
    closeSync(file.fd);
  }
}

const CLEAR_CHUNK: number = 16 * MIB;

/** Zeroes guest memory in pieces that never cross a window of RAM. */
function clear(memory: BootInput['memory'], gpa: number, sizeBytes: number): void {
  for (let done = 0; done < sizeBytes; ) {
    const at = gpa + done;
    const length = Math.min(sizeBytes - done, CLEAR_CHUNK - (at % CLEAR_CHUNK));
    memory.bytes(at, length).fill(0);
    done += length;
  }
}

function describe(image: KernelImage, initrd: Range | undefined): string {
  const how = { '64-bit': 'bzImage, 64-bit protocol', unpacked: 'unpacked kernel', pvh: 'PVH' }[image.protocol];
  const where = `${image.path}: ${how}, entry ${hex(image.entry)}`;
  return initrd ? `${where}, initrd at ${hex(initrd.start)}` : where;
}
