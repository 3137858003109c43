/** Config space of a host's device before a guest had it and after: which bits changed that no guest may change. */

const COMMAND = 0x04;
const STATUS = 0x06;
const FIRST_CAPABILITY = 0x34;
const CAPABILITY = { pm: 0x01, msi: 0x05, express: 0x10, msix: 0x11 } as const;

/** Bits that the guest, the kernel or the device itself changes, by offset. */
function openBits(config: Uint8Array): Uint8Array {
  const open = new Uint8Array(config.length);
  const allow = (at: number, bytes: readonly number[]): void => open.set(bytes, at);
  // I/O, memory, bus master, write and invalidate, INTx disable; status is the device's.
  allow(COMMAND, [0x17, 0x04]);
  allow(STATUS, [0xff, 0xff]);
  for (let at = config[FIRST_CAPABILITY]!, hops = 0; at >= 0x40 && hops < 48; at = config[at + 1]!, hops++) {
    const id = config[at];
    // Power state, PME status.
    if (id === CAPABILITY.pm) allow(at + 4, [0x03, 0x80]);
    // The kernel's own messages.
    if (id === CAPABILITY.msi) allow(at + 2, new Array<number>(22).fill(0xff));
    if (id === CAPABILITY.msix) allow(at + 3, [0xc0]);
    // Device control as the permission table opens it, device status, device control 2.
    if (id === CAPABILITY.express) {
      allow(at + 8, [0x10, 0x79, 0xff, 0xff]);
      allow(at + 0x28, [0x1f]);
    }
  }
  return open;
}

/** `at: before -> after`, for every byte in which a protected bit differs. */
export function protectedChanges(before: Uint8Array, after: Uint8Array): string[] {
  if (before.length !== after.length || before.length < 64)
    return [`${before.length} bytes before, ${after.length} after`];
  const open = openBits(before);
  const hex = (value: number): string => `0x${value.toString(16)}`;
  return [...before.keys()]
    .filter((at) => ((before[at]! ^ after[at]!) & ~open[at]!) !== 0)
    .map((at) => `${hex(at)}: ${hex(before[at]!)} -> ${hex(after[at]!)}`);
}
