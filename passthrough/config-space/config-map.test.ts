import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { HostBdf } from '../../native/types.ts';
import { configFixture } from '../fixtures/config-text.ts';
import { e1000e, everything, xhci } from '../fixtures/devices.ts';
import { TestMachine } from '../fixtures/test-machine.ts';
import { readResources } from '../host/sysfs.ts';
import { configMap } from './config-map.ts';
import { configSpaceDocument } from './document.ts';
import { parseGrants } from './grants.ts';

const SPECS = [
  ['e1000e', e1000e()],
  ['NEC xHCI', xhci()],
  ['igb', { ...e1000e(), config: configFixture('igb') }],
  ['rtl8139', { ...e1000e(), config: configFixture('rtl8139'), bars: [{ sizeBytes: 256, kind: 'io' as const }] }],
  ['a device with everything', everything()],
] as const;

test.each(SPECS)('%s: every byte has one owner, and the guest finds what the map says', (_name, spec) => {
  const machine = new TestMachine([spec]);
  const { fn, device, kernel } = machine;
  const config = device.config.hardware.slice();
  const map = configMap({ config, resources: readResources(kernel, device.bdf as HostBdf), canReset: true });
  let at = 0;
  for (const { offset, sizeBytes } of map) {
    expect(offset).toBe(at);
    at += sizeBytes;
  }
  expect(at).toBe(config.length);
  machine.boot();
  for (const range of map) {
    for (let byte = range.offset; byte < range.offset + range.sizeBytes; byte++) {
      const fromDevice = fn.window.deviceBits[byte]!;
      if (range.reads === 'hardware') expect(fromDevice).toBe(0xff);
      if (range.reads === 'image' || range.reads === 'zero') expect(fromDevice).toBe(0);
      if (range.reads === 'zero') expect(machine.readConfig(byte, 1), `${range.name} at ${byte}`).toBe(0);
    }
  }
});

test('the map of an e1000e names registers, masks and reasons', () => {
  const { device, kernel } = new TestMachine([e1000e()]);
  const options = {
    config: device.config.hardware,
    resources: readResources(kernel, device.bdf as HostBdf),
    canReset: true,
  };
  const map = configMap(options);
  expect(map.find(({ name }) => name === 'PCI Express: device control')).toEqual({
    offset: 0xe8,
    sizeBytes: 2,
    owner: 'capability',
    name: 'PCI Express: device control',
    reads: 'mixed',
    readMask: '7910',
    writes: 'mixed',
    imageWriteMask: '80ef',
    hardwareWriteMask: '7910',
    why: expect.stringContaining('read size'),
  });
  expect(map.find(({ offset }) => offset === 0x10)).toMatchObject({ name: 'BAR0', reads: 'image', writes: 'image' });
  expect(map.find(({ offset }) => offset === 0x40)).toMatchObject({ owner: 'gap', reads: 'zero', writes: 'nowhere' });
  expect(map.find(({ offset }) => offset === 0x104)).toMatchObject({ owner: 'hidden capability', reads: 'zero' });
  const granted = configMap({ ...options, grants: parseGrants(['40 000000ff 0000000f'], 'test') });
  expect(granted.find(({ offset }) => offset === 0x40)).toMatchObject({
    sizeBytes: 4,
    readMask: '000000ff',
    hardwareWriteMask: '0000000f',
    why: 'granted: 40 000000ff 0000000f',
  });
});

test('docs/config-space.md is what the table says', () => {
  const document = readFileSync(new URL('../../docs/config-space.md', import.meta.url), 'utf8');
  expect(document, 'stale: npm run build && node scripts/generate-docs.mjs').toBe(configSpaceDocument());
});
