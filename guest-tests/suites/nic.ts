/** A network card under Linux: link, lease, pings, transfers both ways, its own self-test, and its driver again and again. */
import { createHash } from 'node:crypto';
import { debianProgram, PEER_VARIABLE, peerBytes } from '../guest/index.ts';
import { type Fixtures, isClass, type LinuxGuest, test } from '../harness/index.ts';
import { leaseAddress, netInterface, ROUTER } from './support/network.ts';

const PINGS = 100;
const TRANSFER_BYTES = 2 * 1024 * 1024;
/** What a transfer hands its socket to: busybox nc itself moves a kilobyte at a time. */
const TRANSFER_SCRIPTS = {
  '/download': `echo GET ${TRANSFER_BYTES}; exec cat > /run/data\n`,
  '/upload': `echo PUT ${TRANSFER_BYTES}; cat /run/data; read -r sum; echo $sum > /run/sum\n`,
};
const RELOADS = 2;
const DRIVER = '/sys/bus/pci/devices/0000:00:01.0/driver/module';

test('link, DHCP, ping, TCP both ways, self-test, driver reloads', {
  needs: isClass('ethernet'),
  timeoutMs: 300_000,
}, async (fixtures) => {
  const { step, log, measure } = fixtures;
  const ethtool = await debianProgram('ethtool', 'sbin/ethtool');
  const guest = await fixtures.boot({ memory: '128M', files: { ...TRANSFER_SCRIPTS, ...ethtool } });
  const nic = await netInterface(guest);
  await step('link', async () => {
    await guest.must(`ip link set ${nic} up`);
    await guest.must(
      `for i in $(seq 100); do grep -q 1 /sys/class/net/${nic}/carrier && exit 0; sleep 0.2; done; exit 1`,
    );
    log(`${nic}: ${await guest.must(`cat /sys/class/net/${nic}/speed /sys/class/net/${nic}/address | tr '\\n' ' '`)}`);
  });
  await step('DHCP', async () => log(await leaseAddress(guest, nic)));
  await step('ping', async () => {
    const text = await guest.must(`ping -A -c ${PINGS} -w 100 ${ROUTER}`, { timeoutMs: 120_000 });
    if (!text.includes(`${PINGS} packets received`)) throw new Error(text.slice(-300));
    const times = [...text.matchAll(/time=([\d.]+) ms/g)].map(([, ms]) => Number(ms));
    measure('ping', times, { unit: 'ms', better: 'lower' });
  });
  await step('TCP from the peer', () => transfer(fixtures, guest, 'download'));
  await step('TCP to the peer', () => transfer(fixtures, guest, 'upload'));
  await step('self-test', async () => {
    if (!ethtool) return fixtures.skip('ethtool is not in the cache and cannot be fetched from Debian');
    const { code, stdout, stderr } = await guest.run(`ethtool -t ${nic} online`, { timeoutMs: 90_000 });
    log(stdout.trim());
    if (/not supported/i.test(stderr)) return fixtures.skip(`the driver has no self-test: ${stderr.trim()}`);
    if (code !== 0 || !/result is PASS/.test(stdout)) throw new Error(`${stdout}${stderr}`.trim());
  });
  const driver = await guest.must(`basename $(readlink ${DRIVER})`);
  for (let round = 1; round <= RELOADS; round++) {
    await step(`the driver is unloaded and loaded, round ${round}`, async () => {
      await guest.must(`ip link set ${nic} down; rmmod ${driver}; modprobe ${driver}`);
      const again = await netInterface(guest);
      await leaseAddress(guest, again);
      await guest.must(`ping -c 1 -w 20 ${ROUTER}`);
    });
  }
});

/** Moves the bytes that both sides know, and compares checksums. */
async function transfer(
  { measure, skip }: Pick<Fixtures, 'measure' | 'skip'>,
  guest: LinuxGuest,
  way: 'download' | 'upload',
): Promise<void> {
  const [address, port] = process.env[PEER_VARIABLE]?.split(':') ?? [];
  if (!address || !port) return skip(`no peer for transfers: set ${PEER_VARIABLE} to the address:port of one`);
  const uptime = async (): Promise<number> => Number(await guest.must('cut -d " " -f 1 /proc/uptime'));
  const began = await uptime();
  await guest.must(`nc ${address} ${port} -e sh /${way}`, { timeoutMs: 120_000 });
  measure(way, TRANSFER_BYTES / 2 ** 20 / ((await uptime()) - began), { unit: 'MiB/s', better: 'higher' });
  const sum = way === 'download' ? 'sha256sum /run/data | cut -d " " -f 1' : 'cat /run/sum';
  const got = await guest.must(sum, { timeoutMs: 60_000 });
  const wanted = createHash('sha256').update(peerBytes(TRANSFER_BYTES)).digest('hex');
  if (got !== wanted) throw new Error(`SHA-256 ${got}, expected ${wanted}`);
}
