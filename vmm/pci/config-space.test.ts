import fc from 'fast-check';
import { beforeEach, expect, test } from 'vitest';
import { readLe, writeLe } from '../base/bits.ts';
import { type ConfigDevice, ConfigSpace, type RegisterWrite } from './config-space.ts';
import { ConfigStore } from './config-window.ts';

/** Hardware that takes every write. */
class Hardware implements ConfigDevice {
  readonly bytes = new Uint8Array(256);
  readonly writes: (readonly [number, number])[] = [];

  read(offset: number, width: number): number {
    return readLe(this.bytes, offset, width);
  }

  write(offset: number, width: number, value: number): void {
    this.writes.push([offset, width]);
    writeLe(this.bytes, offset, width, value);
  }
}

let hardware: Hardware;
let space: ConfigSpace;

beforeEach(() => {
  hardware = new Hardware();
  space = new ConfigSpace(new ConfigStore(1).allocate(), hardware, 256);
});

// Enforces C24.
test('closed by default: reads 0, takes nothing', () => {
  hardware.bytes.fill(0xaa);
  space.write(0x40, 4, 0xffff_ffff);
  expect(space.read(0x40, 4)).toBe(0);
  expect(hardware.writes).toEqual([]);
});

// Enforces P43.
test('one dword with bits of the image and of the device is merged both ways', () => {
  writeLe(space.guestWrite, 0x44, 4, 0x0000_ffff);
  writeLe(space.deviceWrite, 0x44, 4, 0x0000_00ff);
  writeLe(space.window.deviceBits, 0x44, 4, 0x0000_00ff);
  writeLe(hardware.bytes, 0x44, 4, 0xdddd_dddd);
  space.write(0x44, 4, 0x1234_5678);
  expect(space.read(0x44, 4)).toBe(0x0000_5678);
  expect(hardware.read(0x44, 4), 'only its own bits').toBe(0xdddd_dd78);
  expect(space.get(0x44, 4), 'the image keeps none of the device’s bits').toBe(0x0000_5600);
});

test('the device sees the guest’s width', () => {
  space.guestWrite.fill(0xff, 0x50, 0x54);
  space.deviceWrite.fill(0xff, 0x50, 0x54);
  space.write(0x52, 2, 0xbeef);
  space.write(0x50, 1, 0x11);
  expect(hardware.writes).toEqual([
    [0x52, 2],
    [0x50, 1],
  ]);
});

test('bits cleared by 1 are cleared in the image, and only there', () => {
  space.clearOnOne[0x60] = 0x0f;
  space.set(0x60, 1, 0xff);
  space.write(0x60, 1, 0x05);
  expect(space.read(0x60, 1)).toBe(0xfa);
  expect(hardware.writes).toEqual([]);
});

// Enforces P9.
test('a handler sees the whole dword before and after, whatever the width', () => {
  const seen: RegisterWrite[] = [];
  space.guestWrite.fill(0xff, 0x10, 0x14);
  space.set(0x10, 4, 0x1111_1111);
  space.onWrite(0x10, (write) => void seen.push(write));
  space.write(0x11, 1, 0x22);
  expect(seen).toEqual([{ offset: 0x10, before: 0x1111_1111, after: 0x1111_2211, raw: 0x2200, lanes: 0xff00 }]);
});

// Enforces C29.
test('beyond the space reads give all ones and writes are dropped', () => {
  expect(space.read(256, 4)).toBe(0xffff_ffff);
  expect(space.read(255, 2)).toBe(0xffff);
  space.write(254, 4, 1);
  space.write(-1, 1, 1);
  space.write(0.5, 1, 1);
});

// Enforces C28.
test('an access of any width and place equals its bytes one by one', () => {
  const access = fc.record({
    offset: fc.integer({ min: 0, max: 255 }),
    width: fc.constantFrom(1, 2, 4),
    value: fc.integer({ min: 0, max: 0xffff_ffff }),
  });
  const mask = fc.uint8Array({ minLength: 256, maxLength: 256 });
  fc.assert(
    fc.property(mask, mask, mask, fc.array(access, { maxLength: 12 }), (guest, device, initial, accesses) => {
      const make = (): { space: ConfigSpace; hardware: Hardware } => {
        const behind = new Hardware();
        behind.bytes.set(initial);
        const made = new ConfigSpace(new ConfigStore(1).allocate(), behind, 256);
        made.guestWrite.set(guest);
        for (let i = 0; i < 256; i++) made.deviceWrite[i] = device[i]! & guest[i]!;
        made.window.deviceBits.set(device.subarray(0, 256));
        return { space: made, hardware: behind };
      };
      const [whole, bytewise] = [make(), make()];
      for (const { offset, width, value } of accesses) {
        if (offset + width > 256) continue;
        whole.space.write(offset, width, value);
        for (let i = 0; i < width; i++) bytewise.space.write(offset + i, 1, (value >>> (8 * i)) & 0xff);
        expect(whole.space.read(offset, width)).toBe(bytewise.space.read(offset, width));
      }
      expect(whole.hardware.bytes).toEqual(bytewise.hardware.bytes);
      for (let i = 0; i < 256; i++) {
        const fixed = ~(guest[i]! & device[i]!) & 0xff;
        expect(whole.hardware.bytes[i]! & fixed).toBe(initial[i]! & fixed);
      }
    }),
    { numRuns: 60 },
  );
});
