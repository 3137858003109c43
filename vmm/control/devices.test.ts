import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { FakeKernel } from '../../native/fake/fake-kernel.ts';
import { kernelError } from '../../native/kernel-error.ts';
import { e1000e } from '../../passthrough/fixtures/devices.ts';
import { openDevices } from '../../passthrough/index.ts';
import { MIB } from '../base/bits.ts';
import type { DeviceConfig } from '../config/model.ts';
import { normaliseDevices } from '../config/normalise.ts';
import type { Machine } from '../machine.ts';
import { GuestMemory } from '../memory/guest-memory.ts';
import { ConfigStore } from '../pci/config-window.ts';
import { SLOT_STATUS } from '../pci/hot-plug-slot.ts';
import { TestHierarchy } from '../pci/test-hierarchy.test-util.ts';
import { Devices } from './devices.ts';
import type { VmEvent } from './vm.ts';

const FIRST = '0000:03:00.0';
const SECOND = '0000:04:00.0';

/** A VM whose machine is nothing but its PCI hierarchy, and a guest that does what a test has it do. */
class World {
  readonly kernel = new FakeKernel();
  readonly events: VmEvent[] = [];
  readonly calls: string[] = [];
  readonly store = new ConfigStore(64);
  readonly devices: Devices;
  readonly cards = [
    this.kernel.addPciDevice(e1000e(FIRST, 12)),
    this.kernel.addPciDevice(e1000e(SECOND, 13)),
    this.kernel.addPciDevice(e1000e('0000:05:00.0', 14)),
    this.kernel.addPciDevice(e1000e('0000:05:00.1', 14)),
  ];
  guest: TestHierarchy;
  isOver = false;
  quiesced = 0;

  constructor(devices: readonly (string | DeviceConfig)[], hotplugPorts: number) {
    const normal = normaliseDevices(devices);
    const ram = new GuestMemory(this.kernel, [{ start: 0, size: 16 * MIB }]);
    const open = (wanted: typeof normal) =>
      openDevices({
        native: this.kernel,
        devices: wanted.map(({ deviceFd: _, groupFd: __, ...device }) => ({
          ...device,
          place: device.port ? 'port' : 'root-bus',
        })),
        ram: ram.windows,
        store: this.store,
        warn: (message) => void this.events.push({ type: 'warning', message }),
        onEvent: (event) => this.devices.hostEvent(event),
      });
    this.devices = new Devices({
      devices: normal,
      hotplugPorts,
      session: normal.length > 0 ? open(normal) : undefined,
      openSession: async () => open([]),
      emit: (event) => void this.events.push(event),
    });
    const world = this;
    this.devices.serve({
      get machine() {
        return world.machine;
      },
      isOpen: true,
      pause: async () => void this.calls.push('pause'),
      stop: async () => void this.calls.push('stop'),
    });
    this.guest = this.boot();
  }

  boot(): TestHierarchy {
    this.guest = new TestHierarchy(
      () => this.devices.plan,
      this.kernel,
      this.store,
      (port) => this.devices.turnedOff(port),
    );
    return this.guest;
  }

  get machine(): Machine {
    return {
      pci: this.guest.pci,
      isOver: this.isOver,
      quiesce: async () => void this.quiesced++,
    } as unknown as Machine;
  }

  /** Files of VFIO that this process has open. */
  get held(): string[] {
    return this.kernel
      .openFds()
      .map(({ label }) => label)
      .filter((label) => /^vfio-|eventfd/.test(label));
  }

  told(): string[] {
    return this.events.map((event) => {
      if (event.type === 'device-attached') return `attached ${event.bdfs} ${event.port}`;
      if (event.type === 'device-detach-requested') return `${event.by} wants ${event.bdfs}`;
      if (event.type === 'device-detached') return `detached ${event.bdfs} ${event.how}`;
      return event.type === 'warning' ? event.message : event.type;
    });
  }
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test('a device comes into a VM that had none, and leaves nothing when it goes', async () => {
  const world = new World([], 1);
  const before = world.kernel.openFds().length;
  expect(await world.devices.attach('03:00.0')).toEqual({ bdfs: [FIRST], port: 'hotplug1' });
  world.guest.power(1, true);
  expect(world.guest.read(1, 0, 0, 4)).toBe(0x10d3_8086);
  expect(world.kernel.vfio.containers[0]!.mappings.size).toBe(1);
  const going = world.devices.detach(FIRST);
  expect(world.guest.slotStatus(1) & SLOT_STATUS.BUTTON).not.toBe(0);
  expect(world.held.length).toBeGreaterThan(0);
  world.guest.power(1, false);
  expect(await going).toEqual({ bdfs: [FIRST], how: 'released' });
  expect(world.held).toEqual([]);
  // KVM's own VFIO device stays with the VM.
  expect(world.kernel.openFds().length).toBeLessThanOrEqual(before + 1);
  expect(world.kernel.calls('kvmVfioAddFile', 'kvmVfioDeleteFile')).toEqual(['kvmVfioAddFile', 'kvmVfioDeleteFile']);
  expect(world.told()).toEqual([`attached ${FIRST} hotplug1`, `user wants ${FIRST}`, `detached ${FIRST} released`]);
  expect(world.quiesced).toBe(1);
});

test('a hundred cycles leak nothing', async () => {
  const world = new World([FIRST], 1);
  world.guest.listen(2);
  let open: number | undefined;
  for (let cycle = 0; cycle < 100; cycle++) {
    await world.devices.attach(SECOND);
    world.guest.power(2, true);
    // The guest's driver: decode, MSI-X with a vector.
    world.guest.write(0, 2, 4, 2, 0x0007);
    world.guest.write(1, 0, 0x10, 4, 0xc800_0000);
    world.guest.write(1, 0, 4, 2, 0x0006);
    const going = world.devices.detach(SECOND);
    world.guest.power(2, false);
    await going;
    world.guest.clear(2, 0xffff);
    const now = world.kernel.openFds().length + world.kernel.liveMappings().length;
    open ??= now;
    expect(now).toBe(open);
  }
  expect(world.store.windows.filter(({ inUse }) => inUse)).toHaveLength(3);
  // The table of MSI-X is read from the bus's shared memory as at the start.
  await world.devices.attach(SECOND);
  world.guest.power(2, true);
  expect(world.devices.reports().at(-1)!.resets).toHaveLength(1);
  expect(world.kernel.vfio.containers[0]!.mappings.size).toBe(1);
}, 60_000);

describe('a guest that does not let go', () => {
  test('keeps the device when nobody forces it', async () => {
    const world = new World([{ bdf: FIRST, port: 'slot' }], 0);
    const going = world.devices.detach(FIRST, { timeoutMs: 1000 });
    const failed = expect(going).rejects.toMatchObject({ code: 'TIMEOUT' });
    await vi.advanceTimersByTimeAsync(1000);
    await failed;
    expect(world.guest.read(1, 0, 0, 4)).toBe(0x10d3_8086);
    // It can be asked again.
    const again = world.devices.detach(FIRST, { timeoutMs: 1000 });
    world.guest.power(1, false);
    expect(await again).toMatchObject({ how: 'released' });
  });

  test('because it was busy when the button was pressed is asked again, one that blinks is not', async () => {
    const world = new World([{ bdf: FIRST, port: 'slot' }], 0);
    world.guest.listen(1);
    const going = world.devices.detach(FIRST);
    world.guest.clear(1, SLOT_STATUS.BUTTON);
    await vi.advanceTimersByTimeAsync(2000);
    expect(world.guest.slotStatus(1) & SLOT_STATUS.BUTTON).not.toBe(0);
    world.guest.clear(1, SLOT_STATUS.BUTTON);
    world.guest.command(1, (world.guest.slotControl(1) & ~0x300) | 0x200);
    await vi.advanceTimersByTimeAsync(4000);
    expect(world.guest.slotStatus(1) & SLOT_STATUS.BUTTON).toBe(0);
    world.guest.power(1, false);
    expect(await going).toMatchObject({ how: 'released' });
    expect(vi.getTimerCount()).toBe(0);
  });

  test('loses it when somebody does', async () => {
    const world = new World([{ bdf: FIRST, port: 'slot' }], 0);
    const going = world.devices.detach(FIRST, { timeoutMs: 1000, force: true });
    await vi.advanceTimersByTimeAsync(1000);
    expect(await going).toEqual({ bdfs: [FIRST], how: 'forced' });
    expect(world.guest.read(1, 0, 0, 4)).toBe(0xffff_ffff);
    expect(world.held).toEqual([]);
  });

  test('and turned the power off without the indicator has let go', async () => {
    const world = new World([{ bdf: FIRST, port: 'slot' }], 0);
    const going = world.devices.detach(FIRST, { timeoutMs: 1000 });
    world.guest.command(1, 0x05c0);
    await vi.advanceTimersByTimeAsync(1000);
    expect(await going).toMatchObject({ how: 'released' });
  });

  test('but ends its power cycle has let go', async () => {
    const world = new World([{ bdf: FIRST, port: 'slot' }], 0);
    const going = world.devices.detach(FIRST);
    world.isOver = true;
    world.guest.pci.powerOff();
    await world.devices.machineEnded();
    expect(await going).toMatchObject({ how: 'released' });
    expect(world.held).toEqual([]);
    expect(world.devices.plan).toEqual([{ port: 'slot', functions: [] }]);
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe('on the root bus', () => {
  test('a device is only taken away by force', async () => {
    const world = new World([FIRST], 0);
    await expect(world.devices.detach(FIRST)).rejects.toMatchObject({ code: 'PORT_UNAVAILABLE' });
    expect(await world.devices.detach(FIRST, { force: true })).toEqual({ bdfs: [FIRST], how: 'forced' });
    expect(world.guest.read(0, 1, 0, 4)).toBe(0xffff_ffff);
    expect(world.held).toEqual([]);
  });

  // Enforces G71, P48.
  test('the host gets it back at once', async () => {
    const world = new World([FIRST, SECOND], 0);
    world.guest.write(0, 1, 4, 2, 0x0006);
    world.cards[0]!.fireRequest();
    await vi.advanceTimersByTimeAsync(0);
    expect(world.told()).toEqual(['device', `host wants ${FIRST}`, `detached ${FIRST} forced`]);
    expect(world.cards.map(({ isOpen }) => isOpen).slice(0, 2)).toEqual([false, true]);
    expect(world.guest.read(0, 2, 0, 4)).toBe(0x10d3_8086);
  });
});

describe('the host wants a device behind a port', () => {
  // Enforces G71, P48.
  test('the guest is told that it is gone, lets go, and the host has it', async () => {
    const world = new World([{ bdf: FIRST, port: 'slot' }], 0);
    world.cards[0]!.fireRequest();
    await vi.advanceTimersByTimeAsync(10);
    expect(world.guest.slotStatus(1) & SLOT_STATUS.PRESENT).toBe(0);
    expect(world.guest.read(1, 0, 0, 4)).toBe(0x10d3_8086);
    world.guest.power(1, false);
    await vi.advanceTimersByTimeAsync(0);
    expect(world.cards[0]!.isOpen).toBe(false);
    expect(world.told().at(-1)).toBe(`detached ${FIRST} released`);
  });

  // Enforces G71.
  test('one that is pulled out of the host takes its group along, and the IOMMU with everything mapped', async () => {
    const world = new World([{ bdf: FIRST, port: 'slot' }], 1);
    world.cards[0]!.isLeaving = true;
    world.cards[0]!.fireRequest();
    await vi.advanceTimersByTimeAsync(10);
    world.guest.power(1, false);
    await vi.advanceTimersByTimeAsync(0);
    expect(world.told()).toEqual(['device', `host wants ${FIRST}`, `detached ${FIRST} released`]);
    expect(world.held).toEqual([]);
    await world.devices.attach(SECOND);
    expect(world.kernel.vfio.containers.at(-1)!.mappings.size).toBe(1);
  });

  test('what fails while it is given back is told, and so is that it has gone', async () => {
    const world = new World([{ bdf: FIRST, port: 'slot' }], 0);
    world.kernel.vfioUnmapDma = () => {
      throw kernelError('VFIO_IOMMU_UNMAP_DMA', 'EIO');
    };
    world.cards[0]!.fireRequest();
    await vi.advanceTimersByTimeAsync(10);
    world.guest.power(1, false);
    await vi.advanceTimersByTimeAsync(0);
    expect(world.told().slice(2)).toEqual([
      `detached ${FIRST} released`,
      expect.stringMatching(/^giving 0000:03:00.0 back to the host:.*EIO/),
    ]);
    expect(world.held).toEqual([]);
  });

  // Enforces G71.
  test('from a guest that does nothing it is taken within five seconds', async () => {
    const world = new World([{ bdf: FIRST, port: 'slot' }], 0);
    world.cards[0]!.fireRequest();
    await vi.advanceTimersByTimeAsync(4999);
    expect(world.cards[0]!.isOpen).toBe(false);
    expect(world.told().at(-1)).toBe(`detached ${FIRST} forced`);
  });

  test('and is asked for already: the guest is hurried', async () => {
    const world = new World([{ bdf: FIRST, port: 'slot' }], 0);
    const going = world.devices.detach(FIRST);
    world.cards[0]!.fireRequest();
    await vi.advanceTimersByTimeAsync(10);
    expect(world.guest.slotStatus(1) & SLOT_STATUS.PRESENT).toBe(0);
    world.guest.power(1, false);
    expect(await going).toMatchObject({ how: 'released' });
  });
});

// Enforces G70, P49.
test.each([
  ['pause', ['pause'], 1],
  ['stop', ['stop'], 1],
  ['report', [], 1],
  ['reset', [], 2],
] as const)('after an error of the device: %s', async (onError, calls, resets) => {
  const world = new World([{ bdf: FIRST, onError }], 0);
  world.cards[0]!.fireError();
  await vi.advanceTimersByTimeAsync(10);
  expect(world.events[0]).toMatchObject({ type: 'device', bdf: FIRST, what: 'error' });
  expect(world.calls).toEqual(calls);
  expect(world.devices.reports()[0]!.resets).toHaveLength(resets);
});

describe('several functions', () => {
  // Enforces C26, P41.
  test('of one host device share a slot, on the root bus and behind a port, and leave together', async () => {
    const world = new World(['05:00.1', '05:00.0', FIRST], 1);
    expect(world.devices.plan.map(({ functions }) => functions.map(({ number }) => number))).toEqual([[1, 0], [0], []]);
    expect([0, 1].map((fn) => world.guest.read(0, 1, 0x0e, 1, fn) & 0x80)).toEqual([0x80, 0x80]);
    expect([0, 1].map((fn) => world.guest.read(0, 1, 0x3d, 1, fn))).toEqual([1, 2]);
    expect(world.guest.read(0, 2, 0x0e, 1)).toBe(0);
    await world.devices.detach('05:00.0', { force: true });
    expect(world.held.filter((label) => label.includes('group'))).toHaveLength(1);
    expect(await world.devices.attach(['05:00.0', '05:00.1'])).toEqual({
      bdfs: ['0000:05:00.0', '0000:05:00.1'],
      port: 'hotplug1',
    });
    world.guest.power(3, true);
    expect([0, 1].map((fn) => world.guest.read(1, 0, 0, 4, fn))).toEqual([0x10d3_8086, 0x10d3_8086]);
  });

  test('of two devices do not, and nothing of them is kept', async () => {
    const world = new World([], 1);
    await expect(world.devices.attach([FIRST, SECOND])).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    expect(world.held).toEqual([]);
    expect(
      () =>
        new World(
          [
            { bdf: FIRST, port: 'a' },
            { bdf: SECOND, port: 'a' },
          ],
          0,
        ),
    ).toThrow(/devices\[1\]\.port/);
  });
});

test('what cannot be attached changes nothing', async () => {
  const world = new World([FIRST], 1);
  const held = world.held.length;
  await expect(world.devices.attach({ bdf: SECOND, port: 'nowhere' })).rejects.toMatchObject({
    code: 'PORT_UNAVAILABLE',
  });
  await expect(world.devices.attach(FIRST)).rejects.toMatchObject({ code: 'DEVICE_BUSY' });
  await expect(world.devices.attach('0000:09:00.0')).rejects.toMatchObject({ code: 'DEVICE_NOT_FOUND' });
  await expect(world.devices.attach('nonsense')).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  world.kernel.failNext('vfioGroupGetDevice', 'EBUSY');
  await expect(world.devices.attach(SECOND)).rejects.toMatchObject({ code: 'DEVICE_BUSY' });
  expect(world.held).toHaveLength(held);
  await world.devices.attach(SECOND);
  await expect(world.devices.attach('0000:05:00.0')).rejects.toMatchObject({ code: 'PORT_UNAVAILABLE' });
  await expect(world.devices.detach('0000:05:00.0')).rejects.toMatchObject({ code: 'DEVICE_NOT_FOUND' });
});

test('a device that was attached is there after a reboot, powered, with addresses from firmware', async () => {
  const world = new World([], 2);
  await world.devices.attach({ bdf: FIRST, port: 'hotplug2' });
  world.guest.pci.powerOff();
  await world.devices.machineEnded();
  world.boot();
  expect(world.guest.read(2, 0, 0, 4)).toBe(0x10d3_8086);
  expect(world.guest.read(2, 0, 0x10, 4)).not.toBe(0);
});

// Enforces P40.
test('on the root bus a device is an integrated endpoint without a link, behind a port an endpoint with its own', () => {
  const world = new World([FIRST, { bdf: SECOND, port: 'slot' }], 0);
  const express = (bus: number, device: number): { type: number; link: number; status: number } => {
    let at = world.guest.read(bus, device, 0x34, 1);
    while (at !== 0 && world.guest.read(bus, device, at, 1) !== 0x10) at = world.guest.read(bus, device, at + 1, 1);
    return {
      type: (world.guest.read(bus, device, at + 2, 2) >> 4) & 0xf,
      link: world.guest.read(bus, device, at + 0x0c, 4),
      status: world.guest.read(bus, device, at + 0x12, 2),
    };
  };
  expect(express(0, 1)).toEqual({ type: 9, link: 0, status: 0 });
  const behind = express(1, 0);
  expect(behind.type).toBe(0);
  // ASPM is the host's.
  expect(behind.link & 0xc00).toBe(0);
  expect(behind.link & 0x3f0).not.toBe(0);
  // The port shows the same link.
  expect(world.guest.linkStatus(2) & 0x3ff).toBe(behind.status & 0x3ff);
});
