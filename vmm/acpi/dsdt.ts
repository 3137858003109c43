/** The DSDT's definition block: the host bridge with its windows and interrupt pins, and the few legacy devices. Pure. */
import { MIB } from '../base/bits.ts';
import type { MemoryLayout } from '../memory/layout.ts';
import * as aml from './aml.ts';
import { PM1A_CONTROL_PORT, PM1A_CONTROL_SIZE, PM1A_EVENT_PORT, PM1A_EVENT_SIZE, SLEEP_TYPE_S5 } from './ports.ts';
import * as res from './resources.ts';

/** Which interrupt an INTx pin of a device on bus 0 leads to. What is behind a root port arrives at the port's pins. */
export interface IntxRoute {
  /** Device number on bus 0. */
  readonly device: number;
  /** 0 to 3 for INTA to INTD. */
  readonly pin: number;
  readonly gsi: number;
}

/** Names the _OSC interface of PCI host bridges (PCI Firmware Specification 3.3 §4.5.1). */
const PCI_OSC_UUID = '33db4d5b-1ff7-401c-9657-7441c03dd766';
/** _OSC status: the UUID is not known (ACPI 6.5 §6.2.11). */
const OSC_UNKNOWN_UUID = 4;
/** _OSC status: a control that was asked for is not granted. */
const OSC_MASKED = 0x10;
/**
 * Controls that are granted: native hot-plug, PME, AER, and the PCI Express capability as a whole (PCI Firmware 3.3 table
 * 4-6). Not SHPC hot-plug and LTR: nothing here has them.
 */
const OSC_GRANTED = 0x1d;
const CONFIG_PORT = 0xcf8;
const CONFIG_PORT_SIZE = 8;
/** First port and ISA interrupt of COM1 and COM2. */
const SERIAL_PORTS: readonly (readonly [number, number])[] = [
  [0x3f8, 4],
  [0x2f8, 3],
];

/** AML of the whole machine, without the table's header. `serialPorts`: 1 or 2. */
export function dsdtAml(layout: MemoryLayout, intx: readonly IntxRoute[], serialPorts: number): aml.Aml {
  return aml.concat(
    // Value for PM1a, value for PM1b, two reserved (ACPI 6.5 §7.4.2).
    aml.name('\\_S5', aml.pack(aml.integer(SLEEP_TYPE_S5), aml.integer(SLEEP_TYPE_S5), aml.integer(0), aml.integer(0))),
    aml.scope(
      '\\_SB',
      hostBridge(layout, intx),
      motherboard(layout),
      ...SERIAL_PORTS.slice(0, serialPorts).map(serialPort),
      clock(),
    ),
  );
}

function hostBridge(layout: MemoryLayout, intx: readonly IntxRoute[]): aml.Aml {
  const windows = [
    res.busWindow(0, layout.ecam.size / MIB - 1),
    res.ioPorts(CONFIG_PORT, CONFIG_PORT_SIZE),
    res.ioWindow({ start: 0, size: CONFIG_PORT }),
    res.ioWindow({ start: 0x1000, size: 0xf000 }),
    res.memoryWindow32(layout.mmio32),
  ];
  if (layout.mmio64.size > 0) windows.push(res.memoryWindow64(layout.mmio64));
  return aml.device(
    'PCI0',
    aml.name('_HID', aml.eisaId('PNP0A08')),
    aml.name('_CID', aml.eisaId('PNP0A03')),
    aml.name('_UID', aml.integer(0)),
    aml.name('_SEG', aml.integer(0)),
    aml.name('_BBN', aml.integer(0)),
    aml.name('_CRS', res.resourceTemplate(...windows)),
    aml.name('_PRT', interruptRouting(intx)),
    aml.method(
      '_OSC',
      4,
      aml.createDwordField(aml.arg(3), 0, 'STAT'),
      aml.ifThen(
        aml.equal(aml.arg(0), aml.uuid(PCI_OSC_UUID)),
        aml.createDwordField(aml.arg(3), 8, 'CTRL'),
        aml.and(aml.reference('CTRL'), aml.integer(OSC_GRANTED), aml.local(0)),
        aml.ifThen(
          aml.not(aml.equal(aml.local(0), aml.reference('CTRL'))),
          aml.or(aml.reference('STAT'), aml.integer(OSC_MASKED), aml.reference('STAT')),
        ),
        aml.store(aml.local(0), aml.reference('CTRL')),
        aml.returns(aml.arg(3)),
      ),
      aml.or(aml.reference('STAT'), aml.integer(OSC_UNKNOWN_UUID), aml.reference('STAT')),
      aml.returns(aml.arg(3)),
    ),
  );
}

/** _PRT (ACPI 6.5 §6.2.13): each pin straight to its GSI, with no link device between. */
function interruptRouting(intx: readonly IntxRoute[]): aml.Aml {
  const entries = intx.map(({ device, pin, gsi }) =>
    aml.pack(aml.integer(device * 0x1_0000 + 0xffff), aml.integer(pin), aml.integer(0), aml.integer(gsi)),
  );
  return aml.pack(...entries);
}

/** What the board itself decodes. Linux uses ECAM only where ACPI or e820 reserves it (pci_mmcfg_check_reserved). */
function motherboard(layout: MemoryLayout): aml.Aml {
  return aml.device(
    'MBRD',
    aml.name('_HID', aml.eisaId('PNP0C02')),
    aml.name('_UID', aml.integer(0)),
    aml.name(
      '_CRS',
      res.resourceTemplate(
        res.memory32Fixed(layout.ecam),
        res.ioPorts(PM1A_EVENT_PORT, PM1A_EVENT_SIZE),
        res.ioPorts(PM1A_CONTROL_PORT, PM1A_CONTROL_SIZE),
      ),
    ),
  );
}

function serialPort([port, irq]: readonly [number, number], index: number): aml.Aml {
  return aml.device(
    `COM${index + 1}`,
    aml.name('_HID', aml.eisaId('PNP0501')),
    aml.name('_UID', aml.integer(index)),
    aml.name('_CRS', res.resourceTemplate(res.ioPorts(port, 8), res.isaIrq(irq))),
  );
}

function clock(): aml.Aml {
  return aml.device(
    'RTC0',
    aml.name('_HID', aml.eisaId('PNP0B00')),
    aml.name('_CRS', res.resourceTemplate(res.ioPorts(0x70, 2), res.isaIrq(8))),
  );
}
