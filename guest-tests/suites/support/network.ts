/** A guest's network card, for the suites. */
import { PEER_VARIABLE } from '../../guest/index.ts';
import type { Fixtures, LinuxGuest } from '../../harness/index.ts';

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

/** For a guest that is to {@link transfer}: what nc hands its socket to, for busybox nc itself moves a kilobyte at a time. */
export const TRANSFER_FILES: Readonly<Record<string, string>> = {
  '/peer': `echo $1 $2
case $1 in
GET) exec dd of=/run/data bs=64k 2> /dev/null ;;
PUT) cat /run/data; read -r sum; echo $sum > /run/arrived ;;
SUM) read -r sum; echo $sum > /run/wanted ;;
esac
`,
};

/** What the peer's answers are compared with: a download's bytes, and what arrived there of an upload of the same bytes. */
const OUTCOME = { download: 'sha256sum < /run/data | cut -d " " -f 1', upload: 'cat /run/arrived' } as const;

/** Moves `bytes` bytes to the guest, or those bytes back to the peer, and compares checksums. Measures MiB/s. */
export async function transfer(
  { measure, skip }: Pick<Fixtures, 'measure' | 'skip'>,
  guest: LinuxGuest,
  way: 'download' | 'upload',
  bytes: number,
): Promise<void> {
  const [address, port] = process.env[PEER_VARIABLE]?.split(':') ?? [];
  if (!address || !port) return skip(`no peer for transfers: set ${PEER_VARIABLE} to the address:port of one`);
  const ask = (verb: string) =>
    guest.must(`nc ${address} ${port} -e sh /peer ${verb} ${bytes}`, { timeoutMs: 240_000 });
  const uptime = async (): Promise<number> => Number(await guest.must('cut -d " " -f 1 /proc/uptime'));
  const began = await uptime();
  await ask(way === 'download' ? 'GET' : 'PUT');
  measure(way, bytes / 2 ** 20 / ((await uptime()) - began), { unit: 'MiB/s', better: 'higher' });
  if (way === 'download') await ask('SUM');
  const [got, wanted] = (await guest.must(`${OUTCOME[way]}; cat /run/wanted`, { timeoutMs: 120_000 })).split('\n');
  if (!wanted || got !== wanted) throw new Error(`SHA-256 ${got}, expected ${wanted}`);
}
