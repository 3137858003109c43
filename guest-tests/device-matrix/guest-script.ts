/** What the guest of the matrix does, for busybox `sh`: bind each device's driver, wait for it, let it work, check. */
import { PEER_ADDRESS } from '../support/peer.ts';
import { type Batch, type DeviceCase, guestAddresses } from './cases.ts';

/** Where the guest finds the other end of its transfers, at {@link PEER_ADDRESS}. */
export interface Peer {
  readonly downloadPort: number;
  readonly uploadPort: number;
  readonly sha256: string;
}

/** Memory that Linux leaves alone, for a device that has no driver to allocate some. Within 28 bits, which is edu's reach. */
const DMA_BUFFER = 0x0c00_0000;

/** Words for the guest's command line. `iomem=relaxed`: the script is the driver of devices that Linux has none for. */
export const MATRIX_CMDLINE: string = `iomem=relaxed memmap=2M$0x${DMA_BUFFER.toString(16)}`;

/** Modules that {@link matrixScript} loads by itself, in this order, besides the drivers. */
export const COMMON_MODULES: readonly string[] = ['virtio_pci', 'sd_mod', 'usb-storage'];

const LIBRARY = `
say() { echo "MATRIX $name $*"; }
up() { cut -d ' ' -f 1 /proc/uptime; }
# seconds COMMAND...: waits until it succeeds, for 30 s at most.
await() { i=0; until "$@"; do i=$((i + 1)); [ $i -gt 300 ] && return 1; usleep 100000; done; }
bytes() { printf "$1" | dd of=/sys/bus/pci/devices/$dev/config bs=1 seek=$2 conv=notrunc 2> /dev/null; }
bar() { sed -n "$(($1 + 1))p" /sys/bus/pci/devices/$dev/resource | cut -d ' ' -f 1; }
bar_end() { sed -n "$(($1 + 1))p" /sys/bus/pci/devices/$dev/resource | cut -d ' ' -f 2; }
# interrupts PATTERN: says how many came by the lines that match, and the kind of the first of them.
interrupts() { say irq $(awk -v what="$1" '$0 ~ what { sum += $2 } END { print sum + 0 }' /proc/interrupts) $(grep -E "$1" /proc/interrupts | grep -o -E 'PCI-MSI|IO-APIC' | head -1); }

# begin: counts exits from here; silent until "counted".
begin() { say work; sleep 1; }
counted() { say counted $1; }

nic_there() { nic=$(ls /sys/bus/pci/devices/$dev/net /sys/bus/pci/devices/$dev/virtio*/net 2> /dev/null | grep -v : | head -1); [ -n "$nic" ]; }
nic() {
  await nic_there || { say failed no interface; return; }
  say ready $(up)
  udhcpc -i $nic -n -q -t 20 -T 1 > /run/lease 2>&1 || { say failed no lease; return; }
  begin
  ping -A -q -c 100 $PEER > /run/ping
  counted 100
  grep -q '100 packets received' /run/ping || { say failed "$(grep received /run/ping)"; return; }
  nc $PEER $DOWNLOAD -e dd of=/run/data bs=64k 2> /dev/null
  sum=$(sha256sum < /run/data | cut -d ' ' -f 1)
  [ $sum = $SHA256 ] || { say failed download has SHA-256 $sum; return; }
  nc $PEER $UPLOAD -e cat /run/data
  interrupts "$nic|virtio"
  ip addr flush dev $nic
  ip link set $nic down
  say done
}

disk_there() { disk=$(find /sys/devices/pci0000:00/$dev -name 'sd[a-z]' -o -name 'nvme[0-9]n1' | head -1); disk=\${disk##*/}; [ -n "$disk" ] && [ -b /dev/$disk ]; }
disk() {
  await disk_there || { say failed no disk; return; }
  say ready $(up)
  dd if=/dev/urandom of=/run/data bs=1M count=4 2> /dev/null
  begin
  dd if=/run/data of=/dev/$disk bs=64k oflag=direct 2> /dev/null
  dd if=/dev/$disk of=/run/back bs=64k count=64 iflag=direct 2> /dev/null
  counted 128
  cmp /run/data /run/back || { say failed what was read is not what was written; return; }
  interrupts 'nvme|ahci|xhci'
  say done
}

screen_there() { ls -d /sys/bus/pci/devices/$dev/drm/card* > /dev/null 2>&1 && [ -e /dev/fb0 ]; }
screen() {
  await screen_there || { say failed no frame buffer; return; }
  say ready $(up)
  # The text console would draw into it, if only its cursor.
  for console in /sys/class/vtconsole/vtcon*/bind; do echo 0 > $console; done 2> /dev/null
  dd if=/dev/urandom of=/run/data bs=64k count=16 2> /dev/null
  begin
  dd if=/run/data of=/dev/fb0 bs=64k 2> /dev/null
  dd if=/dev/fb0 of=/run/back bs=64k count=16 2> /dev/null
  counted 32
  cmp /run/data /run/back || { say failed the frame buffer lost something; return; }
  # Its driver maps the memory without; as whoever has the memory to himself, one gets it.
  echo $dev > /sys/bus/pci/drivers/$driver/unbind
  combining 0 || return
  say done
}

# combining BAR: maps it write-combining, fills and checks all of it, finds it in the kernel's list of memory types.
combining() {
  echo 1 > /sys/bus/pci/devices/$dev/enable
  first=$(printf %x $(bar $1))
  rm -f /run/map
  map-wc /sys/bus/pci/devices/$dev/resource$1_wc $(($(bar_end $1) - $(bar $1) + 1)) > /run/map &
  await grep -q whole /run/map || { say failed BAR $1 does not hold what was written; return 1; }
  mount -t debugfs debugfs /sys/kernel/debug 2> /dev/null
  grep "$first-.*write-combining" /sys/kernel/debug/x86/pat_memtype_list > /run/pat || { say failed BAR $1 is not write-combining; return 1; }
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
memory() {
  echo 1 > /sys/bus/pci/devices/$dev/enable
  say ready $(up)
  base=$(bar 2)
  begin
  patterns $base $((base + 0x1000)) $((base + 0xffffc)) || { say failed memory forgets; return; }
  counted 12
  combining 2 || return
  say done
}

window() {
  echo 1 > /sys/bus/pci/devices/$dev/enable
  say ready $(up)
  size=0
  for i in 0 1 2 3 4 5; do n=$(($(bar_end $i) - $(bar $i) + 1)); [ $n -gt $size ] && size=$n && at=$(bar $i); done
  [ $size = 8589934592 ] || { say failed the largest BAR has $size bytes; return; }
  begin
  for offset in 0 0x1000 0x100000000 0x1fffffffc; do devmem $((at + offset)) 32 > /dev/null || { say failed no access at $offset; return; }; done
  counted 4
  say done
}

# edu: registers 0 identification, 4 liveness, 8 factorial, 0x20 status, 0x80 to 0x98 DMA (QEMU, docs/specs/edu).
edu_dma() { devmem $((base + 0x80)) 64 $1; devmem $((base + 0x88)) 64 $2; devmem $((base + 0x90)) 64 $3; devmem $((base + 0x98)) 64 $4; await edu_idle; }
edu_idle() { [ $(($(devmem $((base + 0x98)) 64) & 1)) = 0 ]; }
edu_computed() { [ $(($(devmem $((base + 0x20)) 32) & 1)) = 0 ]; }
edu() {
  echo 1 > /sys/bus/pci/devices/$dev/enable
  bytes '\\x06' 4
  say ready $(up)
  base=$(bar 0)
  [ $(($(devmem $base 32) & 0xff)) = 237 ] || { say failed identification $(devmem $base 32); return; }
  devmem $((base + 4)) 32 0x12345678
  [ $(devmem $((base + 4)) 32) = 0xEDCBA987 ] || { say failed liveness; return; }
  begin
  devmem $((base + 8)) 32 10
  await edu_computed
  [ $(($(devmem $((base + 8)) 32))) = 3628800 ] || { say failed factorial; return; }
  devmem ${DMA_BUFFER} 64 0x0123456789abcdef
  edu_dma ${DMA_BUFFER} 0x40000 8 1
  edu_dma 0x40000 ${DMA_BUFFER + 4096} 8 3
  counted 20
  [ $(devmem ${DMA_BUFFER + 4096} 64) = 0x0123456789ABCDEF ] || { say failed DMA gave $(devmem ${DMA_BUFFER + 4096} 64); return; }
  say done
}
`;

/** One device's turn. */
function turn({ name, driver, work }: DeviceCase, address: string, peer: Peer): string {
  const lines = [
    `DOWNLOAD=${peer.downloadPort} UPLOAD=${peer.uploadPort} SHA256=${peer.sha256}`,
    `name=${name}`,
    `dev=0000:00:${address}`,
    `driver=${driver?.name ?? 'none'}`,
  ];
  if (driver) {
    lines.push(`modprobe ${driver.module} ${driver.parameters ?? ''}`.trim());
    lines.push('say bind $(up)', `echo $dev > /sys/bus/pci/drivers/${driver.name}/bind`);
  } else lines.push('say bind $(up)');
  return [...lines, work].join('\n');
}

/** The script of a guest that has all devices of a batch. Nothing is bound but when it is its turn. */
export function matrixScript({ cases }: Batch, peers: { readonly large: Peer; readonly small: Peer }): string {
  const addresses = guestAddresses(cases);
  return `
PEER=${PEER_ADDRESS}
${LIBRARY}
dmesg -n 1
echo 0 > /sys/bus/pci/drivers_autoprobe
${COMMON_MODULES.map((module) => `modprobe ${module}`).join('\n')}
name=nothing
begin
counted 1
${cases.map((one, i) => turn(one, addresses[i]!, one.slow ? peers.small : peers.large)).join('\n')}
name=nothing
say end
`;
}
