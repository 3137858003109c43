import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FakeKernel } from '../../native/fake/fake-kernel.ts';
import type { GeneralRegisters, Segment, SystemRegisters } from '../../native/types.ts';
import { GIB, MIB } from '../base/bits.ts';
import { GuestMemory } from '../memory/guest-memory.ts';
import { writeCore } from './core-dump.ts';
import type { VcpuRegisters } from './vm.ts';

const GENERAL = ['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rsp', 'rbp', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14'];

function registers(index: number): VcpuRegisters {
  const segment: Segment = {
    ...{ base: 0n, limit: 0xffff_ffff, selector: 0x10, type: 3, present: 1 },
    ...{ dpl: 0, db: 0, s: 1, l: 1, g: 1, avl: 0, unusable: 0 },
  };
  const names = ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldt'];
  return {
    index,
    general: {
      ...(Object.fromEntries(GENERAL.map((name, i) => [name, BigInt(0x100 + i)])) as unknown as GeneralRegisters),
      ...{ r15: 0x10fn, rip: 0xffff_ffff_8100_0000n, rflags: 0x202n },
    },
    system: {
      ...(Object.fromEntries(names.map((name) => [name, segment])) as unknown as SystemRegisters),
      gdt: { base: 0x1000n, limit: 127 },
      idt: { base: 0xffff_fe00_0000_0000n, limit: 4095 },
      ...{ cr0: 1n, cr2: 2n, cr3: 0x1234_5000n, cr4: 4n, cr8: 0n, efer: 0x500n, apicBase: 0n },
    },
  };
}

test('RAM at its guest-physical addresses, holes for what is zero, two notes a vCPU', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'core-test-'));
  try {
    const memory = new GuestMemory(new FakeKernel(), [
      { start: 0, size: 64 * MIB },
      { start: 4 * GIB, size: 4 * MIB },
    ]);
    memory.write(0x5123, Buffer.from('first'));
    memory.write(4 * GIB + 0x1ffe, Buffer.from('across'));
    const path = join(folder, 'core');
    await writeCore(path, memory, [registers(0), registers(1)]);
    const file = readFileSync(path);
    expect(file.readUInt32BE(0)).toBe(0x7f45_4c46);
    const headers = Array.from({ length: file.readUInt16LE(56) }, (_, i) => {
      const at = 64 + 56 * i;
      const field = (place: number) => Number(file.readBigUInt64LE(at + place));
      return { type: file.readUInt32LE(at), offset: field(8), gpa: field(24), size: field(32) };
    });
    expect(headers.map(({ type, gpa, size }) => [type, gpa, size])).toEqual([
      [4, 0, headers[0]!.size],
      [1, 0, 64 * MIB],
      [1, 4 * GIB, 4 * MIB],
    ]);
    const [notes, low, high] = headers as [(typeof headers)[0], (typeof headers)[0], (typeof headers)[0]];
    expect(file.toString('latin1', low.offset + 0x5123, low.offset + 0x5128)).toBe('first');
    expect(file.toString('latin1', high.offset + 0x1ffe, high.offset + 0x2004)).toBe('across');
    expect(file.length).toBe(high.offset + high.size);
    expect(statSync(path).blocks * 512).toBeLessThan(MIB);
    expect(statSync(path).mode & 0o777).toBe(0o600);

    const found = notesOf(file.subarray(notes.offset, notes.offset + notes.size));
    expect(found.map(({ name, type, content }) => [name, type, content.length])).toEqual([
      ['CORE', 1, 336],
      ['QEMU', 0, 440],
      ['CORE', 1, 336],
      ['QEMU', 0, 440],
    ]);
    const [status, state] = found.map(({ content }) => content) as [Buffer, Buffer];
    // elf_prstatus: rip is the 17th register, rsp the 20th.
    expect(status.readBigUInt64LE(112 + 8 * 16)).toBe(0xffff_ffff_8100_0000n);
    expect(status.readBigUInt64LE(112 + 8 * 19)).toBe(0x106n);
    // QEMUCPUState: idt is the tenth segment, cr3 the fourth control register.
    expect(state.readBigUInt64LE(152 + 24 * 9 + 16)).toBe(0xffff_fe00_0000_0000n);
    expect(state.readBigUInt64LE(392 + 8 * 3)).toBe(0x1234_5000n);
    memory.close();
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a path that cannot be written to is told', async () => {
  const memory = new GuestMemory(new FakeKernel(), [{ start: 0, size: 16 * MIB }]);
  await expect(writeCore('/nonexistent/core', memory, [])).rejects.toMatchObject({ code: 'ENOENT' });
  memory.close();
});

function notesOf(bytes: Buffer): { name: string; type: number; content: Buffer }[] {
  const notes = [];
  for (let at = 0; at < bytes.length; ) {
    const nameSize = bytes.readUInt32LE(at);
    const size = bytes.readUInt32LE(at + 4);
    const begin = at + 12 + Math.ceil(nameSize / 4) * 4;
    notes.push({
      name: bytes.toString('latin1', at + 12, at + 12 + nameSize - 1),
      type: bytes.readUInt32LE(at + 8),
      content: bytes.subarray(begin, begin + size),
    });
    at = begin + Math.ceil(size / 4) * 4;
  }
  return notes;
}
