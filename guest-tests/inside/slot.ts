/** A card of the lab that is pulled out of its slot without a word to anybody. */
import { closeSync, openSync, readFileSync, readlinkSync, writeSync } from 'node:fs';
import { basename, dirname } from 'node:path';

const FIRST_CAPABILITY = 0x34;
const PCI_EXPRESS = 0x10;
const SLOT_CONTROL = 0x18;
/** Enable of the slot's interrupts; power indicator off; power off (PCIe 6.0 §7.5.3.10). */
const INTERRUPT = 1 << 5;
const INDICATOR_OFF = 3 << 8;
const POWER_OFF = 1 << 10;

/**
 * QEMU takes a card out of the machine there and then when the slot has neither power nor light (hw/pci/pcie.c). The kernel
 * learns of it when the power is back on, from the slot's interrupt: no card is present any more.
 */
export function pullOut(bdf: string): void {
  const port = basename(dirname(readlinkSync(`/sys/bus/pci/devices/${bdf}`)));
  const path = `/sys/bus/pci/devices/${port}/config`;
  const config = readFileSync(path);
  let at = config[FIRST_CAPABILITY]!;
  while (at !== 0 && config[at] !== PCI_EXPRESS) at = config[at + 1]!;
  if (at === 0) throw new Error(`${port} is no PCI Express port`);
  const powered = config.readUInt16LE(at + SLOT_CONTROL);
  const file = openSync(path, 'r+');
  for (const value of [(powered & ~INTERRUPT) | INDICATOR_OFF | POWER_OFF, powered]) {
    writeSync(file, Buffer.from([value & 0xff, value >>> 8]), 0, 2, at + SLOT_CONTROL);
  }
  closeSync(file);
}
