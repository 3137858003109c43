import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { GIB, readLe } from '../base/bits.ts';
import { endOf, overlaps } from '../base/ranges.ts';
import { memoryLayout } from '../memory/layout.ts';
import { ACPI_AREA, type AcpiTable, buildAcpi } from './acpi.ts';
import * as aml from './aml.ts';
import { checksum } from './tables.ts';

const layout = memoryLayout(6 * GIB, 46);
const intx = [1, 2, 3, 4, 5, 6, 7, 8].flatMap((device) =>
  [0, 1, 2, 3].map((pin) => ({ device, pin, gsi: 15 + device })),
);
const acpi = buildAcpi({ cpus: 4, layout, intx, serialPorts: 2 });

function signature({ bytes }: AcpiTable): string {
  return String.fromCharCode(...bytes.subarray(0, 4));
}

function find(wanted: string, tables = acpi.tables): AcpiTable {
  return tables.find((entry) => signature(entry) === wanted)!;
}

describe('buildAcpi', () => {
  it('leads from the RSDP to every table', () => {
    const root = acpi.tables[0]!;
    expect(root.gpa).toBe(acpi.rsdp);
    expect(String.fromCharCode(...root.bytes.subarray(0, 8))).toBe('RSD PTR ');
    const xsdt = acpi.tables.find(({ gpa }) => gpa === readLe(root.bytes, 24, 8))!;
    expect(signature(xsdt)).toBe('XSDT');
    const listed = Array.from({ length: (xsdt.bytes.length - 36) / 8 }, (_, i) => readLe(xsdt.bytes, 36 + 8 * i, 8));
    const found = listed.map((gpa) => signature(acpi.tables.find((entry) => entry.gpa === gpa)!));
    expect(found).toEqual(['FACP', 'APIC', 'MCFG']);
    const fadt = find('FACP').bytes;
    expect(readLe(fadt, 36, 4)).toBe(find('FACS').gpa);
    expect(readLe(fadt, 40, 4)).toBe(find('DSDT').gpa);
    expect(readLe(fadt, 140, 8)).toBe(find('DSDT').gpa);
  });

  it('gives each table its length and a checksum of 0', () => {
    expect(checksum(acpi.tables[0]!.bytes)).toBe(0);
    expect(checksum(acpi.tables[0]!.bytes.subarray(0, 20))).toBe(0);
    for (const { bytes } of acpi.tables.slice(1)) expect(readLe(bytes, 4, 4)).toBe(bytes.length);
    for (const entry of acpi.tables) if (signature(entry) !== 'FACS') expect(checksum(entry.bytes)).toBe(0);
  });

  it('keeps the tables apart, aligned, and inside the reserved pages', () => {
    for (const [index, { gpa, bytes }] of acpi.tables.entries()) {
      const range = { start: gpa, size: bytes.length };
      expect(gpa % 64).toBe(0);
      expect(endOf(range)).toBeLessThanOrEqual(endOf(acpi.reserved));
      for (const other of acpi.tables.slice(index + 1)) {
        expect(overlaps(range, { start: other.gpa, size: other.bytes.length })).toBe(false);
      }
    }
    expect(endOf(acpi.reserved)).toBeLessThanOrEqual(endOf(ACPI_AREA));
  });

  it('describes the fixed hardware in the FADT', () => {
    const { bytes } = find('FACP');
    expect(bytes.length).toBe(276);
    expect([readLe(bytes, 56, 4), bytes[88], readLe(bytes, 64, 4), bytes[89]]).toEqual([0x600, 4, 0x604, 2]);
    expect([readLe(bytes, 46, 2), readLe(bytes, 48, 4)]).toEqual([9, 0]);
    expect([...bytes.subarray(116, 129)]).toEqual([1, 8, 0, 1, 0xf9, 0x0c, 0, 0, 0, 0, 0, 0, 6]);
    // Reset register yes; hardware-reduced, control-method power button no.
    expect(readLe(bytes, 112, 4) & ((1 << 10) | (1 << 20) | (1 << 4))).toBe(1 << 10);
  });

  it('lists each processor once, as x2APIC from ID 255 on', () => {
    const { bytes } = find('APIC', buildAcpi({ cpus: 257, layout, intx: [] }).tables);
    const local: number[] = [];
    const x2: number[] = [];
    for (let at = 44; at < bytes.length; at += bytes[at + 1]!) {
      if (bytes[at] === 0) local.push(bytes[at + 3]!);
      if (bytes[at] === 9) x2.push(readLe(bytes, at + 4, 4));
    }
    expect(local).toEqual(Array.from({ length: 255 }, (_, id) => id));
    expect(x2).toEqual([255, 256]);
  });

  // Enforces P30.
  it('leads each pin of each device straight to its GSI, with no link that an OS could move', () => {
    const { bytes } = find('DSDT');
    const entry = (device: number, pin: number, gsi: number) =>
      aml.pack(aml.integer(device * 0x1_0000 + 0xffff), aml.integer(pin), aml.integer(0), aml.integer(gsi));
    const text = Buffer.from(bytes).toString('latin1');
    for (const { device, gsi } of intx) {
      for (const pin of [0, 1, 2, 3]) {
        expect(text).toContain(Buffer.from(entry(device, pin, gsi)).toString('latin1'));
      }
    }
    expect(text, 'PNP0C0F is a link device').not.toContain(Buffer.from(aml.eisaId('PNP0C0F')).toString('latin1'));
  });

  it('works without a 64-bit window and without devices', () => {
    const small = buildAcpi({ cpus: 1, layout: { ...layout, mmio64: { start: 0, size: 0 } }, intx: [] });
    expect(find('DSDT', small.tables).bytes.length).toBeLessThan(find('DSDT').bytes.length);
  });

  it('names the second serial port only where there is one', () => {
    const has = (tables: readonly AcpiTable[], name: string) =>
      Buffer.from(find('DSDT', [...tables]).bytes).includes(name);
    const { tables } = buildAcpi({ cpus: 1, layout, intx: [] });
    expect([has(tables, 'COM1'), has(tables, 'COM2')]).toEqual([true, false]);
    expect([has(acpi.tables, 'COM1'), has(acpi.tables, 'COM2')]).toEqual([true, true]);
  });

  const hasIasl = spawnSync('iasl', ['-v']).status === 0;
  it('is what the ACPICA disassembler takes for well-formed', ({ skip }) => {
    if (!hasIasl) skip('needs iasl(1): apt-get install acpica-tools');
    const dir = mkdtempSync(join(tmpdir(), 'causeway-acpi-'));
    try {
      for (const entry of acpi.tables.slice(1)) {
        const file = join(dir, `${signature(entry)}.dat`);
        writeFileSync(file, entry.bytes);
        const { status, stderr } = spawnSync('iasl', ['-d', file], { encoding: 'utf8' });
        expect(status, stderr).toBe(0);
        expect(stderr).not.toMatch(/error|invalid|truncated|bad/i);
      }
      const source = readFileSync(join(dir, 'DSDT.dsl'), 'utf8');
      expect(source).toContain('EisaId ("PNP0A08")');
      expect(source).not.toContain('Unknown');
      // What was disassembled compiles again without an error.
      const compiled = spawnSync('iasl', [join(dir, 'DSDT.dsl')], { encoding: 'utf8' });
      expect(compiled.status, compiled.stdout).toBe(0);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
