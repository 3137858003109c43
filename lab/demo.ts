/**
 * `npm run demo`: the main job, end to end. An emulated host with a network card behind its IOMMU boots; in it Causeway
 * starts a stock Linux guest and assigns the card; the guest gets a DHCP lease through it and pings.
 */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { prepareKernel } from '../vmm/boot/index.ts';
import { buildGuestInitramfs, guestKernel } from './guest-image.ts';
import { openLab } from './lab.ts';

/** The program that runs inside the lab, beside this file's compiled form. */
const EXAMPLE = join(dirname(fileURLToPath(import.meta.url)), '..', 'examples', 'assigned-nic.js');

/** What the guest does, in its own busybox. Between the marks it is silent: a line on the console would be an exit. */
const GUEST_SCRIPT = `
echo
say() { sed 's/^/guest: /'; }
echo "Linux $(uname -r), $(nproc) CPUs, $(awk '/MemTotal/ {print $2}' /proc/meminfo) kB" | say
udhcpc -i eth0 -n -q -t 20 -T 1 2>&1 | say
ping -c 3 10.0.2.2 | say
echo 'guest: traffic begins'
sleep 1
ping -c 200 -A -q 10.0.2.2 > /run/ping
wget -q -O /run/file http://10.0.2.2:PORT/ && sha256sum < /run/file > /run/sum
echo 'guest: traffic ended'
cat /run/ping | say
echo "downloaded $(stat -c %s /run/file) bytes, SHA-256 $(cut -c1-16 /run/sum)..." | say
grep eth0 /proc/interrupts | say
`;
const DOWNLOAD_BYTES = 16 * 1024 ** 2;

async function demo(): Promise<number> {
  const log = (line: string) => process.stderr.write(`demo: ${line}\n`);
  log('what it needs and this machine lacks (QEMU, a kernel, busybox: Debian packages) goes into a cache of its own');
  const kernel = await guestKernel('6.1', { log });
  await unpackOnce(kernel.vmlinuz);
  const file = randomBytes(DOWNLOAD_BYTES);
  const sum = createHash('sha256').update(file).digest('hex');
  const server = createServer((_request, response) => response.end(file)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const script = GUEST_SCRIPT.replace('PORT', String(port));
  const initrd = await buildGuestInitramfs({ kernel, modules: ['e1000e'], script }, { log });
  try {
    await using lab = await openLab({ devices: ['e1000e'], log });
    const card = lab.devices[0]!;
    log(
      `the lab is a host with an IOMMU, Linux ${lab.kernelVersion}; its ${card.model} at ${card.bdf} is bound to ${card.bind}`,
    );
    log(
      `in it Causeway starts a guest: Linux ${kernel.version}, 2 vCPUs, 512 MiB, the card assigned; half a minute ...`,
    );
    const { code, stdout } = await lab.exec([process.execPath, EXAMPLE, kernel.vmlinuz, initrd, card.bdf], {
      onStdout: (chunk) => process.stdout.write(chunk),
      onStderr: (chunk) => process.stderr.write(chunk),
    });
    const arrived = stdout.includes(`SHA-256 ${sum.slice(0, 16)}`);
    log(arrived ? 'the download arrived intact: same SHA-256 on both sides' : 'the download did NOT arrive intact');
    return code === 0 && !arrived ? 1 : code;
  } finally {
    server.close();
  }
}

/** Unpacks the kernel's payload into the cache, outside the slow emulated host. */
async function unpackOnce(path: string): Promise<void> {
  (await prepareKernel(path, { unpack: true })).close();
}

process.exitCode = await demo();
