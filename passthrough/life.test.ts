/** What a session takes from the host, and that it gives all of it back: files, mappings, memory, the device itself. */
import { expect, test } from 'vitest';
import type { FakeKernel } from '../native/fake/fake-kernel.ts';
import { GIB, MIB } from '../vmm/base/bits.ts';
import { GuestMemory } from '../vmm/memory/guest-memory.ts';
import { ConfigStore } from '../vmm/pci/config-window.ts';
import { e1000e, everything } from './fixtures/devices.ts';
import { RAM_BYTES, TestMachine } from './fixtures/test-machine.ts';
import { openDevices } from './index.ts';

const MEMORY_AND_MASTER = 6;

function used(machine: TestMachine): void {
  machine.boot();
  machine.command(MEMORY_AND_MASTER);
  machine.fn.writeConfig(machine.capability(0x11) + 2, 2, 0x8000);
  machine.armMsix(0, 0x30, machine.barAddress(3));
}

const mapped = (kernel: FakeKernel): { iova: number; sizeBytes: number }[] =>
  [...kernel.vfio.containers[0]!.mappings.values()].map(({ iova, sizeBytes }) => ({ iova, sizeBytes }));

// Enforces B13.
test('no file is opened but VFIO’s, none is written, and what is read lies in sysfs and /proc', () => {
  const machine = new TestMachine([e1000e()]);
  used(machine);
  machine.session.close();
  const paths = (...calls: string[]): string[] =>
    machine.kernel.journalBook.of(...calls).map(({ args }) => String(args[0]));
  // /dev/kvm is the machine's.
  expect([...new Set(paths('open'))].sort()).toEqual(['/dev/kvm', '/dev/vfio/12', '/dev/vfio/vfio']);
  expect(paths('writeFile')).toEqual([]);
  const read = paths('readFile', 'readDir', 'readLink', 'readOwnedFile');
  expect(read.length).toBeGreaterThan(5);
  expect(read.filter((path) => !/^\/(sys|proc)\//.test(path))).toEqual([]);
});

// Enforces F62, F64, P37.
test('exactly the RAM is mapped, above 4 GiB too, nothing of the hole between and nothing of a BAR', () => {
  const machine = new TestMachine([e1000e()]);
  machine.session.close();
  const { kernel } = machine;
  const ram = new GuestMemory(kernel, [
    { start: 0, size: 3 * GIB },
    { start: 4 * GIB, size: 3 * GIB },
  ]);
  const session = openDevices({
    native: kernel,
    devices: [{ bdf: '0000:03:00.0' }],
    ram: ram.windows,
    store: new ConfigStore(2),
    warn: () => {},
  });
  const container = kernel.vfio.containers.at(-1)!;
  expect([...container.mappings.values()].map(({ iova, sizeBytes }) => [iova, sizeBytes])).toEqual([
    [0, 2 * GIB],
    [2 * GIB, GIB],
    [4 * GIB, 2 * GIB],
    [6 * GIB, GIB],
  ]);
  for (const { gpa, hva, sizeBytes } of ram.windows) {
    expect(container.translate(gpa + sizeBytes - MIB)).toBe(hva + sizeBytes - MIB);
  }
  for (const hole of [3 * GIB, 0xfee0_0000, 7 * GIB]) expect(container.translate(hole)).toBeUndefined();
  session.close();
});

// Enforces F65.
test('mappings are undone one by one as they were made, and the IOMMU has all of them to give again', () => {
  const machine = new TestMachine([e1000e()]);
  const container = machine.kernel.vfio.containers[0]!;
  const made = mapped(machine.kernel);
  machine.kernel.journalBook.clear();
  machine.session.close();
  const undone = machine.kernel.journalBook
    .of('vfioUnmapDma')
    .map(({ args, result }) => ({ iova: args[1], sizeBytes: args[2], freed: result }));
  expect(undone).toEqual(made.map((mapping) => ({ ...mapping, freed: mapping.sizeBytes })).reverse());
  expect(container.mappings.size).toBe(0);
});

// Enforces F67, P36.
test('from the first boot to the last no page of the RAM that devices reach is unmapped or dropped', () => {
  const machine = new TestMachine([e1000e()]);
  used(machine);
  for (let i = 0; i < 3; i++) {
    machine.fn.powerOff();
    machine.newVm();
    used(machine);
  }
  expect(machine.kernel.calls('dropPages')).toEqual([]);
  const { hva } = machine.ram.windows[0]!;
  expect(machine.kernel.journalBook.of('unmap').filter(({ args }) => args[0] === hva)).toEqual([]);
  expect(mapped(machine.kernel), 'and it stays mapped').toEqual([{ iova: 0, sizeBytes: RAM_BYTES }]);
  machine.session.close();
});

// Enforces G74.
test('a hundred sessions leave no file and no mapping behind', () => {
  const machine = new TestMachine([e1000e()]);
  machine.session.close();
  const { kernel } = machine;
  let files = 0;
  let mappings = 0;
  for (let i = 0; i <= 100; i++) {
    const session = openDevices({
      native: kernel,
      devices: [{ bdf: '0000:03:00.0' }],
      ram: machine.ram.windows,
      store: machine.store,
      warn: () => {},
      onEvent: () => {},
    });
    const [fn] = session.functions;
    fn!.powerOn(machine.vm.services);
    fn!.placeBar(0, 0xc000_0000);
    fn!.writeConfig(4, 2, MEMORY_AND_MASTER);
    session.close();
    // The VM's own device for VFIO came with the first and stays with the VM.
    if (i === 0) [files, mappings] = [kernel.openFds().length, kernel.liveMappings().length];
    expect(kernel.openFds()).toHaveLength(files);
    expect(kernel.liveMappings()).toHaveLength(mappings);
    kernel.journalBook.clear();
  }
});

// Enforces G75.
test('KVM lets go of the group before the device is closed: it really closes, and the next open resets it', () => {
  const machine = new TestMachine([e1000e()]);
  used(machine);
  machine.kernel.journalBook.clear();
  const device = machine.fn.window.fd;
  machine.session.close();
  const order = machine.kernel.journal.map(({ call, args }) => `${call} ${call === 'close' ? args[0] : ''}`.trim());
  expect(order.indexOf('kvmVfioDeleteFile')).toBeGreaterThanOrEqual(0);
  expect(order.indexOf('kvmVfioDeleteFile')).toBeLessThan(order.indexOf(`close ${device}`));
  expect(machine.device.isOpen).toBe(false);
  machine.device.resets.length = 0;
  openDevices({
    native: machine.kernel,
    devices: [{ bdf: '0000:03:00.0' }],
    ram: machine.ram.windows,
    store: machine.store,
    warn: () => {},
  }).close();
  expect(machine.device.resets[0]).toBe('open');
});

// Enforces I86.
test('a kernel without error and request events costs those events and a warning for each', () => {
  const machine = new TestMachine([e1000e()], (kernel) => {
    for (const index of [3, 4]) {
      kernel.failNext('vfioSetIrqs', 'ENOTTY', ([, set]) => (set as { index: number }).index === index);
    }
  });
  expect(machine.warnings).toEqual([
    expect.stringMatching(/error events are not to be had.*ENOTTY/),
    expect.stringMatching(/release-request events are not to be had.*ENOTTY/),
  ]);
  used(machine);
  machine.device.fireMsix(0);
  expect(machine.injected()).toEqual([0x30]);
  machine.session.close();
  expect(machine.kernel.openFds().filter(({ label }) => /vfio-|eventfd/.test(label))).toEqual([]);
});

// Enforces C22.
test('BARs read no address before firmware gives them one, whatever the host has there', () => {
  const machine = new TestMachine([everything()]);
  machine.fn.powerOn(machine.vm.services);
  expect([0, 1, 2, 3, 4, 5].map((bar) => machine.readConfig(0x10 + 4 * bar, 4))).toEqual([0, 1, 0xc, 0, 0, 0]);
  machine.fn.placeBar(0, 0xc000_0000);
  expect(machine.readConfig(0x10, 4)).toBe(0xc000_0000);
});

// Enforces C35.
test('PME is neither offered nor to be turned on', () => {
  const config = e1000e().config!.slice();
  const power = 0xc8;
  expect(config[power], 'power management').toBe(1);
  config[power + 3] = 0xfa;
  config[power + 5] = 0x81;
  const machine = new TestMachine([{ ...e1000e(), config }]);
  machine.boot();
  const at = machine.capability(1);
  expect(machine.readConfig(at + 2, 2) & 0xf800, 'PME support').toBe(0);
  machine.fn.writeConfig(at + 4, 2, 0x8100);
  expect(machine.readConfig(at + 4, 2) & 0x8100).toBe(0);
});

// Enforces P44.
test('a vendor capability passes, in both directions', () => {
  const config = everything().config?.slice() ?? new TestMachine([everything()]).device.config.hardware.slice();
  config.set([0x09, config[0x34]!, 8, 0, 1, 2, 3, 4], 0xc0);
  config[0x34] = 0xc0;
  const machine = new TestMachine([{ ...everything(), config }]);
  machine.boot();
  const at = machine.capability(9);
  expect(machine.readConfig(at + 4, 4)).toBe(0x0403_0201);
  machine.fn.writeConfig(at + 5, 1, 0xaa);
  expect(machine.device.config.hardware[at + 5]).toBe(0xaa);
  machine.device.config.hardware[at + 6] = 0xbb;
  expect(machine.readConfig(at + 4, 4), 'read from the device each time').toBe(0x04bb_aa01);
});
