import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { FakeKernel } from '../../native/fake/fake-kernel.ts';
import type { Hva } from '../../native/types.ts';
import { writeLe } from '../../vmm/base/bits.ts';
import type { DeviceRequest } from '../device-request.ts';
import { e1000e } from '../fixtures/devices.ts';
import { MEMORY_WINDOWS, TestMachine } from '../fixtures/test-machine.ts';
import { describeImage, hasRomSignature, parseRom } from './rom-image.ts';

const ADDRESS = MEMORY_WINDOWS[0]!.start + 0x800_0000;

interface ImageSpec {
  readonly codeType?: number;
  readonly vendor?: number;
  readonly device?: number;
  readonly blocks?: number;
  readonly last?: boolean;
}

/** One image with a right checksum. */
function image({
  codeType = 0,
  vendor = 0x8086,
  device = 0x10d3,
  blocks = 2,
  last = true,
}: ImageSpec = {}): Uint8Array {
  const bytes = new Uint8Array(blocks * 512);
  writeLe(bytes, 0, 2, 0xaa55);
  bytes[2] = blocks;
  writeLe(bytes, 0x18, 2, 0x1c);
  bytes.set(new TextEncoder().encode('PCIR'), 0x1c);
  writeLe(bytes, 0x1c + 4, 2, vendor);
  writeLe(bytes, 0x1c + 6, 2, device);
  writeLe(bytes, 0x1c + 0x0a, 2, 0x18);
  writeLe(bytes, 0x1c + 0x10, 2, blocks);
  bytes[0x1c + 0x14] = codeType;
  bytes[0x1c + 0x15] = last ? 0x80 : 0;
  bytes[bytes.length - 1] = -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff;
  return bytes;
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

function booted(
  spec: Parameters<typeof e1000e>[0] | object,
  request: Partial<DeviceRequest>,
  prepare: (kernel: FakeKernel) => void = () => {},
): TestMachine {
  const machine = new TestMachine([{ ...e1000e(), ...(spec as object) }], prepare, request);
  machine.boot();
  return machine;
}

const romBar = (machine: TestMachine): number => machine.readConfig(0x30, 4);

/** What the guest's loads find at an address: the memory behind the slot. */
function guestBytes(machine: TestMachine, gpa: number, length: number): number[] {
  const slot = machine.vm.vm.slotAt(gpa)!;
  return [
    ...new Uint8Array(machine.kernel.view(slot.hva as Hva, slot.sizeBytes)).subarray(gpa - slot.gpa).slice(0, length),
  ];
}

test('images are walked, with their code types, and device lists count', () => {
  const rom = join(image({ last: false }), image({ codeType: 3, device: 0x1533 }));
  const { images, faults } = parseRom(rom);
  expect(faults).toEqual([]);
  expect(images.map(describeImage)).toEqual(['x86 8086:10d3, 1 KiB', 'EFI 8086:1533, 1 KiB']);
  const listed = image();
  listed[0x1c + 0x0c] = 3;
  writeLe(listed, 0x1c + 8, 2, 0x40);
  writeLe(listed, 0x1c + 0x40, 2, 0x1533);
  expect(parseRom(listed).images[0]!.devices).toEqual([0x10d3, 0x1533]);
});

test('every kind of damage is told', () => {
  const broken = (change: (bytes: Uint8Array) => void, rom = image()): string => {
    change(rom);
    return parseRom(rom).faults.join();
  };
  expect(broken((rom) => rom.fill(0, 0, 2))).toMatch(/signature 55 aa is missing/);
  expect(broken((rom) => rom.fill(0, 0x1c, 0x20))).toMatch(/no PCI data structure/);
  expect(broken((rom) => writeLe(rom, 0x18, 2, 0xffff))).toMatch(/no PCI data structure/);
  expect(broken((rom) => writeLe(rom, 0x1c + 0x10, 2, 200))).toMatch(/100 KiB, which the ROM has not/);
  expect(broken((rom) => writeLe(rom, 0x1c + 0x10, 2, 0))).toMatch(/which the ROM has not/);
  expect(broken((rom) => writeLe(rom, 100, 1, 1))).toMatch(/checksum/);
  expect(parseRom(image({ last: false })).faults.join()).toMatch(/no image at 0x400/);
});

test('no bytes at all make the walk fail or run on', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 0, maxLength: 4096 }), fc.boolean(), (bytes, signed) => {
      if (signed && bytes.length > 0x20) {
        bytes.set([0x55, 0xaa]);
        bytes.set(new TextEncoder().encode('PCIR'), Math.min(0x1c, bytes.length - 4));
        writeLe(bytes, 0x18, 2, 0x1c);
      }
      const { images, faults } = parseRom(bytes);
      expect(images.length).toBeLessThanOrEqual(64);
      if (!hasRomSignature(bytes)) expect(faults).not.toEqual([]);
    }),
  );
});

// Enforces C21, D48, P15.
test('without being asked there is no ROM: the register reads 0 and takes nothing, the hardware is not read', () => {
  const machine = booted({ romBytes: 0x1_0000, rom: image() }, {});
  machine.fn.writeConfig(0x30, 4, 0xffff_ffff);
  expect(romBar(machine)).toBe(0);
  expect(machine.device.accesses).toEqual([]);
  expect(machine.fn.report().rom).toBeUndefined();
});

// Enforces C21, D48, P15.
test('the host’s ROM becomes a read-only copy behind a BAR of its own', () => {
  const rom = image({ blocks: 128 });
  const machine = booted({ romBytes: 0x1_0000, rom }, { rom: 'host' });
  expect(machine.warnings).toEqual([]);
  expect(machine.fn.report().rom).toEqual({
    source: 'host',
    sizeBytes: 0x1_0000,
    offered: true,
    images: ['x86 8086:10d3, 64 KiB'],
    faults: [],
  });
  machine.fn.writeConfig(0x30, 4, 0xffff_f800);
  expect(romBar(machine), 'sizing').toBe(0xffff_0000);
  machine.fn.writeConfig(0x30, 4, ADDRESS | 1);
  expect(machine.vm.vm.slotAt(ADDRESS), 'not before COMMAND.MEM').toBeUndefined();
  machine.command(2);
  expect(machine.vm.vm.slotAt(ADDRESS)).toMatchObject({ gpa: ADDRESS, sizeBytes: 0x1_0000, readonly: true });
  expect(guestBytes(machine, ADDRESS, rom.length)).toEqual([...rom]);
  const reads = machine.device.accesses.length;
  machine.fn.writeConfig(0x30, 4, ADDRESS);
  expect(machine.vm.vm.slotAt(ADDRESS), 'the enable bit counts').toBeUndefined();
  machine.fn.writeConfig(0x30, 4, (ADDRESS + 0x10_0000) | 1);
  expect(machine.vm.vm.slotAt(ADDRESS + 0x10_0000)).toBeDefined();
  expect(machine.device.accesses.length, 'the device is read once, at open').toBe(reads);
  expect(machine.device.config.hardware[0x30], 'and its own ROM BAR never written').toBe(0);
  machine.command(0);
  expect(machine.vm.barSlots).toEqual([]);
  machine.session.close();
});

test('a revoked BAR does not take the ROM along, and a reboot keeps its address', () => {
  const machine = booted({}, { rom: 'file:/roms/nic.rom' }, (kernel) => kernel.files.addFile('/roms/nic.rom', image()));
  const placed = romBar(machine);
  expect(placed).toBeGreaterThan(0);
  machine.fn.writeConfig(0x30, 4, placed | 1);
  machine.command(2);
  machine.fn.trapAfterRevocation();
  expect(machine.vm.barSlots.map(({ gpa }) => gpa)).toEqual([placed]);
  machine.fn.powerOff();
  expect(machine.vm.barSlots).toEqual([]);
  machine.newVm();
  machine.fn.powerOn(machine.vm.services);
  expect(romBar(machine)).toBe(placed);
  machine.session.close();
  expect(machine.kernel.liveMappings().length, 'nothing but RAM').toBe(1);
});

// Enforces D48, P15.
test('a ROM file is padded to a power of two with ones, and the guest’s identifiers are what it is held against', () => {
  const machine = booted({}, { rom: 'file:/roms/odd.rom', ids: { device: 0x1533 } }, (kernel) =>
    kernel.files.addFile('/roms/odd.rom', image({ blocks: 9 })),
  );
  expect(machine.fn.bars.at(-1)).toMatchObject({ index: 6, sizeBytes: 8192 });
  machine.fn.writeConfig(0x30, 4, ADDRESS | 1);
  machine.command(2);
  expect(guestBytes(machine, ADDRESS + 9 * 512, 2)).toEqual([0xff, 0xff]);
  expect(machine.warnings.join()).toMatch(/x86 8086:10d3, 4608 B is not for 8086:1533/);
  expect(machine.readConfig(0, 4)).toBe(0x1533_8086);
  expect(machine.fn.report()).toMatchObject({ label: '0000:03:00.0 8086:10d3', ids: { device: 0x1533 } });
});

// Enforces P15.
test('what the host cannot give is not offered, and the reason is told', () => {
  const refuse = (kernel: FakeKernel): void => {
    kernel.readAll = () => -12;
  };
  for (const [spec, prepare, reason] of [
    [{}, undefined, /has no ROM/],
    [{ romBytes: 0x1_0000, rom: new Uint8Array(0x1_0000).fill(0xff) }, undefined, /does not begin with 55 aa/],
    [{ romBytes: 0x1_0000, romShadow: true }, refuse, /cannot read the ROM.*only the copy in RAM/],
  ] as const) {
    const machine = booted(spec, { rom: 'host' }, prepare);
    expect(machine.warnings.join()).toMatch(reason);
    expect(machine.fn.report().rom).toMatchObject({ offered: false, sizeBytes: 0 });
    expect(machine.fn.bars.every(({ index }) => index < 6)).toBe(true);
    machine.fn.writeConfig(0x30, 4, 0xffff_ffff);
    expect(romBar(machine)).toBe(0);
    machine.session.close();
  }
  const shadowed = booted({ romBytes: 0x1_0000, rom: image(), romShadow: true }, { rom: 'host' });
  expect(shadowed.fn.report().rom).toMatchObject({ offered: true });
  expect(shadowed.warnings.join()).toMatch(/may have changed/);
});

test('a file that is no ROM keeps the VM from starting, before anything is opened', () => {
  for (const [content, reason] of [
    [undefined, /cannot be read \(ENOENT\)/],
    [new Uint8Array(1024), /is no expansion ROM/],
    [new Uint8Array(16 * 1024 * 1024 + 1), /more than 16 MiB/],
  ] as const) {
    let kernel: FakeKernel | undefined;
    const start = (): unknown =>
      booted({}, { rom: 'file:/roms/nic.rom' }, (made) => {
        kernel = made;
        if (content) made.files.addFile('/roms/nic.rom', content);
      });
    expect(start).toThrow(reason);
    expect(kernel!.calls('open')).toEqual([]);
  }
});
