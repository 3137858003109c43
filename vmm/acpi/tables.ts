/** The fixed tables of ACPI. Each function gives one table's bytes; addresses are guest-physical. Pure. */
import { MIB, writeLe } from '../base/bits.ts';
import type { Range } from '../base/ranges.ts';
import { IOAPIC_BASE, LAPIC_BASE } from '../memory/layout.ts';
import { ascii, concat, le } from './aml.ts';
import {
  PM1A_CONTROL_PORT,
  PM1A_CONTROL_SIZE,
  PM1A_EVENT_PORT,
  PM1A_EVENT_SIZE,
  RESET_PORT,
  RESET_VALUE,
  SCI_GSI,
} from './ports.ts';

const HEADER_SIZE = 36;
const OEM_ID = 'CAUSWY';
const OEM_TABLE_ID = 'CAUSEWAY';

/** The byte that makes all bytes sum to 0 modulo 256. */
export function checksum(bytes: Uint8Array): number {
  return -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff;
}

/** A system description table: the common header (ACPI 6.5 §5.2.6), then `body`. */
export function table(signature: string, revision: number, body: Uint8Array): Uint8Array {
  const bytes = concat(
    ascii(signature),
    le(HEADER_SIZE + body.length, 4),
    [revision, 0],
    ascii(OEM_ID),
    ascii(OEM_TABLE_ID),
    le(1, 4),
    ascii('CWAY'),
    le(1, 4),
    body,
  );
  bytes[9] = checksum(bytes);
  return bytes;
}

/** Root pointer, revision 2 (§5.2.5.3). There is no RSDT: a guest of this machine knows the XSDT. */
export function rsdp(xsdt: number): Uint8Array {
  const bytes = concat(ascii('RSD PTR '), [0], ascii(OEM_ID), [2], le(0, 4), le(36, 4), le(xsdt, 8), [0], [0, 0, 0]);
  bytes[8] = checksum(bytes.subarray(0, 20));
  bytes[32] = checksum(bytes);
  return bytes;
}

/** §5.2.8 */
export function xsdt(tables: readonly number[]): Uint8Array {
  return table('XSDT', 1, concat(...tables.map((gpa) => le(gpa, 8))));
}

/** Firmware control structure, version 2 (§5.2.10). It has no checksum; its address must be a multiple of 64. */
export function facs(): Uint8Array {
  const bytes = new Uint8Array(64);
  bytes.set(ascii('FACS'));
  writeLe(bytes, 4, 4, bytes.length);
  bytes[32] = 2;
  return bytes;
}

const FADT_SIZE = 276;
/** IAPC_BOOT_ARCH (§5.2.9.3): devices beyond the PCI bus exist, a keyboard controller does not; nor does VGA. */
const LEGACY_DEVICES = 1;
const NO_VGA: number = 1 << 2;
/** FADT flags (§5.2.9, table 5.10). The power button is fixed hardware, therefore its flag is clear. */
const WBINVD = 1;
const PROC_C1: number = 1 << 2;
const NO_FIXED_SLEEP_BUTTON: number = 1 << 5;
const NO_FIXED_RTC_WAKE: number = 1 << 6;
const RESET_SUPPORTED: number = 1 << 10;

/**
 * Fixed description table, revision 6 (§5.2.9). ACPI mode is always on, so there is no SMI command port; a power
 * management timer is optional since 5.0A and there is none.
 */
export function fadt(facsGpa: number, dsdtGpa: number): Uint8Array {
  const body = new Uint8Array(FADT_SIZE - HEADER_SIZE);
  const put = (offset: number, width: number, value: number) => writeLe(body, offset - HEADER_SIZE, width, value);
  const putPort = (offset: number, port: number, sizeBytes: number) => {
    // Generic address (§5.2.3.2): I/O space, width in bits, access size as log2(bytes) + 1.
    body.set([1, sizeBytes * 8, 0, sizeBytes === 1 ? 1 : 2], offset - HEADER_SIZE);
    put(offset + 4, 4, port);
  };
  put(36, 4, facsGpa);
  put(40, 4, dsdtGpa);
  put(46, 2, SCI_GSI);
  put(56, 4, PM1A_EVENT_PORT);
  put(64, 4, PM1A_CONTROL_PORT);
  put(88, 1, PM1A_EVENT_SIZE);
  put(89, 1, PM1A_CONTROL_SIZE);
  // Latencies above 100 and 1000 microseconds say that there is no C2 and no C3.
  put(96, 2, 101);
  put(98, 2, 1001);
  put(109, 2, LEGACY_DEVICES | NO_VGA);
  put(112, 4, WBINVD | PROC_C1 | NO_FIXED_SLEEP_BUTTON | NO_FIXED_RTC_WAKE | RESET_SUPPORTED);
  putPort(116, RESET_PORT, 1);
  put(128, 1, RESET_VALUE);
  put(140, 4, dsdtGpa);
  putPort(148, PM1A_EVENT_PORT, PM1A_EVENT_SIZE);
  putPort(172, PM1A_CONTROL_PORT, PM1A_CONTROL_SIZE);
  return table('FACP', 6, body);
}

/** MPS INTI flags: level-triggered, active high. */
const LEVEL_ACTIVE_HIGH = 0xd;
/** Processor UID that stands for all of them. */
const ALL_PROCESSORS = 0xff;

/** Interrupt controllers (§5.2.12). The APIC ID of a vCPU is its index. */
export function madt(cpus: number): Uint8Array {
  const processors = Array.from({ length: cpus }, (_, id) =>
    // ID 255 is the broadcast address of the xAPIC: from there on an x2APIC entry (§5.2.12.12).
    id < 255 ? [0, 8, id, id, ...le(1, 4)] : [9, 16, 0, 0, ...le(id, 4), ...le(1, 4), ...le(id, 4)],
  );
  return table(
    'APIC',
    5,
    concat(
      le(LAPIC_BASE, 4),
      // PCAT_COMPAT: two 8259s are there as well.
      le(1, 4),
      ...processors,
      [1, 12, 0, 0, ...le(IOAPIC_BASE, 4), ...le(0, 4)],
      // The PIT is wired to pin 2, as KVM's chip has it.
      [2, 10, 0, 0, ...le(2, 4), ...le(0, 2)],
      [2, 10, 0, SCI_GSI, ...le(SCI_GSI, 4), ...le(LEVEL_ACTIVE_HIGH, 2)],
      [4, 6, ALL_PROCESSORS, ...le(0, 2), 1],
    ),
  );
}

/** Memory-mapped config space of segment 0 (PCI Firmware Specification 3.3 §4.1.2). */
export function mcfg(ecam: Range): Uint8Array {
  return table('MCFG', 1, concat(le(0, 8), le(ecam.start, 8), le(0, 2), [0, ecam.size / MIB - 1], le(0, 4)));
}
