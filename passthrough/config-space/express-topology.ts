/**
 * The PCI Express capability of an endpoint as its guest's topology wants it. On the root bus the permission table's own
 * value holds: a root-complex endpoint, which has no link (PCIe 6.0 §7.5.3). Behind a root port it is an endpoint with one.
 */
import { readLe } from '../../vmm/base/bits.ts';
import type { Capability } from '../../vmm/pci/capabilities.ts';
import type { ConfigSpace } from '../../vmm/pci/config-space.ts';
import { PCIE } from './permission-table.ts';

/** Where a guest has a function. */
export type GuestPlace = 'root-bus' | 'port';

/** Offsets within the capability. */
const LINK = { CAPABILITIES: 0x0c, CONTROL: 0x10, STATUS: 0x12, CAPABILITIES_2: 0x2c, CONTROL_2: 0x30 } as const;
const TYPE_MASK = 0x00f0;
const TYPE_ENDPOINT = 0x00;
const TYPE_LEGACY_ENDPOINT = 0x10;
const TYPE_ROOT_COMPLEX_ENDPOINT = 0x90;
/** Without ASPM, clock power management, and what only ports have: power states of the link are the host's. */
const LINK_CAPABILITIES_KEPT = 0xff43_f3ff;
/** Read completion boundary, common clock, extended sync: shown as written, of no effect. */
const LINK_CONTROL_WRITABLE = 0x00c8;
const LINK_STATUS_KEPT = 0x13ff;
/** 2.5 GT/s, one lane: what an endpoint without a link of its own is given. */
const SLOWEST_LINK = 0x11;
const SLOWEST_SPEEDS = 0x02;

/** Makes the capability that of an endpoint behind a port. */
export function placeBehindPort(space: ConfigSpace, hardware: Uint8Array, { offset, sizeBytes }: Capability): void {
  const type = readLe(hardware, offset + PCIE.FLAGS, 2) & TYPE_MASK;
  const guestType = type === TYPE_LEGACY_ENDPOINT ? TYPE_LEGACY_ENDPOINT : TYPE_ENDPOINT;
  space.set(offset + PCIE.FLAGS, 2, (space.get(offset + PCIE.FLAGS, 2) & ~TYPE_MASK) | guestType);
  const hasLink = type !== TYPE_ROOT_COMPLEX_ENDPOINT;
  const put = (register: number, width: 2 | 4, kept: number, otherwise: number, writable = 0): void => {
    if (register + width > sizeBytes) return;
    const value = hasLink ? readLe(hardware, offset + register, width) & kept : otherwise;
    space.set(offset + register, width, value >>> 0);
    for (let i = 0; i < width; i++) space.guestWrite[offset + register + i] = (writable >>> (8 * i)) & 0xff;
  };
  put(LINK.CAPABILITIES, 4, LINK_CAPABILITIES_KEPT, SLOWEST_LINK);
  put(LINK.CONTROL, 2, 0, 0, LINK_CONTROL_WRITABLE);
  put(LINK.STATUS, 2, LINK_STATUS_KEPT, SLOWEST_LINK);
  put(LINK.CAPABILITIES_2, 4, 0xfe, SLOWEST_SPEEDS);
  put(LINK.CONTROL_2, 2, 0x0f, 0x01, 0x000f);
}
