/** Devices that come and go while a stock guest runs: `inside/hotplug.ts`, by the harness, on cards of one lab. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Lab, LabOptions } from '../lab/index.ts';
import { BUTTON_WANTED, CARDS_VARIABLE } from './inside/marks.ts';
import { passTests } from './support/harness-run.ts';
import { aliveLab, ONE_PROCESSOR, openTestLab } from './support/test-lab.ts';

/** The ports have slots of PCI Express: QEMU would else have its firmware unplug for them (ACPI). */
const NATIVE_SLOTS = ['-global', 'ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off'];
const HOST: LabOptions = {
  ...ONE_PROCESSOR,
  kernel: '6.1',
  devices: ['e1000e', 'e1000e', 'e1000e', 'e1000e'],
  extraQemuArgs: NATIVE_SLOTS,
};

let lab: Lab;

beforeAll(async () => {
  lab = await openTestLab(HOST);
});

beforeEach(async () => {
  lab = await aliveLab(lab, HOST);
});

afterAll(async () => {
  await lab?.close();
});

test('a card comes and goes under a running guest, and the host may take it out of its slot or off the root bus', async () => {
  const tests = await passTests(lab, 'hotplug', '(a card comes|the host takes)', { bdfs: [lab.devices[0]!.bdf] });
  expect(tests).toHaveLength(3);
});

// Enforces G71.
test('cards leave the host under their guest: after the button, without a word, and when nobody lets go', async () => {
  const [, ...cards] = lab.devices;
  const answers: string[] = [];
  const onLine = (line: string): void => {
    if (line.includes(BUTTON_WANTED)) void lab.monitor(`device_del ${cards[0]!.id}`).then((text) => answers.push(text));
  };
  const env = { [CARDS_VARIABLE]: cards.map(({ bdf }) => bdf).join(' ') };
  await passTests(lab, 'hotplug', 'cards leave', { env, onLine });
  expect(answers).toHaveLength(1);
});
