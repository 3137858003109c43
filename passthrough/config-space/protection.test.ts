/** Every bit of config space, written by a guest one way and the other: only what the table opens reaches the hardware. */
import { expect, test } from 'vitest';
import { capabilities, type FakeVfioSpec } from '../../native/fake/pci-spec.ts';
import { configFixture } from '../fixtures/config-text.ts';
import { e1000e, everything, xhci } from '../fixtures/devices.ts';
import { TestMachine } from '../fixtures/test-machine.ts';

/** Hardware bits that may change, by offset from the start of the space. */
function openBits(config: Uint8Array): Map<number, number> {
  const open = new Map([
    [0x04, 0x17],
    [0x05, 0x04],
  ]);
  for (const { id, at } of capabilities(config)) {
    if (id === 0x01) open.set(at + 4, 0x03);
    if (id === 0x10) {
      open.set(at + 8, 0x10);
      open.set(at + 9, 0x79);
      open.set(at + 40, 0x1f);
    }
  }
  return open;
}

// Enforces C23, C27, C36.
test.each([
  ['e1000e', e1000e()],
  ['NEC xHCI', xhci()],
  ['NVMe', { ...e1000e(), config: configFixture('nvme'), bars: [{ sizeBytes: 16384, is64: true }] }],
  ['igb', { ...e1000e(), config: configFixture('igb') }],
  ['rtl8139', { ...e1000e(), config: configFixture('rtl8139'), bars: [{ sizeBytes: 256, kind: 'io' as const }] }],
  ['edu', { ...e1000e(), config: configFixture('edu'), bars: [{ sizeBytes: 0x10_0000 }] }],
  ['a device with everything', everything()],
])('%s', (_name, spec) => {
  const machine = new TestMachine([spec]);
  machine.boot();
  const { hardware } = machine.device.config;
  // Bytes in no capability are raw behind VFIO: whatever leaked would stay there.
  const before = hardware.slice();
  const open = openBits(before);
  for (const width of [1, 2, 4] as const) {
    for (const value of [0xffff_ffff, 0, 0x5a5a_5a5a]) {
      for (let at = 0; at < 4096; at += width) machine.fn.writeConfig(at, width, value);
    }
  }
  const changed = [...hardware.keys()].filter((at) => (hardware[at]! ^ before[at]!) & ~(open.get(at) ?? 0));
  expect(changed.map((at) => at.toString(16))).toEqual([]);
  expect(machine.warnings.filter((warning) => /failed/.test(warning))).toEqual([]);
  machine.session.close();
});

// Enforces C24, C25, P39.
test('gaps and hidden capabilities read 0, whatever the hardware has there', () => {
  const config = configFixture('igb');
  config.fill(0xa5, 0x200, 0x400);
  const machine = new TestMachine([{ ...e1000e(), config }]);
  machine.boot();
  const ids: number[] = [];
  for (let at = 0x100; at !== 0; at = (machine.readConfig(at, 4) >>> 20) & ~3) {
    ids.push(machine.readConfig(at, 4) & 0xffff);
  }
  expect(ids, 'AER, ARI and SR-IOV are not there').toEqual([0]);
  for (let at = 0x200; at < 0x400; at += 4) expect(machine.readConfig(at, 4)).toBe(0);
});

// Enforces C25, P39.
test('what belongs to the host’s topology and IOMMU is in no guest’s chain, what lies behind it is found', () => {
  // AER, ACS, ARI, ATS, SR-IOV, PRI, resizable BARs, PASID, DOE, and at last a serial number.
  const ids = [0x01, 0x0d, 0x0e, 0x0f, 0x10, 0x13, 0x15, 0x1b, 0x2e, 0x03];
  const config = configFixture('e1000e');
  config.fill(0, 0x100);
  for (const [i, id] of ids.entries()) {
    const at = 0x100 + 0x40 * i;
    const next = i + 1 < ids.length ? at + 0x40 : 0;
    new DataView(config.buffer).setUint32(at, ((next << 20) | (1 << 16) | id) >>> 0, true);
    config.fill(0xa5, at + 4, at + 12);
  }
  const machine = new TestMachine([{ ...e1000e(), config }]);
  machine.boot();
  const seen: number[] = [];
  for (let at = 0x100; at !== 0; at = (machine.readConfig(at, 4) >>> 20) & ~3) {
    seen.push(machine.readConfig(at, 4) & 0xffff);
  }
  expect(seen, 'a null entry at 0x100 leads on').toEqual([0, 0x03]);
  for (const i of ids.keys()) {
    if (i < ids.length - 1) expect(machine.readConfig(0x104 + 0x40 * i, 4)).toBe(0);
  }
});

test('a conventional device has no config space beyond 256 bytes: all ones', () => {
  const machine = new TestMachine([{ ...e1000e(), config: configFixture('rtl8139'), bars: [] }]);
  machine.boot();
  expect(machine.readConfig(0x100, 4)).toBe(0xffff_ffff);
});

// Enforces C26, P41.
test('the multi-function bit of the host is not the guest’s', () => {
  const config = configFixture('e1000e');
  config[0x0e] = 0x80;
  const machine = new TestMachine([{ ...e1000e(), config }]);
  expect(machine.readConfig(0x0e, 1)).toBe(0);
});

// Enforces C34.
test('vital product data can be read and not written', () => {
  const config = configFixture('edu');
  config.set([0x05, 0x50], 0x40);
  config.set([0x03, 0x00], 0x50);
  const machine = new TestMachine([{ ...e1000e(), config, bars: [] }]);
  machine.boot();
  const vpd = machine.capability(3);
  const writes = (): unknown[] =>
    machine.kernel.journal.filter(({ call }) => call === 'pwrite').map(({ args }) => args[3]);
  machine.kernel.journalBook.clear();
  machine.fn.writeConfig(vpd + 2, 2, 0x8010);
  expect(writes()).toEqual([]);
  expect(machine.warnings.at(-1)).toContain('refused');
  machine.fn.writeConfig(vpd + 2, 2, 0x0010);
  expect(writes()).toEqual([0x10n]);
});

// Enforces P44.
test('vCPU threads start reads of vital product data, unless a grant lets each write through', () => {
  const machine = withCapability([0x03, 0, 0, 0]);
  const vpd = machine.capability(3);
  expect(machine.fn.window.vpdAddress).toBe(vpd + 2);
  machine.fn.setGrants([{ offset: vpd, readBits: 0xffff_0000, writeBits: 0xffff_0000 }], { force: true });
  expect(machine.fn.window.vpdAddress).toBe(0);
  machine.fn.setGrants([]);
  expect(machine.fn.window.vpdAddress).toBe(vpd + 2);
});

/** A device with these bytes for its only capability, at 0x50. */
function withCapability(bytes: readonly number[], vfio: FakeVfioSpec = {}): TestMachine {
  const config = configFixture('edu');
  config[0x34] = 0x50;
  config.fill(0, 0x50, 0x60).set(bytes, 0x50);
  const machine = new TestMachine([{ ...e1000e(), config, bars: [], vfio }]);
  machine.boot();
  return machine;
}

test('advanced features: the guest’s FLR resets the function, where the device and the kernel can', () => {
  const resets = (machine: TestMachine): number =>
    machine.fn.report().resets.filter(({ when }) => when === 'guest').length;
  const both = withCapability([0x13, 0, 6, 0x03, 0, 0]);
  both.command(7);
  both.fn.writeConfig(0x54, 1, 1);
  expect(resets(both)).toBe(1);
  expect(both.readConfig(0x04, 2), 'registers are as after power-on').toBe(0);
  expect(both.readConfig(0x54, 1), 'the bit reads 0').toBe(0);
  // Without the pending bit the kernel does not reset; without a way to reset there is nothing to do it with.
  for (const machine of [
    withCapability([0x13, 0, 6, 0x02, 0, 0]),
    withCapability([0x13, 0, 6, 0x03, 0, 0], { reset: false }),
  ]) {
    expect(machine.readConfig(0x53, 1), 'not offered').toBe(0);
    machine.fn.writeConfig(0x54, 1, 1);
    expect(resets(machine)).toBe(0);
  }
});

test('power management offers D0 and D3hot only, and no PME', () => {
  const machine = withCapability([0x01, 0, 0xff, 0xff, 0x08, 0x81]);
  expect(machine.readConfig(0x52, 2) & 0xfe00, 'D1, D2 and PME').toBe(0);
  expect(machine.readConfig(0x54, 2), 'no soft reset is kept').toBe(0x0008);
  for (const state of [1, 2]) {
    machine.fn.writeConfig(0x54, 2, state);
    expect(machine.readConfig(0x54, 2) & 3).toBe(0);
    expect(machine.device.config.powerState).toBe(0);
  }
});

test('PCI Express: FLR is offered only where the kernel can reset the function', () => {
  const machine = new TestMachine([{ ...everything(), vfio: { reset: false } }]);
  machine.boot();
  const express = machine.capability(0x10);
  expect(machine.readConfig(express + 4, 4) & 0x1000_0000).toBe(0);
  machine.fn.writeConfig(express + 8, 2, 0x8000);
  expect(machine.fn.report().resets.filter(({ when }) => when === 'guest')).toEqual([]);
  expect(machine.device.resets).not.toContain('flr');
});

test('identifiers are overridden one by one, survive resets, and cannot be written', () => {
  const ids = { vendor: 0x1af4, device: 0x1041, subsystemVendor: 0x1af4, subsystemDevice: 0x1100, revision: 0x42 };
  const machine = new TestMachine([everything()], undefined, { ids });
  machine.boot();
  const shown = (): number[] => [machine.readConfig(0, 4), machine.readConfig(8, 1), machine.readConfig(0x2c, 4)];
  const wanted = [0x1041_1af4, 0x42, 0x1100_1af4];
  expect(shown()).toEqual(wanted);
  for (const at of [0, 8, 0x2c]) machine.fn.writeConfig(at, 4, 0xffff_ffff);
  machine.fn.writeConfig(machine.capability(0x10) + 8, 2, 0x8000);
  expect(shown()).toEqual(wanted);
  expect(machine.readConfig(9, 1), 'the class is the device’s').toBe(machine.device.config.hardware[9]);
  const one = new TestMachine([everything()], undefined, { ids: { subsystemDevice: 7 } });
  expect([one.readConfig(0, 4), one.readConfig(0x2e, 2)]).toEqual([0x5678_1234, 7]);
});
