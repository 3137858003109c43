/** Settings of an assigned device that only a whole host shows to hold: the ROM, MSI-X elsewhere, peer to peer, errors. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Lab, LabOptions } from '../lab/index.ts';
import type { ErrorOutcomes } from './inside/device-errors.ts';
import type { SettingsResult } from './inside/device-settings.ts';
import { ERROR_WANTED, GUEST_READY, PAGE_MARKS } from './inside/marks.ts';
import { buildGuest } from './support/guests.ts';
import { HALT, outByte, outEax, pvhElf, setEax, WAIT_FOR_KEY } from './support/payload.ts';
import { aliveLab, ONE_PROCESSOR, openTestLab, runInside, say, tail } from './support/test-lab.ts';

/** Says that it runs, waits for a key, ends well. */
const PATIENT = pvhElf(outByte(0x3f8, 0x52), WAIT_FOR_KEY, setEax(0), outEax(0xf4), HALT);
/** Memory that Linux leaves alone, for devices that it has no driver for. */
const DMA_BUFFER = 0x0c00_0000;
const PATTERN = '0x0123456789ABCDEF';
const ANSWERS = ['report', 'pause', 'stop', 'reset'] as const;
const LARGE_PAGE = 2 * 1024 * 1024;
const LARGE_PAGES = 32;
/** Pages of 2 MiB that the guest's memory may gain meanwhile. */
const NOISE_PAGES = 4;

let folder: string;
let host: LabOptions;
let lab: Lab;
/** What the network card has, and what the display is given instead of its own. */
const roms = { card: romImage(0x8086, 0x10d3), display: romImage(0x1234, 0x1111) };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'causeway-settings-'));
  await writeFile(join(folder, 'card.rom'), roms.card);
  // Large pages of a BAR need a host from 6.12 on.
  host = {
    ...ONE_PROCESSOR,
    kernel: '6.12',
    devices: [
      `e1000e,romfile=${join(folder, 'card.rom')}`,
      'edu,dma_mask=0xffffffff',
      'bochs-display,vgamem=64M',
      // The others' models do not report errors: their enable bits in device control are fixed at 0.
      'virtio-net-pci,aer=on',
    ],
  };
  lab = await openTestLab(host);
});

beforeEach(async () => {
  lab = await aliveLab(lab, host);
});

afterAll(async () => {
  await lab?.close();
  if (folder) await rm(folder, { recursive: true });
});

/** One EFI image of random content, for one device (PCI Firmware 3.3 §5.1). */
function romImage(vendor: number, device: number): Buffer {
  const blocks = 16;
  const rom = randomBytes(blocks * 512);
  rom.writeUInt16LE(0xaa55, 0);
  rom.writeUInt16LE(0x1c, 0x18);
  rom.fill(0, 0x1c, 0x1c + 0x18).write('PCIR', 0x1c, 'latin1');
  rom.writeUInt16LE(vendor, 0x1c + 4);
  rom.writeUInt16LE(device, 0x1c + 6);
  rom.writeUInt16LE(0x18, 0x1c + 0x0a);
  rom.writeUInt16LE(blocks, 0x1c + 0x10);
  rom[0x1c + 0x14] = 3;
  rom[0x1c + 0x15] = 0x80;
  return rom;
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Card, edu and display are 00:01.0 to 00:03.0. edu's registers: QEMU, docs/specs/edu. */
const SCRIPT = `
mark() { echo $1; read answer; }
bar() { head -1 /sys/bus/pci/devices/0000:00:$1.0/resource | cut -d ' ' -f 1; }
rom() { echo 1 > /sys/bus/pci/devices/0000:00:$1.0/rom; sha256sum < /sys/bus/pci/devices/0000:00:$1.0/rom | cut -d ' ' -f 1; }
touch32() { i=0; while [ $i -lt ${LARGE_PAGES} ]; do devmem $(($1 + i * $2)) 32 $i; i=$((i + 1)); done; }
for slot in 02 03; do echo 1 > /sys/bus/pci/devices/0000:00:$slot.0/enable; done
printf '\\x06' | dd of=/sys/bus/pci/devices/0000:00:02.0/config bs=1 seek=4 conv=notrunc 2> /dev/null
edu=$(bar 02) display=$(bar 03)
mark ${PAGE_MARKS[0]}
touch32 ${DMA_BUFFER} 4096
mark ${PAGE_MARKS[1]}
touch32 $display ${LARGE_PAGE}
mark ${PAGE_MARKS[2]}
echo "rom of the card: $(rom 01)"
echo "rom of the display: $(rom 03)"
dma() { for word in 80:$1 88:$2 90:8 98:$3; do devmem $((edu + 0x\${word%:*})) 64 \${word#*:}; done; sleep 1; }
devmem ${DMA_BUFFER} 64 ${PATTERN}
dma ${DMA_BUFFER} 0x40000 1
dma 0x40000 $((display + 0x1000)) 3
echo "peer: $(devmem $((display + 0x1000)) 64)"
udhcpc -i eth0 -n -q -t 20 -T 1 && ping -A -q -c 20 10.0.2.2
grep eth0 /proc/interrupts
mark ${GUEST_READY}
`;

// Enforces D38, P15.
test('ROM of the device and from a file, MSI-X table elsewhere, DMA between devices, large pages', async () => {
  const file = join(lab.shareDir, 'display.rom');
  await writeFile(file, roms.display);
  const guest = await buildGuest(
    '6.1',
    { modules: ['e1000e'], script: SCRIPT },
    `iomem=relaxed memmap=2M$0x${DMA_BUFFER.toString(16)}`,
  );
  const [card, edu, display] = lab.devices.map(({ bdf }) => bdf);
  const devices = [
    { bdf: card, rom: 'host', msixRelocation: 'auto' },
    { bdf: edu },
    { bdf: display, rom: `file:${file}`, p2p: true },
  ];
  const config = { ...guest, memory: '256M', devices, rebootLimit: 0 };
  const result = await runInside<SettingsResult>(lab, 'device-settings', { config });
  const log = `${tail(result.console)}\n${JSON.stringify(result.report.devices)}`;
  say(`pages of 2 MiB: ${result.largePages.join(', ')}`);
  expect(result.exit, log).toBe('shutdown');
  expect(result.console, log).toContain(`rom of the card: ${sha256(roms.card)}`);
  expect(result.console, log).toContain(`rom of the display: ${sha256(roms.display)}`);
  expect(result.console, log).toContain(`peer: ${PATTERN}`);
  expect(result.console, log).toContain('20 packets transmitted, 20 packets received, 0% packet loss');
  expect(result.console, log).toMatch(/PCI-MSI.*eth0/);
  const [cardReport, , displayReport] = result.report.devices;
  expect(cardReport, log).toMatchObject({
    msixRelocation: expect.stringMatching(/^moved to BAR/),
    rom: { source: 'host', offered: true, faults: [] },
    interrupts: { mode: 'msix' },
  });
  expect(displayReport!.rom, log).toMatchObject({ offered: true, faults: [] });
  expect(
    displayReport!.bars.find(({ index }) => index === 0),
    log,
  ).toMatchObject({ p2p: 'mapped' });
  const [before, between, after] = result.largePages as [number, number, number];
  expect(between - before, log).toBeLessThanOrEqual(NOISE_PAGES);
  expect(after - between, log).toBeGreaterThanOrEqual(LARGE_PAGES);
});

// Enforces G70, P49.
test('an uncorrectable error arrives as an event, and what follows is as configured', async () => {
  const { bdf, id } = lab.devices[3]!;
  const kernel = join(lab.shareDir, 'patient.elf');
  await writeFile(kernel, PATIENT);
  const injected: string[] = [];
  const onText = (text: string): void => {
    if (!text.includes(ERROR_WANTED)) return;
    void lab.monitor(`pcie_aer_inject_error ${id} COMP_ABORT`).then((answer) => injected.push(answer));
  };
  const wish = { config: { kernel, memory: '32M' }, bdf, answers: ANSWERS };
  const outcomes = await runInside<ErrorOutcomes>(lab, 'device-errors', wish, { onText });
  const log = `${injected.join('')}\n${JSON.stringify(outcomes)}`;
  for (const answer of ANSWERS) {
    const { events } = outcomes[answer];
    expect(
      events.filter(({ type }) => type === 'device'),
      `${answer}: ${log}`,
    ).toMatchObject([{ bdf, what: 'error' }]);
  }
  expect(outcomes.report.state, log).toBe('running');
  expect(outcomes.pause.state, log).toBe('paused');
  expect(outcomes.stop.state, log).toBe('stopped');
  expect(outcomes.reset.state, log).toBe('running');
  expect(outcomes.reset.resets, log).toContainEqual(expect.objectContaining({ when: 'error', ok: true }));
  for (const answer of ['report', 'pause', 'stop'] as const) {
    expect(
      outcomes[answer].resets.map(({ when }) => when),
      log,
    ).not.toContain('error');
  }
});
