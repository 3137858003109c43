/**
 * Settings of an assigned device that only a whole host shows to hold, for the harness: the ROM, MSI-X elsewhere, peer to
 * peer, errors. Run by guest-tests/settings.test.ts.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDevice, test } from '../harness/index.ts';
import { leaseAddress, netInterface, ROUTER } from '../suites/support/network.ts';
import { eventsOf } from './events.ts';
import { ERROR_WANTED, ROMS_VARIABLE } from './marks.ts';

const MINUTE_MS = 60_000;
/** Memory that Linux leaves alone, for devices that it has no driver for. */
const DMA_BUFFER = 0x0c00_0000;
/** Where edu's own buffer lies for it (QEMU, docs/specs/edu). */
const EDU_BUFFER = 0x4_0000;
const PATTERN = '0x0123456789ABCDEF';
const LARGE_PAGE = 2 * 1024 * 1024;
const LARGE_PAGES = 32;
/** Pages of 2 MiB that the guest's memory may gain meanwhile. */
const NOISE_PAGES = 4;
const KVM_COUNTERS = '/sys/kernel/debug/kvm';

const ANSWERS = [
  { onError: 'report', state: 'running' },
  { onError: 'pause', state: 'paused' },
  { onError: 'stop', state: 'stopped' },
  { onError: 'reset', state: 'running' },
] as const;
const PATIENCE_MS = 30_000;
/** What an event leads to has happened by then. */
const AFTERMATH_MS = 2000;

test('ROM, MSI-X table elsewhere, DMA between devices, large pages', {
  device: 'all',
  timeoutMs: 5 * MINUTE_MS,
}, async ({ devices, boot, log, step }) => {
  const [card, edu, display] = devices.map(({ bdf }) => bdf) as [string, string, string];
  const roms = process.env[ROMS_VARIABLE]!;
  const guest = await boot({
    cmdline: `iomem=relaxed memmap=2M$0x${DMA_BUFFER.toString(16)}`,
    memory: '256M',
    modules: ['e1000e'],
    devices: [
      { bdf: card, rom: 'host', msixRelocation: 'auto' },
      { bdf: edu },
      { bdf: display, rom: `file:${join(roms, 'display.rom')}`, p2p: true },
    ],
  });
  // Card, edu and display are 00:01.0 to 00:03.0.
  const file = (slot: number, name: string): string => `/sys/bus/pci/devices/0000:00:0${slot}.0/${name}`;
  const bar = async (slot: number): Promise<number> =>
    Number((await guest.must(`head -1 ${file(slot, 'resource')}`)).split(' ')[0]);
  for (const slot of [2, 3]) await guest.must(`echo 1 > ${file(slot, 'enable')}`);
  await guest.must(`printf '\\x06' | dd of=${file(2, 'config')} bs=1 seek=4 conv=notrunc`);
  const [eduBar, displayBar] = [await bar(2), await bar(3)];
  const reports = guest.vm.report().devices;

  await step('a large BAR is mapped by large pages, small accesses to memory by none', async () => {
    const touch = (at: number, stride: number) =>
      guest.must(
        `i=0; while [ $i -lt ${LARGE_PAGES} ]; do devmem $((${at} + i * ${stride})) 32 $i; i=$((i + 1)); done`,
      );
    const before = largePages();
    await touch(DMA_BUFFER, 4096);
    const between = largePages();
    await touch(displayBar, LARGE_PAGE);
    const after = largePages();
    log(`pages of 2 MiB: ${before}, ${between}, ${after}`);
    assert.ok(between - before <= NOISE_PAGES && after - between >= LARGE_PAGES, `${before}, ${between}, ${after}`);
  });
  for (const [slot, name] of [
    [1, 'card'],
    [3, 'display'],
  ] as const) {
    await step(`the ROM of the ${name}`, async () => {
      const wanted = createHash('sha256')
        .update(readFileSync(join(roms, `${name}.rom`)))
        .digest('hex');
      const rom = file(slot, 'rom');
      assert.equal(await guest.must(`echo 1 > ${rom}; sha256sum < ${rom} | cut -d ' ' -f 1`), wanted);
      const { offered, faults } = reports[slot - 1]!.rom!;
      assert.deepEqual([offered, faults], [true, []]);
    });
  }
  await step('edu writes into the memory of the display', async () => {
    const target = displayBar + 0x1000;
    await guest.must(`devmem ${DMA_BUFFER} 64 ${PATTERN}`);
    // Into edu's buffer, then out of it.
    for (const [from, to, command] of [
      [DMA_BUFFER, EDU_BUFFER, 1],
      [EDU_BUFFER, target, 3],
    ] as const) {
      for (const [offset, value] of [
        [0x80, from],
        [0x88, to],
        [0x90, 8],
        [0x98, command],
      ] as const) {
        await guest.must(`devmem ${eduBar + offset} 64 ${value}`);
      }
      await guest.must(`until [ $(($(devmem ${eduBar + 0x98} 64) & 1)) = 0 ]; do sleep 0.1; done`);
    }
    assert.equal(await guest.must(`devmem ${target} 64`), PATTERN);
    assert.equal(reports[2]!.bars.find(({ index }) => index === 0)?.p2p, 'mapped');
  });
  await step('the card works with its MSI-X table elsewhere', async () => {
    const nic = await netInterface(guest);
    await leaseAddress(guest, nic);
    assert.match(await guest.must(`ping -A -q -c 20 ${ROUTER}`), / 20 packets received, 0% packet loss/);
    assert.match(await guest.must(`grep ${nic} /proc/interrupts`), /PCI-MSI/);
    const { msixRelocation, rom, interrupts } = guest.vm.report().devices[0]!;
    assert.match(msixRelocation ?? '', /^moved to BAR/);
    assert.deepEqual([rom?.source, interrupts.mode], ['host', 'msix']);
  });
  await guest.shutdown();
  assert.equal((await guest.vm.exited).reason, 'shutdown');
});

for (const { onError, state } of ANSWERS) {
  test(`an uncorrectable error: ${onError}`, {
    needs: isDevice('1af4:1000', '1af4:1041'),
    tolerates: ['aer', 'config'],
  }, async ({ device: { bdf }, boot, log }) => {
    const guest = await boot({ modules: [], memory: '128M', devices: [{ bdf, onError }] });
    const events = eventsOf(guest.vm);
    const errors = () => events.flatMap((event) => (event.type === 'device' ? [[event.bdf, event.what]] : []));
    log(`${ERROR_WANTED} ${bdf}`);
    const deadline = performance.now() + PATIENCE_MS;
    while (errors().length === 0 && performance.now() < deadline) await sleep(100);
    await sleep(AFTERMATH_MS);
    assert.deepEqual(errors(), [[bdf, 'error']]);
    assert.equal(guest.vm.state, state);
    const resets = guest.vm.report().devices[0]!.resets.filter(({ when }) => when === 'error');
    assert.deepEqual(
      resets.map(({ ok }) => ok),
      onError === 'reset' ? [true] : [],
    );
  });
}

/** Of 2 MiB, in the guest's page table. KVM names the folder of a VM after its process. */
function largePages(): number {
  return readdirSync(KVM_COUNTERS)
    .filter((name) => name.startsWith(`${process.pid}-`))
    .reduce((sum, name) => sum + Number(readFileSync(`${KVM_COUNTERS}/${name}/pages_2m`, 'latin1')), 0);
}
