/** A network card under Linux: link, lease, pings, transfers both ways, its own self-test, and its driver again and again. */
import { debianProgram } from '../guest/index.ts';
import { isClass, test } from '../harness/index.ts';
import { leaseAddress, netInterface, ROUTER, TRANSFER_FILES, transfer } from './support/network.ts';

const PINGS = 100;
const TRANSFER_BYTES = 2 * 1024 * 1024;
const RELOADS = 2;
const DRIVER = '/sys/bus/pci/devices/0000:00:01.0/driver/module';

test('link, DHCP, ping, TCP both ways, self-test, driver reloads', {
  needs: isClass('ethernet'),
  timeoutMs: 300_000,
}, async (fixtures) => {
  const { step, log, measure } = fixtures;
  const ethtool = await debianProgram('ethtool', 'sbin/ethtool');
  const guest = await fixtures.boot({ memory: '128M', files: { ...TRANSFER_FILES, ...ethtool } });
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
  await step('TCP from the peer', () => transfer(fixtures, guest, 'download', TRANSFER_BYTES));
  await step('TCP to the peer', () => transfer(fixtures, guest, 'upload', TRANSFER_BYTES));
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
