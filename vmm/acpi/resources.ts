/** Resource descriptors for `_CRS`: which addresses, ports and interrupts a device has. ACPI 6.5 §6.4. Pure. */
import { endOf, type Range } from '../base/ranges.ts';
import { type Aml, buffer, concat, le } from './aml.ts';

/** Address space descriptors: the general flags of a window that a bridge hands on, both ends fixed (§6.4.3.5). */
const PRODUCER_FIXED = 0x0c;
const TYPE_MEMORY = 0;
const TYPE_IO = 1;
const TYPE_BUS = 2;
const MEMORY_READ_WRITE = 1;
const MEMORY_CACHEABLE: number = 1 << 1;
/** The window covers ISA and other addresses alike. */
const IO_ENTIRE_RANGE = 3;

/** A buffer of descriptors, closed by the end tag. A checksum of 0 counts as right (§6.4.2.9). */
export function resourceTemplate(...descriptors: readonly Uint8Array[]): Aml {
  return buffer(concat(...descriptors, [0x79, 0]));
}

/** `size` ports from `port`, fixed, 16-bit decode (§6.4.2.5). */
export function ioPorts(port: number, size: number): Uint8Array {
  return concat([0x47, 1], le(port, 2), le(port, 2), [1, size]);
}

/** An ISA interrupt, 0 to 15, edge-triggered and active high (§6.4.2.1). */
export function isaIrq(irq: number): Uint8Array {
  return concat([0x22], le(1 << irq, 2));
}

/** A fixed range below 4 GiB that the device itself decodes (§6.4.3.4). */
export function memory32Fixed(range: Range): Uint8Array {
  return concat([0x86], le(9, 2), [MEMORY_READ_WRITE], le(range.start, 4), le(range.size, 4));
}

/** The buses below a host bridge, both inclusive. */
export function busWindow(first: number, last: number): Uint8Array {
  return addressSpace(0x88, 2, TYPE_BUS, 0, { start: first, size: last - first + 1 });
}

export function ioWindow(range: Range): Uint8Array {
  return addressSpace(0x88, 2, TYPE_IO, IO_ENTIRE_RANGE, range);
}

/** A window for memory BARs below 4 GiB. */
export function memoryWindow32(range: Range): Uint8Array {
  return addressSpace(0x87, 4, TYPE_MEMORY, MEMORY_READ_WRITE, range);
}

/**
 * A window for memory BARs above 4 GiB. Not marked prefetchable: Linux takes a BAR that is not out of a prefetchable
 * window (pci_find_parent_resource), whereas a plain window holds BARs of both kinds.
 */
export function memoryWindow64(range: Range): Uint8Array {
  return addressSpace(0x8a, 8, TYPE_MEMORY, MEMORY_READ_WRITE | MEMORY_CACHEABLE, range);
}

/** Word, DWord and QWord address space descriptors differ in the width of their five numbers only (§6.4.3.5). */
function addressSpace(tag: number, width: 2 | 4 | 8, type: number, typeFlags: number, range: Range): Uint8Array {
  const numbers = [0, range.start, endOf(range) - 1, 0, range.size].flatMap((value) => le(value, width));
  return concat([tag], le(3 + numbers.length, 2), [type, PRODUCER_FIXED, typeFlags], numbers);
}
