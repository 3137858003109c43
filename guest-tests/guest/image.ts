/** The initramfs of a test's guest: busybox, drivers, the agent, and what the test adds. */
import { copyFile, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildInitramfs, DHCP_FILES, type ImageFile, type Kernel, readImageFile, writeCpio } from '../../lab/index.ts';
import { AGENT_SCRIPT } from './agent-script.ts';

/** Carried by every image as far as the kernel has them, so that one image, built once, serves nearly every test. */
const STANDARD_MODULES: readonly string[] = [
  ...['e1000', 'e1000e', 'igb', 'igbvf', '8139cp', '8139too', 'pcnet32', 'tulip', 'ne2k-pci', 'vmxnet3'],
  ...['virtio_pci', 'virtio_net', 'virtio_blk', 'virtio_rng', 'nvme', 'ahci', 'sd_mod'],
  ...['xhci_pci', 'ehci_pci', 'uhci_hcd', 'usb_storage', 'usbhid', 'sdhci_pci', 'mmc_block'],
];

/**
 * `guest.modules=a,b` on the command line says what to load; without it every PCI device gets the driver that its
 * modalias names. Output of the driver is for the console, which is quiet until here to save exits.
 */
const INIT_SCRIPT = `#!/bin/sh
export PATH=/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2> /dev/null
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs run /run
mount -t debugfs debug /sys/kernel/debug 2> /dev/null
echo 7 > /proc/sys/kernel/printk
ip link set lo up
load() { modprobe "$1" || echo "guest: cannot load $1"; }
wanted=any
for word in $(cat /proc/cmdline); do
  case $word in guest.modules=*) wanted=\${word#*=} ;; esac
done
if [ "$wanted" = any ]; then
  for file in /sys/bus/pci/devices/*/modalias; do [ -e $file ] && modprobe -q $(cat $file); done
else
  for module in $(echo $wanted | tr , ' '); do load $module; done
fi
cd /
stty -F /dev/ttyS1 raw -echo || echo "guest: no second serial port"
while :; do
  sh /agent < /dev/ttyS1 > /dev/ttyS1 2> /dev/console
  echo "guest: the agent ended with $?"
  sleep 1
done
`;

export interface GuestImageSpec {
  readonly kernel: Kernel;
  /** Modules that are carried besides the usual drivers. */
  readonly modules?: readonly string[];
  /** Files by absolute path. */
  readonly files?: Readonly<Record<string, ImageFile>>;
}

export interface GuestImage extends AsyncDisposable {
  readonly path: string;
}

/**
 * Images are kept in the cache; a test's own files follow behind the image in a copy of their own, which is cheap.
 * @throws LabError LAB_MODULE_MISSING
 */
export async function guestImage({ kernel, modules = [], files = {} }: GuestImageSpec): Promise<GuestImage> {
  const base = await buildInitramfs({
    kernel,
    spareModules: modules.filter((name) => !STANDARD_MODULES.includes(name)),
    optionalModules: STANDARD_MODULES,
    files: { ...DHCP_FILES, '/agent': AGENT_SCRIPT },
    init: INIT_SCRIPT,
  });
  const entries = await Promise.all(Object.entries(files).map(([path, file]) => readImageFile(path, file)));
  if (entries.length === 0) return { path: base, async [Symbol.asyncDispose]() {} };
  const folder = await mkdtemp(join(tmpdir(), 'causeway-guest-'));
  const path = join(folder, 'initrd');
  await copyFile(base, path);
  const file = await open(path, 'a');
  try {
    await file.appendFile(writeCpio(entries));
  } finally {
    await file.close();
  }
  return { path, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
}
