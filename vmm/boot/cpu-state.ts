/**
 * The state in which the boot processor meets the kernel: long mode as boot.rst ("64-bit Boot Protocol") asks, or
 * 32-bit protected mode as Xen's pvh.pandoc does. Segments are defined in a GDT in guest memory as well. Pure.
 */
import type { GeneralRegisters, Segment, SystemRegisters } from '../../native/types.ts';
import { MIB, PAGE_SIZE } from '../base/bits.ts';
import { BOOT_AREA } from './memory-map.ts';

export type BootMode = 'long' | 'protected';

const CODE_SELECTOR = 0x10;
const DATA_SELECTOR = 0x18;
const TASK_SELECTOR = 0x20;
/** Segment types (SDM vol. 3 §3.4.5.1, §3.5), accessed, so that the processor need not write to the GDT. */
const TYPE_CODE = 0xb;
const TYPE_DATA = 0x3;
const TYPE_BUSY_TSS = 0xb;

const CR0_PE = 1n;
const CR0_ET = 1n << 4n;
const CR0_NE = 1n << 5n;
const CR0_PG = 1n << 31n;
const CR4_PAE = 1n << 5n;
const EFER_LME = 1n << 8n;
const EFER_LMA = 1n << 10n;
/** The bit that is always one. Interrupts, virtual-8086 mode and tracing are off. */
const RFLAGS_FIXED = 2n;

const PAGE_PRESENT_WRITE = 0x3n;
const PAGE_LARGE = 1n << 7n;
const MAPPED_GIB = 4;

function flat(selector: number, type: number, isLong: boolean): Segment {
  const isLongCode = isLong && type === TYPE_CODE;
  return {
    base: 0n,
    limit: 0xffff_ffff,
    selector,
    type,
    present: 1,
    dpl: 0,
    db: isLongCode ? 0 : 1,
    s: 1,
    l: isLongCode ? 1 : 0,
    g: 1,
    avl: 0,
    unusable: 0,
  };
}

/** VMX wants a busy TSS even where no task is ever switched (SDM vol. 3 §27.3.1.2). */
const TASK: Segment = {
  base: 0n,
  limit: 0x67,
  selector: TASK_SELECTOR,
  type: TYPE_BUSY_TSS,
  present: 1,
  dpl: 0,
  db: 0,
  s: 0,
  l: 0,
  g: 0,
  avl: 0,
  unusable: 0,
};

/** GDT: null, unused, code, data, and a task state segment of two slots. */
export function gdt(mode: BootMode): Uint8Array {
  const bytes = new Uint8Array(6 * 8);
  const view = new DataView(bytes.buffer);
  const isLong = mode === 'long';
  for (const segment of [flat(CODE_SELECTOR, TYPE_CODE, isLong), flat(DATA_SELECTOR, TYPE_DATA, isLong), TASK]) {
    view.setBigUint64(segment.selector, descriptor(segment), true);
  }
  return bytes;
}

/** A segment descriptor with base 0 (SDM vol. 3 §3.4.5). */
function descriptor(segment: Segment): bigint {
  const limit = segment.g ? segment.limit >>> 12 : segment.limit;
  const access = segment.type | (segment.s << 4) | (segment.dpl << 5) | (segment.present << 7);
  const flags = segment.avl | (segment.l << 1) | (segment.db << 2) | (segment.g << 3);
  const high = (access << 8) | (limit & 0xf_0000) | (flags << 20);
  return (BigInt(high >>> 0) << 32n) | BigInt(limit & 0xffff);
}

/** Identity map of the first 4 GiB in 2 MiB pages, which every processor with long mode has. To be put at `base`. */
export function pageTables(base: number): Uint8Array {
  const entries = new BigUint64Array(((2 + MAPPED_GIB) * PAGE_SIZE) / 8);
  const table = (index: number) => BigInt(base + index * PAGE_SIZE) | PAGE_PRESENT_WRITE;
  entries[0] = table(1);
  for (let gib = 0; gib < MAPPED_GIB; gib++) entries[512 + gib] = table(2 + gib);
  for (let page = 0; page < MAPPED_GIB * 512; page++) {
    entries[1024 + page] = BigInt(page * 2 * MIB) | PAGE_PRESENT_WRITE | PAGE_LARGE;
  }
  return new Uint8Array(entries.buffer);
}

/** @param info address of the zero page (long mode, in RSI) or of the start info (protected mode, in EBX) */
export function generalRegisters(mode: BootMode, entry: number, info: number): GeneralRegisters {
  const isLong = mode === 'long';
  return {
    rax: 0n,
    rbx: isLong ? 0n : BigInt(info),
    rcx: 0n,
    rdx: 0n,
    rsi: isLong ? BigInt(info) : 0n,
    rdi: 0n,
    rsp: BigInt(BOOT_AREA.stackTop),
    rbp: 0n,
    r8: 0n,
    r9: 0n,
    r10: 0n,
    r11: 0n,
    r12: 0n,
    r13: 0n,
    r14: 0n,
    r15: 0n,
    rip: BigInt(entry),
    rflags: RFLAGS_FIXED,
  };
}

/** @param base what KVM_GET_SREGS gave; kept are the APIC base and the other parts that the boot state leaves alone */
export function systemRegisters(mode: BootMode, base: SystemRegisters): SystemRegisters {
  const isLong = mode === 'long';
  const data = flat(DATA_SELECTOR, TYPE_DATA, isLong);
  return {
    ...base,
    cs: flat(CODE_SELECTOR, TYPE_CODE, isLong),
    ds: data,
    es: data,
    fs: data,
    gs: data,
    ss: data,
    tr: TASK,
    gdt: { base: BigInt(BOOT_AREA.gdt), limit: 6 * 8 - 1 },
    idt: { base: 0n, limit: 0 },
    // ET is hard-wired. Caches are on: CD and NW of the reset state are gone.
    cr0: isLong ? CR0_PE | CR0_ET | CR0_NE | CR0_PG : CR0_PE | CR0_ET,
    cr2: 0n,
    cr3: isLong ? BigInt(BOOT_AREA.pageTables) : 0n,
    cr4: isLong ? CR4_PAE : 0n,
    efer: isLong ? EFER_LME | EFER_LMA : 0n,
  };
}
