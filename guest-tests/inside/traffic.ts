/**
 * The main job, for the harness: a stock guest leases, pings and transfers through an assigned e1000e, and causes no exit.
 * Run by guest-tests/traffic.test.ts and guest-tests/matrix.test.ts.
 */
import assert from 'node:assert/strict';
import type { ExitCounters } from '../../index.ts';
import { isDevice, type LinuxGuest, test } from '../harness/index.ts';
import { leaseAddress, netInterface, ROUTER, TRANSFER_FILES, transfer } from '../suites/support/network.ts';

const TRANSFER_BYTES = 100 * 1024 * 1024;
const PINGS = 1000;

/** Guests by kernel series, vCPUs and memory: the names of the tests are made of them. */
const GUESTS = [
  { kernel: '6.1', cpus: 2, memory: '512M' },
  { kernel: '6.12', cpus: 1, memory: '512M' },
  { kernel: '6.12', cpus: 4, memory: '6GiB' },
] as const;

for (const { kernel, cpus, memory } of GUESTS) {
  test(`Linux ${kernel}, vCPUs: ${cpus}, ${memory}`, {
    needs: isDevice('8086:10d3'),
    timeoutMs: 8 * 60_000,
  }, async (fixtures) => {
    const { boot, step } = fixtures;
    // `iomem=relaxed`: the card's ring registers are read with devmem.
    const guest = await boot({ kernel, cpus, memory, cmdline: 'iomem=relaxed', files: TRANSFER_FILES });
    assert.equal(await guest.must('nproc'), `${cpus}`);
    const nic = await netInterface(guest);
    assert.match(await leaseAddress(guest, nic), /lease: eth0 10\.0\.2\.\d+\/24 router 10\.0\.2\.2 server 10\.0\.2\.2/);

    const exits = deviceExits(guest);
    const interrupts = sum(await interruptLines(guest, nic));
    await step('pings', async () => {
      const said = await guest.must(`ping -A -q -c ${PINGS} ${ROUTER}`, { timeoutMs: 120_000 });
      assert.match(said, new RegExp(`${PINGS} packets transmitted, ${PINGS} packets received, 0% packet loss`));
    });
    await step('100 MiB from the peer', () => transfer(fixtures, guest, 'download', TRANSFER_BYTES));
    await step('100 MiB to the peer', () => transfer(fixtures, guest, 'upload', TRANSFER_BYTES));
    await step('none of it is an exit', () => assert.deepEqual(deviceExits(guest), exits));
    await step('each interrupt is a message of its own vector', async () => {
      const lines = await interruptLines(guest, nic);
      assert.ok(lines.length >= 3 && lines.every((line) => line.includes('PCI-MSI')), lines.join('\n'));
      assert.ok(sum(lines) - interrupts > PINGS, `${sum(lines) - interrupts} interrupts`);
      const { mode, routed } = guest.vm.report().devices[0]!.interrupts;
      assert.deepEqual({ mode, routed }, { mode: 'msix', routed: lines.length });
    });
    await step('every BAR is mapped', () => {
      assert.ok(guest.vm.report().devices[0]!.bars.every(({ areas }) => areas.length > 0));
    });
    // Linux takes memory from the top first: there the packets are as well.
    await step(`the card’s rings are ${memory === '6GiB' ? 'above' : 'below'} 4 GiB`, async () => {
      const high = await ringsHigh(guest, nic);
      assert.equal(high.length, 2);
      for (const upperHalf of high) assert.equal(upperHalf > 0, memory === '6GiB', `upper halves ${high}`);
    });
    await guest.shutdown();
    assert.equal((await guest.vm.exited).reason, 'shutdown');
  });
}

/** Without those of the serial ports, where console and agent are. */
function deviceExits(guest: LinuxGuest): Omit<ExitCounters, 'console' | 'total'> {
  const { console: _console, total: _total, ...rest } = guest.vm.exits();
  return rest;
}

async function interruptLines(guest: LinuxGuest, nic: string): Promise<string[]> {
  return (await guest.must(`grep ${nic} /proc/interrupts`)).split('\n');
}

/** Of all processors: the numbers between the line's own and its kind. */
function sum(lines: readonly string[]): number {
  const numbers = lines.flatMap((line) => /^\s*\d+:([\s\d]+)/.exec(line)?.[1]?.trim().split(/\s+/) ?? []);
  return numbers.reduce((total, number) => total + Number(number), 0);
}

/** Upper halves of the addresses of the receive and the transmit ring (82574 datasheet, 10.2.5 and 10.2.6: RDBAH, TDBAH). */
async function ringsHigh(guest: LinuxGuest, nic: string): Promise<number[]> {
  const bar = Number((await guest.must(`head -1 /sys/class/net/${nic}/device/resource`)).split(' ')[0]);
  const read = async (register: number) => Number(await guest.must(`devmem ${bar + register} 32`));
  return [await read(0x2804), await read(0x3804)];
}
