/** Registers of a vCPU that was just made. */

import type { GeneralRegisters, Segment, SystemRegisters } from '../types.ts';

/** All zero but the bit of RFLAGS that always reads 1. */
export function zeroRegisters(): GeneralRegisters {
  return {
    rax: 0n,
    rbx: 0n,
    rcx: 0n,
    rdx: 0n,
    rsi: 0n,
    rdi: 0n,
    rsp: 0n,
    rbp: 0n,
    r8: 0n,
    r9: 0n,
    r10: 0n,
    r11: 0n,
    r12: 0n,
    r13: 0n,
    r14: 0n,
    r15: 0n,
    rip: 0xfff0n,
    rflags: 2n,
  };
}

function segment(type: number, s: number, base = 0n, selector = 0): Segment {
  return { base, limit: 0xffff, selector, type, present: 1, dpl: 0, db: 0, s, l: 0, g: 0, avl: 0, unusable: 0 };
}

/** The state after RESET (SDM vol. 3, table 9-1). */
export function zeroSystemRegisters(): SystemRegisters {
  return {
    cs: segment(0xb, 1, 0xffff0000n, 0xf000),
    ds: segment(3, 1),
    es: segment(3, 1),
    fs: segment(3, 1),
    gs: segment(3, 1),
    ss: segment(3, 1),
    tr: segment(0xb, 0),
    ldt: segment(2, 0),
    gdt: { base: 0n, limit: 0xffff },
    idt: { base: 0n, limit: 0xffff },
    cr0: 0x60000010n,
    cr2: 0n,
    cr3: 0n,
    cr4: 0n,
    cr8: 0n,
    efer: 0n,
    apicBase: 0xfee00900n,
  };
}
