/** The main job as one function: a guest with an assigned network card leases, pings, transfers, and causes no exit. */
import { expect } from 'vitest';
import type { ExitCounters } from '../../index.ts';
import type { Lab } from '../../lab/index.ts';
import { TRAFFIC_BEGINS, TRAFFIC_ENDS } from '../inside/marks.ts';
import type { TrafficResult } from '../inside/traffic.ts';
import { buildGuest, type Guest } from './guests.ts';
import { PEER_ADDRESS, type TcpPeer } from './peer.ts';
import { runInside, say, tail } from './test-lab.ts';

export const TRANSFER_BYTES: number = 100 * 1024 * 1024;
const PINGS = 1000;
/** Exits that a mark line on the console may cost: one a character, and a few for the interrupts around it. */
const MARK_EXITS = 64;

export interface TrafficCase {
  /** Kernel series of the guest. */
  readonly guest: string;
  readonly cpus: number;
  readonly memory: '512M' | '6GiB';
}

/**
 * Nothing is printed between the marks: a console write is an exit. What was to tell is told afterwards. The transfers
 * let nc hand its socket to a program: nc itself moves a kilobyte at a time.
 */
function guestScript(peer: TcpPeer): string {
  return `
echo "guest: Linux $(uname -r), $(nproc) CPUs, $(awk '/MemTotal/ {print $2}' /proc/meminfo) kB"
udhcpc -i eth0 -n -q -t 20 -T 1
dmesg -n 1
interrupts() { awk '/eth0/ { for (i = 2; i <= 1 + cpus; i++) sum += $i } END { print sum + 0 }' cpus=$(nproc) /proc/interrupts; }
echo ${TRAFFIC_BEGINS}
sleep 3
{
  echo "interrupts-before $(interrupts)"
  ping -A -q -c ${PINGS} ${PEER_ADDRESS}
  echo "uptime-after-pings $(cut -d ' ' -f 1 /proc/uptime)"
  nc ${PEER_ADDRESS} ${peer.downloadPort} -e dd of=/run/data bs=64k
  echo "uptime-after-download $(cut -d ' ' -f 1 /proc/uptime)"
  echo "downloaded $(sha256sum < /run/data | cut -d ' ' -f 1)"
  echo "uptime-after-checksum $(cut -d ' ' -f 1 /proc/uptime)"
  nc ${PEER_ADDRESS} ${peer.uploadPort} -e cat /run/data
  echo "uptime-after-upload $(cut -d ' ' -f 1 /proc/uptime)"
  echo "interrupts-after $(interrupts)"
} > /run/log 2>&1
echo ${TRAFFIC_ENDS}
cat /run/log
grep -E 'CPU|eth0' /proc/interrupts
cd /sys/class/net/eth0/device
bar=$(head -1 resource | cut -d ' ' -f 1)
for ring in RDBA:2800 TDBA:3800; do
  at=$((bar + 0x\${ring#*:}))
  echo "ring \${ring%:*} $(devmem $at 32) $(devmem $((at + 4)) 32)"
done
`;
}

/** The guest of {@link checkTraffic}. `iomem=relaxed`: the script reads the card's ring registers with devmem. */
export function trafficGuest(series: string, peer: TcpPeer): Promise<Guest> {
  return buildGuest(series, { modules: ['e1000e'], script: guestScript(peer) }, 'iomem=relaxed');
}

/** Runs the guest and checks everything that must be true of it. Gives what was measured. */
export async function checkTraffic(lab: Lab, bdf: string, peer: TcpPeer, spec: TrafficCase): Promise<TrafficResult> {
  const guest = await trafficGuest(spec.guest, peer);
  const uploadsBefore = peer.uploads.length;
  const config = { ...guest, cpus: spec.cpus, memory: spec.memory, devices: [bdf], rebootLimit: 0 };
  const result = await runInside<TrafficResult>(lab, 'traffic', config, { timeoutMs: 8 * 60_000 });
  const log = `\n${tail(result.console)}\n${JSON.stringify(result.seconds)} ${result.warnings.join('\n')}`;
  say(`create, boot, traffic: ${Object.values(result.seconds).join(', ')} s; ${timing(result.console)}`);

  expect(result.exit, log).toBe('shutdown');
  expect(result.console, log).toContain(`${spec.cpus} CPUs`);
  expect(result.console, log).toMatch(/lease: eth0 10\.0\.2\.\d+\/24 router 10\.0\.2\.2 server 10\.0\.2\.2/);
  expect(result.console, log).toContain(`${PINGS} packets transmitted, ${PINGS} packets received, 0% packet loss`);
  expect(field(result.console, 'downloaded'), log).toBe(peer.sha256);
  expect(peer.uploads.slice(uploadsBefore), log).toEqual([{ sha256: peer.sha256, bytes: TRANSFER_BYTES }]);
  checkInterrupts(result, log);
  expect(exitsBetween(result.before, result.after), log).toEqual({ port: 0, mmio: 0, config: 0, kick: 0, other: 0 });
  expect(result.after.console - result.before.console, log).toBeLessThanOrEqual(MARK_EXITS);
  return result;
}

/** Every interrupt of the card came as one of its MSI-X vectors, and the traffic made thousands. */
function checkInterrupts({ console, report }: TrafficResult, log: string): void {
  const lines = console.split(/\r?\n/).filter((line) => /^\s*\d+:.*eth0/.test(line));
  expect(lines.length, log).toBeGreaterThanOrEqual(3);
  for (const line of lines) expect(line, log).toMatch(/PCI-MSI/);
  const counted = Number(field(console, 'interrupts-after')) - Number(field(console, 'interrupts-before'));
  expect(counted, log).toBeGreaterThan(PINGS);
  expect(report.devices[0]?.interrupts, log).toMatchObject({ mode: 'msix', routed: lines.length });
}

/** What the traffic cost, without the console. */
function exitsBetween(before: ExitCounters, after: ExitCounters): Record<string, number> {
  const withoutConsole = ({ port, mmio, config, kick, other }: ExitCounters) => ({ port, mmio, config, kick, other });
  const [from, to] = [withoutConsole(before), withoutConsole(after)];
  return Object.fromEntries(Object.entries(to).map(([kind, count]) => [kind, count - from[kind as keyof typeof from]]));
}

/** Upper halves of the card's receive and transmit ring addresses. */
export function ringsAbove4Gib(console: string): readonly number[] {
  return [...console.matchAll(/^ring [RT]DBA 0x[0-9A-F]+ (0x[0-9A-F]+)/gm)].map(([, high]) => Number(high));
}

function field(console: string, name: string): string | undefined {
  return new RegExp(`^${name} (\\S+)`, 'm').exec(console)?.[1];
}

function timing(console: string): string {
  const at = (name: string) => Number(field(console, `uptime-after-${name}`));
  const steps = ['pings', 'download', 'checksum', 'upload'];
  return steps
    .slice(1)
    .map((name, i) => `${name} ${(at(name) - at(steps[i]!)).toFixed(1)}`)
    .join(', ');
}
