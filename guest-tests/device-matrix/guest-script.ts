/**
 * What the guest of the matrix does, for busybox `sh`. `matrix begin`, then for each device: `matrix NAME ready` binds its
 * driver, waits for what it makes, and says when it began and when it was there, in seconds of the guest's clock; `matrix
 * NAME work` lets it work and says how many operations that was; `matrix NAME check` looks at what came of it, and says what
 * interrupts there were. What fails says why on stderr. `matrix all` is a whole guest's init, for a monitor without agent.
 */
import { createHash } from 'node:crypto';
import { peerBytes } from '../guest/index.ts';
import { type DeviceCase, guestAddresses } from './cases.ts';

/** Where the script is in the guest. */
export const SCRIPT_PATH = '/bin/matrix';

/** Memory that Linux leaves alone, for a device that has no driver to allocate some. Within 28 bits, which is edu's reach. */
const DMA_BUFFER = 0x0c00_0000;

/** Words for the guest's command line. `iomem=relaxed`: the script is the driver of devices that Linux has none for. */
export const MATRIX_WORDS: string = `iomem=relaxed memmap=2M$0x${DMA_BUFFER.toString(16)}`;

/** What `matrix all` prints: `MATRIX name word value`, with spaces between them. */
export const MARK = /^MATRIX (\S+) +(\S+) *(.*)$/;
/** In place of a device's name: what silence costs. */
export const NOTHING = 'nothing';

/** Modules that are not in every guest's image. */
export const SPARE_MODULES: readonly string[] = ['bochs'];

/** Each way, for a card that is rung and interrupts, and for one whose data goes through ports, an exit a word. */
const TRANSFER_BYTES = { fast: 1024 * 1024, slow: 16 * 1024 };

const LIBRARY = `
fail() { echo "$*" >&2; exit 1; }
up() { cut -d ' ' -f 1 /proc/uptime; }
# COMMAND...: waits until it succeeds, for 30 s at most.
await() { i=0; until "$@"; do i=$((i + 1)); [ $i -gt 300 ] && return 1; usleep 100000; done; }
bytes() { printf "$1" | dd of=/sys/bus/pci/devices/$dev/config bs=1 seek=$2 conv=notrunc 2> /dev/null; }
bar() { sed -n "$(($1 + 1))p" /sys/bus/pci/devices/$dev/resource | cut -d ' ' -f 1; }
bar_end() { sed -n "$(($1 + 1))p" /sys/bus/pci/devices/$dev/resource | cut -d ' ' -f 2; }
# PATTERN: how many came by the lines that match, and the kind of the first of them.
interrupts() { echo $(awk -v what="$1" '$0 ~ what { sum += $2 } END { print sum + 0 }' /proc/interrupts) $(grep -E "$1" /proc/interrupts | grep -o -E 'PCI-MSI|IO-APIC' | head -1); }

# Nothing is bound but when it is its turn.
begin() {
  dmesg -n 1
  echo 0 > /sys/bus/pci/drivers_autoprobe
  modprobe virtio_pci
  modprobe sd_mod
  modprobe usb_storage
}
ready() {
  [ -z "$module" ] || modprobe $module $parameters || fail no module $module
  from=$(up)
  if [ -n "$driver" ]; then echo $dev > /sys/bus/pci/drivers/$driver/bind || fail $driver does not take it; fi
  "$work"_ready
}
# What it makes is there; what is still to be prepared does not count.
there() { echo $from $(up); }

nic_there() { nic=$(ls /sys/bus/pci/devices/$dev/net /sys/bus/pci/devices/$dev/virtio*/net 2> /dev/null | grep -v : | head -1); [ -n "$nic" ]; }
nic_ready() {
  await nic_there || fail no interface
  there
  udhcpc -i $nic -n -q -t 20 -T 1 > /run/lease 2>&1 || fail no lease
}
nic_work() {
  ping -A -q -c 100 $PEER > /run/ping
  echo 100
}
nic_check() {
  nic_there
  grep -q '100 packets received' /run/ping || fail $(grep received /run/ping)
  nc $PEER $PORT -e sh $0 $name get
  sum=$(sha256sum < /run/data | cut -d ' ' -f 1)
  [ "$sum" = $SHA256 ] || fail what came has SHA-256 $sum
  nc $PEER $PORT -e sh $0 $name put
  [ "$(cat /run/sum)" = $SHA256 ] || fail what was sent arrived with SHA-256 $(cat /run/sum)
  interrupts "$nic|virtio"
  ip addr flush dev $nic
  ip link set $nic down
}
# nc hands its socket to these: nc itself moves a kilobyte at a time.
get() { echo GET $BYTES; exec dd of=/run/data bs=64k 2> /dev/null; }
put() { echo PUT $BYTES; cat /run/data; read -r sum; echo $sum > /run/sum; }

disk_there() { disk=$(find /sys/devices/pci0000:00/$dev -name 'sd[a-z]' -o -name 'nvme[0-9]n1' | head -1); disk=\${disk##*/}; [ -n "$disk" ] && [ -b /dev/$disk ]; }
disk_ready() {
  await disk_there || fail no disk
  there
  dd if=/dev/urandom of=/run/data bs=1M count=4 2> /dev/null
}
disk_work() {
  disk_there
  dd if=/run/data of=/dev/$disk bs=64k oflag=direct 2> /dev/null
  dd if=/dev/$disk of=/run/back bs=64k count=64 iflag=direct 2> /dev/null
  echo 128
}
disk_check() {
  cmp /run/data /run/back || fail what was read is not what was written
  interrupts 'nvme|ahci|xhci'
}

screen_there() { ls -d /sys/bus/pci/devices/$dev/drm/card* > /dev/null 2>&1 && [ -e /dev/fb0 ]; }
screen_ready() {
  await screen_there || fail no frame buffer
  there
  # The text console would draw into it, if only its cursor.
  for console in /sys/class/vtconsole/vtcon*/bind; do echo 0 > $console; done 2> /dev/null
  dd if=/dev/urandom of=/run/data bs=64k count=16 2> /dev/null
}
screen_work() {
  dd if=/run/data of=/dev/fb0 bs=64k 2> /dev/null
  dd if=/dev/fb0 of=/run/back bs=64k count=16 2> /dev/null
  echo 32
}
screen_check() {
  cmp /run/data /run/back || fail the frame buffer lost something
  # Its driver maps the memory without; as whoever has the memory to himself, one gets it.
  echo $dev > /sys/bus/pci/drivers/$driver/unbind
  combining 0
}

# BAR: maps it write-combining, fills and checks all of it, finds it in the kernel's list of memory types.
combining() {
  echo 1 > /sys/bus/pci/devices/$dev/enable
  first=$(printf %x $(bar $1))
  : > /run/map
  map-wc /sys/bus/pci/devices/$dev/resource$1_wc $(($(bar_end $1) - $(bar $1) + 1)) > /run/map 2> /dev/null &
  await grep -q whole /run/map || fail BAR $1 does not hold what was written
  grep "$first-.*write-combining" /sys/kernel/debug/x86/pat_memtype_list > /run/pat || fail BAR $1 is not write-combining
  kill $!
}
patterns() {
  for at in $*; do
    devmem $at 32 0x600df00d
    [ $(devmem $at 32) = 0x600DF00D ] || return 1
    devmem $at 8 0x5a
    [ $(devmem $at 32) = 0x600DF05A ] || return 1
  done
}
memory_ready() {
  echo 1 > /sys/bus/pci/devices/$dev/enable
  there
}
memory_work() {
  base=$(bar 2)
  patterns $base $((base + 0x1000)) $((base + 0xffffc)) || fail memory forgets
  echo 12
}
memory_check() { combining 2; }

window_find() {
  size=0
  for i in 0 1 2 3 4 5; do n=$(($(bar_end $i) - $(bar $i) + 1)); [ $n -gt $size ] && size=$n && at=$(bar $i); done
}
window_ready() {
  echo 1 > /sys/bus/pci/devices/$dev/enable
  there
}
window_work() {
  window_find
  for offset in 0 0x1000 0x100000000 0x1fffffffc; do devmem $((at + offset)) 32 > /dev/null || fail no access at $offset; done
  echo 4
}
window_check() {
  window_find
  [ $size = 8589934592 ] || fail the largest BAR has $size bytes
}

# edu: registers 0 identification, 4 liveness, 8 factorial, 0x20 status, 0x80 to 0x98 DMA (QEMU, docs/specs/edu).
edu_dma() { devmem $((base + 0x80)) 64 $1; devmem $((base + 0x88)) 64 $2; devmem $((base + 0x90)) 64 $3; devmem $((base + 0x98)) 64 $4; await edu_idle; }
edu_idle() { [ $(($(devmem $((base + 0x98)) 64) & 1)) = 0 ]; }
edu_computed() { [ $(($(devmem $((base + 0x20)) 32) & 1)) = 0 ]; }
edu_ready() {
  echo 1 > /sys/bus/pci/devices/$dev/enable
  bytes '\\x06' 4
  there
  base=$(bar 0)
  [ $(($(devmem $base 32) & 0xff)) = 237 ] || fail identification $(devmem $base 32)
  devmem $((base + 4)) 32 0x12345678
  [ $(devmem $((base + 4)) 32) = 0xEDCBA987 ] || fail liveness
}
edu_work() {
  base=$(bar 0)
  devmem $((base + 8)) 32 10
  await edu_computed
  [ $(($(devmem $((base + 8)) 32))) = 3628800 ] || fail factorial
  devmem ${DMA_BUFFER} 64 0x0123456789abcdef
  edu_dma ${DMA_BUFFER} 0x40000 8 1
  edu_dma 0x40000 ${DMA_BUFFER + 4096} 8 3
  echo 20
}
edu_check() { [ $(devmem ${DMA_BUFFER + 4096} 64) = 0x0123456789ABCDEF ] || fail DMA gave $(devmem ${DMA_BUFFER + 4096} 64); }
`;

/** Each character on the console is an exit: nothing is printed while work is counted, and every mark is as long. */
const ALL = `
# NAME WORD [VALUE...]
say() { mark=$1; word=$2; shift 2; printf 'MATRIX %-24s %-8s %-16s\\n' $mark $word "$*"; }
# NAME PART: what the part said, or why it failed, is in $said.
part() { said=$(sh $0 $1 $2 2>&1) || { say $1 failed $said; return 1; }; }
turn() {
  part $1 ready || return
  say $1 ready $said
  sleep 1
  part $1 work || return
  say $1 counted $said
  part $1 check || return
  say $1 done $said
}
all() {
  export PATH=/bin HOME=/
  mount -t proc proc /proc
  mount -t sysfs sys /sys
  mount -t devtmpfs dev /dev 2> /dev/null
  mount -t tmpfs run /run
  mount -t debugfs debug /sys/kernel/debug
  begin
  say ${NOTHING} ready
  sleep 1
  say ${NOTHING} counted 1
  for name in $NAMES; do turn $name; done
  say ${NOTHING} end
  poweroff -f
}
`;

/** The script of a guest that has all these devices. @param peer `address:port` of who answers transfers */
export function matrixScript(cases: readonly DeviceCase[], peer: string): string {
  const addresses = guestAddresses(cases);
  const [address, port] = peer.split(':');
  const transfers = { fast: transfer(TRANSFER_BYTES.fast), slow: transfer(TRANSFER_BYTES.slow) };
  return `#!/bin/sh
PEER=${address} PORT=${port} NAMES='${cases.map(({ name }) => name).join(' ')}'
${LIBRARY}${ALL}
case $1 in
${cases.map((one, i) => `${one.name}) ${variables(one, addresses[i]!)} ${one.slow ? transfers.slow : transfers.fast} ;;`).join('\n')}
*) "$1"; exit ;;
esac
case $2 in
work | check) "$work"_$2 ;;
*) $2 ;;
esac
`;
}

function variables({ name, driver, work }: DeviceCase, address: string): string {
  const { name: driverName = '', module = '', parameters = '' } = driver ?? {};
  return assignments({ name, dev: `0000:00:${address}`, work, driver: driverName, module, parameters });
}

function transfer(bytes: number): string {
  return assignments({ BYTES: bytes, SHA256: createHash('sha256').update(peerBytes(bytes)).digest('hex') });
}

function assignments(values: Readonly<Record<string, string | number>>): string {
  return Object.entries(values)
    .map(([key, value]) => `${key}='${value}'`)
    .join(' ');
}
