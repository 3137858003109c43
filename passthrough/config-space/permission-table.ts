/**
 * What a guest may do to each register of an assigned device: the header and the capabilities, as
 * data. Closed by default: what no rule names reads 0 and takes no writes.
 *
 * A register's value starts as the hardware's, through `keep` and `set`. `device` bits are read from the hardware at
 * every access, `writeImage` bits are the guest's own and never reach the hardware, `writeDevice` bits do,
 * `clear` bits are cleared by writing 1 to them, in the image only.
 */
import { CAP, EXT_CAP } from '../../vmm/pci/capabilities.ts';

export interface RegisterRule {
  readonly name: string;
  /** From the start of the header or capability, bytes. */
  readonly offset: number;
  readonly width: 1 | 2 | 4;
  /** Bits of the hardware's value that the image starts with. Default: all. */
  readonly keep?: number;
  /** Bits set in the image whatever the hardware has. */
  readonly set?: number;
  readonly device?: number;
  readonly writeImage?: number;
  readonly writeDevice?: number;
  readonly clear?: number;
  /** Why it is so, where it is not plain. */
  readonly why?: string;
}

/** COMMAND bits (PCI 3.0 §6.2.2). */
export const COMMAND = {
  IO: 0x001,
  MEMORY: 0x002,
  BUS_MASTER: 0x004,
  MWI: 0x010,
  PARITY: 0x040,
  SERR: 0x100,
  INTX_DISABLE: 0x400,
} as const;

/** COMMAND bits that the guest's value decides in hardware. Parity and SERR# stay the host's: it owns error handling. */
export const COMMAND_FORWARDED: number =
  COMMAND.IO | COMMAND.MEMORY | COMMAND.BUS_MASTER | COMMAND.MWI | COMMAND.INTX_DISABLE;

export const HEADER = {
  VENDOR: 0x00,
  COMMAND: 0x04,
  STATUS: 0x06,
  CLASS: 0x08,
  HEADER_TYPE: 0x0e,
  CAPABILITIES: 0x34,
  INTERRUPT_LINE: 0x3c,
  INTERRUPT_PIN: 0x3d,
} as const;

export const STATUS_INTX = 0x08;
export const STATUS_CAP_LIST = 0x10;

/** BARs (0x10 to 0x27), the capability pointer and the interrupt pin are filled in by code. */
export const HEADER_RULES: readonly RegisterRule[] = [
  { name: 'vendor id', offset: 0x00, width: 2 },
  { name: 'device id', offset: 0x02, width: 2 },
  {
    name: 'command',
    offset: 0x04,
    width: 2,
    keep: 0,
    writeImage: COMMAND_FORWARDED | COMMAND.PARITY | COMMAND.SERR,
    why: 'a shadow; a handler forwards it, in the right order with the BAR mappings',
  },
  {
    name: 'status',
    offset: 0x06,
    width: 2,
    keep: 0x06a0,
    device: STATUS_INTX,
    why: 'only the pending INTx is live; error bits cannot be cleared through VFIO, so they are not shown',
  },
  { name: 'revision', offset: 0x08, width: 1 },
  { name: 'interface', offset: 0x09, width: 1 },
  { name: 'class', offset: 0x0a, width: 2 },
  { name: 'cache line size', offset: 0x0c, width: 1, keep: 0, writeImage: 0xff, why: 'no use on PCIe' },
  { name: 'latency timer', offset: 0x0d, width: 1, keep: 0, writeImage: 0xff, why: 'no use on PCIe' },
  {
    name: 'header type',
    offset: 0x0e,
    width: 1,
    keep: 0x7f,
    why: "the multi-function bit is the guest's topology's",
  },
  { name: 'BIST', offset: 0x0f, width: 1, keep: 0, why: 'a write would start a self-test, which can hang the device' },
  { name: 'CardBus CIS', offset: 0x28, width: 4 },
  { name: 'subsystem vendor id', offset: 0x2c, width: 2 },
  { name: 'subsystem id', offset: 0x2e, width: 2 },
  { name: 'interrupt line', offset: 0x3c, width: 1, keep: 0, writeImage: 0xff, why: "scratch of the guest's firmware" },
  { name: 'min grant, max latency', offset: 0x3e, width: 2 },
];

/** Registers of the header that code fills in, for the documents. */
export const HEADER_BY_CODE: readonly Pick<RegisterRule, 'name' | 'offset' | 'width' | 'why'>[] = [
  ...[0, 1, 2, 3, 4, 5].map((bar) => ({
    name: `BAR${bar}`,
    offset: 0x10 + 4 * bar,
    width: 4 as const,
    why: "emulated: size and kind are the hardware's, the address is the guest's own",
  })),
  {
    name: 'expansion ROM',
    offset: 0x30,
    width: 4,
    why: 'none, unless a ROM is asked for: then emulated as the BARs are, with its enable bit',
  },
  { name: 'capability pointer', offset: HEADER.CAPABILITIES, width: 1, why: 'leads to the first capability shown' },
  { name: 'reserved', offset: 0x35, width: 1 },
  { name: 'reserved', offset: 0x36, width: 2 },
  { name: 'reserved', offset: 0x38, width: 4 },
  { name: 'interrupt pin', offset: HEADER.INTERRUPT_PIN, width: 1, why: 'INTA where the guest can have it, else none' },
];

/** How the capability's bytes beyond its named registers behave. */
export type Body =
  /** Read 0. */
  | 'closed'
  /** The hardware's value at open. */
  | 'image'
  /** Read from the hardware. */
  | 'device'
  /** Read from and written to the hardware. */
  | 'raw';

export interface CapabilityRule {
  readonly id: number;
  readonly name: string;
  readonly body: Body;
  readonly registers: readonly RegisterRule[];
  readonly why?: string;
}

/** Offsets within the capabilities that code handles. */
export const PM_CONTROL = 4;
export const PM_STATE_MASK = 0x3;
export const PCIE = { FLAGS: 2, DEV_CAP: 4, DEV_CTL: 8 } as const;
export const PCIE_DEV_CAP_FLR = 0x1000_0000;
export const PCIE_DEV_CTL_FLR = 0x8000;
export const AF = { CAPABILITIES: 3, CONTROL: 4 } as const;
export const AF_FLR = 0x01;
export const VPD = { ADDRESS: 2, DATA: 4 } as const;
/** VPD address bit 15: 0 starts a read, 1 a write. */
export const VPD_WRITE = 0x8000;

/** Standard capabilities that a guest sees; all others are hidden and closed. */
export const CAPABILITY_RULES: readonly CapabilityRule[] = [
  {
    id: CAP.PM,
    name: 'power management',
    body: 'closed',
    registers: [
      {
        name: 'PMC',
        offset: 2,
        width: 2,
        keep: 0x01ff,
        why: 'no PME: nothing could deliver it to the guest; D0 and D3hot are the states there are',
      },
      {
        name: 'PMCSR',
        offset: 4,
        width: 2,
        keep: 0x0008,
        writeImage: PM_STATE_MASK,
        why: 'the state is a shadow; a handler forwards it between unmapping and mapping',
      },
    ],
  },
  {
    id: CAP.VPD,
    name: 'vital product data',
    body: 'device',
    registers: [
      {
        name: 'address',
        offset: VPD.ADDRESS,
        width: 2,
        device: 0xffff,
        why: 'a handler forwards reads; a write would change the EEPROM for good',
      },
      { name: 'data', offset: VPD.DATA, width: 4, device: 0xffff_ffff },
    ],
  },
  { id: CAP.MSI, name: 'MSI', body: 'closed', registers: [], why: 'emulated: vmm/pci/msi.ts' },
  { id: CAP.PCIX, name: 'PCI-X', body: 'image', registers: [], why: "bus tuning is the host's" },
  {
    id: CAP.VENDOR,
    name: 'vendor specific',
    body: 'raw',
    registers: [{ name: 'length', offset: 2, width: 1 }],
    why: 'drivers need it, and only they know what it means',
  },
  {
    id: CAP.PCIE,
    name: 'PCI Express',
    body: 'closed',
    registers: [
      {
        name: 'flags',
        offset: PCIE.FLAGS,
        width: 2,
        keep: 0x3e0f,
        set: 0x0090,
        why: 'on the root bus a root-complex endpoint, behind a root port an endpoint',
      },
      { name: 'device capabilities', offset: PCIE.DEV_CAP, width: 4 },
      {
        name: 'device control',
        offset: PCIE.DEV_CTL,
        width: 2,
        keep: 0,
        device: 0x7910,
        writeDevice: 0x7910,
        writeImage: 0x00ef | PCIE_DEV_CTL_FLR,
        why: 'ordering, tags, snoop and read size are the device’s; payload size and error reports only look so',
      },
      {
        name: 'device status',
        offset: 10,
        width: 2,
        keep: 0x0010,
        device: 0x0020,
        clear: 0x000f,
        why: 'VFIO cannot clear the error bits, so they are not shown; transactions pending is live',
      },
      {
        name: 'device capabilities 2',
        offset: 36,
        width: 4,
        keep: 0x1f,
        why: 'no LTR, OBFF, atomics or 10-bit tags without a path',
      },
      {
        name: 'device control 2',
        offset: 40,
        width: 2,
        keep: 0,
        device: 0x1f,
        writeDevice: 0x1f,
        why: 'completion timeout',
      },
    ],
    why: 'link registers read 0 on the root bus, which has no link; behind a root port they are the hardware’s, without power states',
  },
  { id: CAP.MSIX, name: 'MSI-X', body: 'closed', registers: [], why: 'emulated: vmm/pci/msix.ts' },
  { id: CAP.SATA, name: 'SATA', body: 'image', registers: [] },
  {
    id: CAP.AF,
    name: 'advanced features',
    body: 'image',
    registers: [
      {
        name: 'control',
        offset: AF.CONTROL,
        width: 1,
        keep: 0,
        writeImage: AF_FLR,
        why: 'a handler resets the function',
      },
      { name: 'status', offset: 5, width: 1, device: 0x01, keep: 0 },
    ],
  },
];

/** Extended capabilities that a guest sees. SR-IOV, ARI, ACS, ATS, PRI, PASID, resizable BARs and DOE are not among them. */
export const EXTENDED_CAPABILITY_RULES: readonly CapabilityRule[] = [
  { id: EXT_CAP.DSN, name: 'device serial number', body: 'image', registers: [] },
  { id: EXT_CAP.POWER_BUDGET, name: 'power budgeting', body: 'image', registers: [] },
  {
    id: EXT_CAP.VENDOR,
    name: 'vendor specific (extended)',
    body: 'device',
    registers: [],
    why: 'read-only without a grant',
  },
];
