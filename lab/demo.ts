/**
 * `npm run demo`: the main job, end to end. An emulated host with a network card behind its IOMMU boots; in it Causeway
 * starts a stock Linux guest and assigns the card; the guest gets a DHCP lease through it and pings.
 */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildGuestInitramfs, guestKernel } from './guest-image.ts';
import { openLab } from './lab.ts';

/** The command line's entry, beside this file's compiled form. */
const CLI = join(dirname(fileURLToPath(import.meta.url)), '..', 'vmm', 'cli', 'main.js');

const GUEST_SCRIPT = `
echo; echo "guest: Linux $(uname -r), $(nproc) CPUs, $(awk '/MemTotal/ {print $2}' /proc/meminfo) kB"
echo "guest: $(dmesg | grep -m1 -o 'e1000e 0000.*Intel(R) PRO.*' || echo 'no e1000e')"
udhcpc -i eth0 -n -q -t 20 -T 1 2>&1 | sed 's/^/guest: /'
ping -c 5 10.0.2.2 | sed 's/^/guest: /'
grep eth0 /proc/interrupts | sed 's/^/guest: /'
ping -c 1 -q 10.0.2.2 > /dev/null
`;

async function demo(): Promise<number> {
  const log = (line: string) => process.stderr.write(`${line}\n`);
  const kernel = await guestKernel('6.1', { log });
  const initrd = await buildGuestInitramfs({ kernel, modules: ['e1000e'], script: GUEST_SCRIPT }, { log });
  await using lab = await openLab({ devices: ['e1000e'], log });
  const card = lab.devices[0]!;
  const command = [
    process.execPath,
    CLI,
    'run',
    '--summary',
    '--kernel',
    kernel.vmlinuz,
    '--initrd',
    initrd,
    '--cmdline',
    'console=ttyS0 quiet panic=-1',
    '--memory',
    '512M',
    '--cpus',
    '2',
    '--reboot-limit',
    '0',
    '--device',
    card.bdf,
  ];
  log(`lab: the host is Linux ${lab.kernelVersion}; its card ${card.model} is at ${card.bdf}, bound to ${card.bind}`);
  log(`lab: causeway ${command.slice(2).join(' ')}\n`);
  const { code } = await lab.exec(command, {
    onStdout: (chunk) => process.stdout.write(chunk),
    onStderr: (chunk) => process.stderr.write(chunk),
  });
  return code;
}

process.exitCode = await demo();
