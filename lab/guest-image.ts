import { buildInitramfs, type ImageFile } from './initramfs/build.ts';
import { findKernel } from './kernel-packages.ts';
import { type Kernel, unpackedImage } from './kernels.ts';
import type { FetchOptions } from './packages.ts';

export type { ImageFile } from './initramfs/build.ts';
export type { Kernel } from './kernels.ts';

/** A kernel for a guest by name: a Debian series such as `6.1` (default) or `6.12`, `host`, or a path to a bzImage. */
export async function guestKernel(name = '6.1', options: FetchOptions = {}): Promise<Kernel> {
  return findKernel(name, options);
}

/** The kernel proper (ELF, with a PVH entry) inside a kernel's image; undefined when this host cannot unpack it. */
export async function guestVmlinux(kernel: Kernel): Promise<string | undefined> {
  return unpackedImage(kernel.vmlinuz);
}

/** What a guest's initramfs holds and does. */
export interface GuestInitramfsSpec {
  /** The kernel: a name as for `guestKernel`, or one already found. */
  readonly kernel?: string | Kernel;
  /** Modules to load in this order, with what they need; default: e1000e. */
  readonly modules?: readonly string[];
  /** Further modules to carry, for `modprobe` in the script. */
  readonly spareModules?: readonly string[];
  /** Files by absolute path. */
  readonly files?: Readonly<Record<string, ImageFile>>;
  /**
   * What the guest does, for busybox `sh`; its status is printed as `GUEST-STATUS: n`. `udhcpc -i eth0` works in it: it
   * sets address and route, and prints the lease. Default: an interactive shell on the console.
   */
  readonly script?: string;
  /** What follows the script: power off (default), or reboot, which VMMs without ACPI may see better. */
  readonly ending?: 'poweroff' | 'reboot';
}

const leaseScript = `#!/bin/sh
case "$1" in
deconfig)
  ip addr flush dev "$interface"
  ip link set "$interface" up
  ;;
bound|renew)
  ip addr flush dev "$interface"
  ip addr add "$ip/\${mask:-24}" dev "$interface"
  for hop in $router; do ip route add default via "$hop" dev "$interface"; break; done
  : > /etc/resolv.conf
  for server in $dns; do echo "nameserver $server" >> /etc/resolv.conf; done
  echo "lease: $interface $ip/\${mask:-24} router \${router:-none} server \${serverid:-none}"
  ;;
esac
`;

/** What busybox `udhcpc` runs, at both places where builds of it look. */
export const DHCP_FILES: Readonly<Record<string, ImageFile>> = {
  '/usr/share/udhcpc/default.script': { data: leaseScript, mode: 0o755 },
  '/etc/udhcpc/default.script': { data: leaseScript, mode: 0o755 },
};

/** The text of the guest's `/init`. */
export function guestInit(ending: 'poweroff' | 'reboot'): string {
  return `#!/bin/sh
export PATH=/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs run /run
ip link set lo up
. /etc/load-modules
cd /
# When a session's first process ends, its terminal is hung up, and what it had still to print is gone: stty waits for that.
setsid cttyhack sh -c 'sh /guest-script; status=$?; stty opost; exit $status'
echo "GUEST-STATUS: $?"
sync
${ending} -f
`;
}

/** Build the initramfs of a guest; gives its path in the cache. Equal input is built once. */
export async function buildGuestInitramfs(spec: GuestInitramfsSpec = {}, options: FetchOptions = {}): Promise<string> {
  const { kernel = '6.1', modules = ['e1000e'], spareModules = [], files = {}, script, ending = 'poweroff' } = spec;
  return buildInitramfs(
    {
      kernel: typeof kernel === 'string' ? await guestKernel(kernel, options) : kernel,
      modules,
      spareModules,
      files: {
        ...DHCP_FILES,
        '/guest-script': `${script ?? 'exec sh -i'}\n`,
        ...files,
      },
      init: guestInit(ending),
    },
    options,
  );
}
