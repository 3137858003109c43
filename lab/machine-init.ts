import { type LabDeviceSpec, portSlot } from './qemu/devices.ts';

/** Where `/init` and the agent meet inside the lab. */
export const readyFile = '/run/lab-devices';

/** Busybox and its applets inside the lab, for what the host's own file system lacks (modprobe, insmod, ip). */
export const toolsDir = '/run/lab-tools';

/** What `/init` depends on. */
export interface InitSpec {
  readonly devices: readonly LabDeviceSpec[];
  readonly shareDir: string;
  /** Modules to load once the agent is starting: the ones that the file systems do not need. */
  readonly modules: readonly string[];
  /** The command line of the agent, as seen in the host's file system. */
  readonly agent: readonly string[];
}

/**
 * The text of the lab's `/init`: puts a writable layer over the host's file system and starts the agent in it; while that
 * starts, loads the other modules and gives each device its driver.
 */
export function initScript(spec: InitSpec): string {
  return `#!/bin/sh
export PATH=/bin
die() { echo "lab: $1"; sleep 1; poweroff -f; }
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
. /etc/load-modules
mkdir -p /lower /layer /host
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro lab-root /lower || die "cannot mount the host's root"
mount -t tmpfs -o size=75% layer /layer
mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work overlay /host || die "cannot lay over the root"
mkdir -p /host${quote(spec.shareDir)}
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=mmap lab-share /host${quote(spec.shareDir)} || die "cannot mount the share"
mount -t tmpfs run /host/run
mkdir /host${toolsDir} && mount --bind /bin /host${toolsDir}
mkdir -p /host/lib/modules && mount --bind /lib/modules /host/lib/modules
for d in proc sys dev; do mount --bind /$d /host/$d || die "cannot bind /$d"; done
mount -t debugfs debug /host/sys/kernel/debug
mkdir -p /host/dev/pts /host/dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /host/dev/pts
mount -t tmpfs shm /host/dev/shm
ln -sf /proc/self/fd /host/dev/fd
ip link set lo up
hostname lab
cat > /setup <<'SETUP'
${setupScript(spec)}SETUP
sh /setup &
for port in /sys/class/virtio-ports/*; do
  [ "$(cat $port/name)" = lab.agent ] && name=\${port##*/}
done
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
cd /
chroot /host ${spec.agent.map(quote).join(' ')} /dev/$name ${readyFile} </dev/null >/host/dev/console 2>&1
echo "lab: the agent ended with status $?"
/bin/sleep 1
/bin/poweroff -f
`;
}

function setupScript({ devices, modules }: InitSpec): string {
  const spareOverride = devices.some(({ bind }) => bind === 'host');
  const lines = [`for m in ${modules.join(' ')}; do modprobe $m || echo "lab: cannot load $m"; done`];
  const functions = (index: number) => `/sys/bus/pci/devices/0000:00:${portSlot(index).toString(16)}.0/????:??:??.?`;
  devices.forEach(({ bind = 'vfio-pci' }, index) => {
    lines.push(`for d in ${functions(index)}; do`);
    lines.push('  [ -e $d/vendor ] || continue');
    if (bind === 'vfio-pci') {
      lines.push('  echo vfio-pci > $d/driver_override');
      lines.push('  [ -e $d/driver ] && basename $d > $d/driver/unbind');
      lines.push('  basename $d > /sys/bus/pci/drivers_probe');
    } else if (bind === 'none' && spareOverride) {
      // Another device's driver would take this one too.
      lines.push('  echo none > $d/driver_override');
    }
    lines.push('done');
  });
  devices.forEach(({ bind }, index) => {
    if (bind !== 'host') return;
    lines.push(`for d in ${functions(index)}; do modprobe $(cat $d/modalias); done`);
  });
  lines.push(': > /host/run/lab-devices.new');
  devices.forEach((_, index) => {
    lines.push(`l=; for d in ${functions(index)}; do [ -e $d/vendor ] && l="$l \${d##*/}"; done`);
    lines.push('echo "$l" >> /host/run/lab-devices.new');
  });
  lines.push(`mv /host/run/lab-devices.new /host${readyFile}`);
  return `${lines.join('\n')}\n`;
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
