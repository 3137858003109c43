import { type Bind, portSlot } from './qemu/devices.ts';

/** Where `/init` and the agent meet inside the lab. */
const readyFile = '/run/lab-devices';

/** Busybox and its applets inside the lab, for what the host's own file system lacks (modprobe, insmod, ip). */
export const toolsDir = '/run/lab-tools';

/** What differs from one lab to the next; `/init` reads it from the kernel's command line. */
export interface InitParameters {
  /** The driver of each device, in order. */
  readonly binds: readonly Bind[];
  /** How many virtual functions are made of each, which then have that driver in its place. */
  readonly vfs: readonly number[];
  /** Modules to load once the agent is starting: the ones that the file systems do not need. */
  readonly modules: readonly string[];
  /** Modules to load last, when every device that they must not take is out of their reach. */
  readonly drivers: readonly string[];
  readonly shareDir: string;
  /** Node and the agent's file, at their paths on the host. */
  readonly node: string;
  readonly agent: string;
}

/** The words for the kernel's command line that `/init` understands. */
export function initWords({ binds, vfs, modules, drivers, shareDir, node, agent }: InitParameters): string {
  const values = {
    bind: binds.map((bind, i) => (vfs[i] ? 'host' : bind)).join(','),
    vfs: binds.map((bind, i) => `${vfs[i] ?? 0}:${bind}`).join(','),
    modules: modules.join(','),
    drivers: drivers.join(','),
    share: shareDir,
    node,
    agent,
  };
  return Object.entries(values)
    .map(([key, value]) => `lab.${key}=${escapeWord(value)}`)
    .join(' ');
}

/** Spaces and quotes would not survive the kernel's command line: each odd byte becomes \\xNN, for printf %b. */
function escapeWord(text: string): string {
  return text.replace(/[^\w/.,@:+=-]/g, (odd) =>
    [...Buffer.from(odd)].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join(''),
  );
}

const mount9p = (tag: string, at: string, how: string) =>
  `mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,${how} ${tag} ${at}`;

/**
 * The lab's `/init`, the same for every lab so that its image is built once: puts a writable layer over the host's file
 * system and starts the agent in it; while that starts, loads the other modules and gives each device its driver.
 */
export const initScript = `#!/bin/sh
export PATH=/bin
die() { echo "lab: $1"; sleep 1; poweroff -f; }
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
. /etc/load-modules

parameter() {
  for word in $(cat /proc/cmdline); do
    case $word in lab.$1=*) printf %b "\${word#*=}" ;; esac
  done
}
binds=$(parameter bind | tr , ' ')
share=$(parameter share)

mkdir -p /lower /layer /host
${mount9p('lab-root', '/lower', 'cache=loose,ro')} || die "cannot mount the host's root"
mount -t tmpfs -o size=75% layer /layer
mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work overlay /host || die "cannot lay over the root"
mkdir -p "/host$share"
# No cache: both sides see what the other writes at once.
${mount9p('lab-share', '"/host$share"', 'cache=none')} || die "cannot mount the share"
mount -t tmpfs run /host/run
mkdir /host${toolsDir} && mount --bind /bin /host${toolsDir}
[ -d /lib/modules ] && mkdir -p /host/lib/modules && mount --bind /lib/modules /host/lib/modules
for d in proc sys dev; do mount --bind /$d /host/$d || die "cannot bind /$d"; done
mount -t debugfs debug /host/sys/kernel/debug
mkdir -p /host/dev/pts /host/dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /host/dev/pts
mount -t tmpfs shm /host/dev/shm
ln -sf /proc/self/fd /host/dev/fd
ip link set lo up
hostname lab

functions() { # of device number $1: in its slot, behind the port there, or behind a bridge behind that
  at=/sys/bus/pci/devices/0000:00:$(printf %x $((${portSlot(0)} + $1)))
  for d in $at.? $at.0/????:??:??.? $at.0/????:??:??.?/????:??:??.?; do
    [ -e $d/class ] || continue
    read class < $d/class
    case $class in 0x0604??) ;; *) echo $d ;; esac
  done
}
give() { # the function at $1 to the driver $2
  case $2 in
  vfio-pci)
    echo vfio-pci > $1/driver_override
    [ -e $1/driver ] && basename $1 > $1/driver/unbind
    basename $1 > /sys/bus/pci/drivers_probe
    ;;
  host) modprobe $(cat $1/modalias); [ -e $1/driver ] || basename $1 > /sys/bus/pci/drivers_probe ;;
  esac
}
make_vfs() { # $2 virtual functions of the one at $1. Theirs is a driver that asks the other's, which must be up to answer.
  nic=$(ls $1/net | head -1)
  echo 0 > $1/sriov_drivers_autoprobe
  echo $2 > $1/sriov_numvfs
  echo 1 > $1/sriov_drivers_autoprobe
  ip link set $nic up
  for try in $(seq 100); do grep -q 1 $1/net/$nic/carrier && break; usleep 100000; done
}
setup() {
  for m in $(parameter modules | tr , ' '); do modprobe $m || echo "lab: cannot load $m"; done
  # One VM that lives as long as the lab. Linux patches schedule() when the first VM comes and when the last one goes
  # (preempt_notifier_key); a processor of QEMU's that is in it then can execute the breakpoint of that patch for ever
  # from a stale translation, with interrupts off, and the other waits for it.
  chroot /host perl -e 'open K, "+<", "/dev/kvm" or exit; ioctl K, 0xae01, 0; sleep' 2> /dev/null &
  i=0
  for bind in $binds; do
    for d in $(functions $i); do
      case $bind,$binds in
      vfio-pci,*) give $d vfio-pci ;;
      none,*host*)
        # Another device's driver would take this one too.
        echo none > $d/driver_override
        # A driver that is built in has it already.
        [ -e $d/driver ] && basename $d > $d/driver/unbind
        ;;
      esac
    done
    i=$((i + 1))
  done
  i=0
  for bind in $binds; do
    for d in $(functions $i); do
      [ $bind = host ] && [ ! -e $d/driver ] && modprobe $(cat $d/modalias)
    done
    i=$((i + 1))
  done
  for m in $(parameter drivers | tr , ' '); do modprobe $m || echo "lab: cannot load $m"; done
  i=0
  for vfs in $(parameter vfs | tr , ' '); do
    found=$(functions $i)
    if [ \${vfs%:*} != 0 ]; then
      make_vfs $found \${vfs%:*}
      found=$(for link in $found/virtfn*; do readlink -f $link; done)
      for d in $found; do give $d \${vfs#*:}; done
    fi
    echo $(echo "$found" | sed 's,.*/,,')
    i=$((i + 1))
  done > /host/run/lab-devices.new
  mv /host/run/lab-devices.new /host${readyFile}
}
setup &

for port in /sys/class/virtio-ports/*; do
  [ "$(cat $port/name)" = lab.agent ] && name=\${port##*/}
done
node=$(parameter node)
agent=$(parameter agent)
cd /
HOME=/root chroot /host "$node" "$agent" /dev/$name ${readyFile} < /dev/null > /dev/console 2>&1
echo "lab: the agent ended with status $?"
sleep 1
poweroff -f
`;
