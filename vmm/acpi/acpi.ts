/** The machine's ACPI tables, laid out in guest memory. A pure function of the machine's shape. */
import { alignUp, PAGE_SIZE } from '../base/bits.ts';
import { CausewayError } from '../base/errors.ts';
import type { Range } from '../base/ranges.ts';
import type { MemoryLayout } from '../memory/layout.ts';
import { dsdtAml, type IntxRoute } from './dsdt.ts';
import { facs, fadt, madt, mcfg, rsdp, table, xsdt } from './tables.ts';

/** Where the tables lie: in the BIOS area, where also a guest that was not told of the RSDP scans for it (ACPI 6.5 §5.2.5.1). */
export const ACPI_AREA: Range = { start: 0xe_0000, size: 0x2_0000 };

export interface AcpiInput {
  readonly cpus: number;
  readonly layout: MemoryLayout;
  /** Interrupts of the devices on bus 0; see {@link IntxRoute}. At most 255. */
  readonly intx: readonly IntxRoute[];
  /** Serial ports: 1 for COM1 (default), 2 for COM2 as well. */
  readonly serialPorts?: number;
  /** Guest-physical address of the first table, the RSDP. A multiple of 64. Default: start of {@link ACPI_AREA}. */
  readonly base?: number;
}

export interface AcpiTable {
  readonly gpa: number;
  readonly bytes: Uint8Array;
}

export interface AcpiTables {
  /** In ascending order of address. To be written into guest memory at each boot. */
  readonly tables: readonly AcpiTable[];
  /** Guest-physical address of the RSDP. */
  readonly rsdp: number;
  /** Whole pages around all tables, for e820. */
  readonly reserved: Range;
}

/** The FACS must be aligned so; the others do not mind. */
const TABLE_ALIGN = 64;
const RSDP_SIZE = 36;

/**
 * @throws CausewayError INTERNAL when the tables outgrow {@link ACPI_AREA}
 * @example const acpi = buildAcpi({ cpus: 2, layout, intx: [{ device: 1, pin: 0, gsi: 16 }] });
 */
export function buildAcpi({ cpus, layout, intx, serialPorts = 1, base = ACPI_AREA.start }: AcpiInput): AcpiTables {
  const tables: AcpiTable[] = [];
  let at = alignUp(base + RSDP_SIZE, TABLE_ALIGN);
  const place = (bytes: Uint8Array): number => {
    const gpa = at;
    tables.push({ gpa, bytes });
    at = alignUp(gpa + bytes.length, TABLE_ALIGN);
    return gpa;
  };
  const facsGpa = place(facs());
  const dsdtGpa = place(table('DSDT', 2, dsdtAml(layout, intx, serialPorts)));
  const listed = [place(fadt(facsGpa, dsdtGpa)), place(madt(cpus)), place(mcfg(layout.ecam))];
  tables.unshift({ gpa: base, bytes: rsdp(place(xsdt(listed))) });
  const reserved: Range = { start: base, size: alignUp(at, PAGE_SIZE) - base };
  if (base === ACPI_AREA.start && reserved.size > ACPI_AREA.size) {
    throw new CausewayError(
      'INTERNAL',
      `the ACPI tables take ${reserved.size} bytes; there is room for ${ACPI_AREA.size}`,
    );
  }
  return { tables, rsdp: base, reserved };
}
