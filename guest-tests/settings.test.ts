/** Settings of an assigned device that only a whole host shows to hold: `inside/settings.ts`, by the harness, in one lab. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Lab, LabOptions } from '../lab/index.ts';
import { ERROR_WANTED, ROMS_VARIABLE } from './inside/marks.ts';
import { passTests } from './support/harness-run.ts';
import { aliveLab, ONE_PROCESSOR, openTestLab } from './support/test-lab.ts';

let folder: string;
let host: LabOptions;
let lab: Lab;
/** What the network card has, and what the display is given instead of its own. */
const ROMS = { card: romImage(0x8086, 0x10d3), display: romImage(0x1234, 0x1111) };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'causeway-settings-'));
  await writeFile(join(folder, 'card.rom'), ROMS.card);
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

// Enforces D38, P15.
test('ROM of the device and from a file, MSI-X table elsewhere, DMA between devices, large pages', async () => {
  const roms = mkdtempSync(join(lab.shareDir, 'roms-'));
  for (const name of ['card', 'display'] as const) writeFileSync(join(roms, `${name}.rom`), ROMS[name]);
  const bdfs = lab.devices.slice(0, 3).map(({ bdf }) => bdf);
  await passTests(lab, 'settings', 'ROM', { bdfs, env: { [ROMS_VARIABLE]: roms } });
});

// Each in a run of its own: QEMU spoils link capabilities as it injects an error, and no harness uses such a device again.
// Enforces G70, P49.
test.each(['report', 'pause', 'stop', 'reset'])(
  'an uncorrectable error arrives as an event, and what follows is as configured: %s',
  async (answer) => {
    const { bdf, id } = lab.devices[3]!;
    const injected: string[] = [];
    const onLine = (line: string): void => {
      if (!line.includes(ERROR_WANTED)) return;
      void lab.monitor(`pcie_aer_inject_error ${id} COMP_ABORT`).then((text) => injected.push(text));
    };
    await passTests(lab, 'settings', `an uncorrectable error: ${answer}`, { bdfs: [bdf], onLine });
    expect(injected).toHaveLength(1);
  },
);
