/** A stock guest whose own driver gets a lease and pings through an assigned card, by the command line. */
import { expect } from 'vitest';
import type { Lab } from '../../lab/index.ts';
import { LAB_PEER_ADDRESS } from '../guest/index.ts';
import { buildGuest } from './guests.ts';
import { causeway, tail } from './test-lab.ts';

const PINGS = 20;

/**
 * Runs Linux 6.1 with the driver and checks that it worked, by interrupts of its own.
 * @param ids vendor and device, as the guest must see them
 * @returns the summary of the run
 */
export async function checkLease(lab: Lab, bdf: string, driver: string, ids: string): Promise<string> {
  const script = `
echo "guest: $(cat /sys/class/net/eth0/device/vendor /sys/class/net/eth0/device/device | tr '\\n' ' ')"
udhcpc -i eth0 -n -q -t 20 -T 1
ping -c ${PINGS} -i 0.1 ${LAB_PEER_ADDRESS}
grep eth0 /proc/interrupts`;
  const guest = await buildGuest('6.1', { modules: [driver], script });
  const files = ['--kernel', guest.kernel, '--initrd', guest.initrd, '--cmdline', guest.cmdline];
  const { code, stdout, stderr } = await causeway(
    lab,
    ['run', '--memory', '256M', '--timeout', '200', '--summary', '--device', bdf, ...files],
    { timeoutMs: 240_000 },
  );
  const log = tail(`${stdout}\n${stderr}`);
  expect(code, log).toBe(0);
  expect(stdout, log).toContain(`guest: ${ids}`);
  expect(stdout, log).toMatch(/lease of 10\.0\.2\.\d+|lease: eth0 10\.0\.2\.\d+/);
  expect(stdout, log).toContain(`${PINGS} packets transmitted, ${PINGS} packets received, 0% packet loss`);
  expect(stdout, log).toMatch(/PCI-MSI.*eth0/);
  return stderr;
}
