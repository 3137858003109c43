/** A guest's network card, for the suites. */
import type { LinuxGuest } from '../../harness/index.ts';

/** Answers pings and DHCP in QEMU's user-mode network. */
export const ROUTER = '10.0.2.2';
/** The device under test is the first of its guest. */
const GUEST_BDF = '0000:00:01.0';

/** The name of the device's interface; its driver may take a moment. */
export function netInterface(guest: LinuxGuest): Promise<string> {
  const folder = `/sys/bus/pci/devices/${GUEST_BDF}/net`;
  return guest.must(`for i in $(seq 50); do [ -e ${folder} ] && break; sleep 0.2; done; ls ${folder}`);
}

/** Brings the link up and gets an address by DHCP. @returns what the client printed */
export async function leaseAddress(guest: LinuxGuest, nic: string): Promise<string> {
  await guest.must(`ip link set ${nic} up`);
  return guest.must(`udhcpc -i ${nic} -n -q -t 10 -T 3 2>&1`, { timeoutMs: 60_000 });
}
