import { expect, test } from 'vitest';
import { ConfigSpace } from './config-space.ts';
import { ConfigStore } from './config-window.ts';
import { Msi } from './msi.ts';

const AT = 0x50;
const device = { read: () => 0, write: () => {} };

function make(control: number, maxVectors = 32): { msi: Msi; space: ConfigSpace } {
  const space = new ConfigSpace(new ConfigStore(1).allocate(), device, 256);
  return { space, msi: new Msi(space, { offset: AT, control, maxVectors }) };
}

test.each([
  [0x0000, 10, 'plain'],
  [0x0080, 14, '64-bit'],
  [0x0100, 20, 'masks'],
  [0x0180, 24, '64-bit and masks'],
])('control %i takes %i bytes: %s', (control, sizeBytes) => {
  expect(make(control).msi.sizeBytes).toBe(sizeBytes);
});

// Enforces E54.
test('offers no more vectors than there are, as a power of two', () => {
  expect(make(0x000a).msi.vectorCount).toBe(32);
  expect(make(0x000a, 5).msi.vectorCount).toBe(4);
  const { space } = make(0x008a, 5);
  expect(space.read(AT + 2, 2)).toBe(0x0084);
});

test('each enabled vector has its number in the low bits of the data', () => {
  const { msi, space } = make(0x0086);
  space.write(AT + 4, 4, 0xfee0_0003);
  space.write(AT + 8, 4, 0);
  space.write(AT + 12, 2, 0x4f);
  space.write(AT + 2, 2, 0x0021);
  expect(msi.enabledCount).toBe(4);
  expect(msi.desiredVectors().map(({ message }) => message)).toEqual(
    [0x4c, 0x4d, 0x4e, 0x4f].map((data) => ({ addressLo: 0xfee0_0000, addressHi: 0, data })),
  );
  space.write(AT + 2, 2, 0x0071);
  expect(msi.enabledCount, 'more than offered is clamped').toBe(8);
});

test('a masked vector is not desired; a function without masks has no such register', () => {
  const { msi, space } = make(0x0182);
  space.write(AT + 2, 2, 0x0011);
  space.write(AT + 16, 4, 0xffff_ffff);
  expect(space.read(AT + 16, 4), 'only vectors that exist can be masked').toBe(3);
  expect(msi.desiredVectors()).toEqual([]);
  space.write(AT + 16, 4, 1);
  expect(msi.desiredVectors().map(({ vector }) => vector)).toEqual([1]);
  const plain = make(0x0080);
  plain.space.write(AT + 16, 4, 0xffff_ffff);
  expect(plain.space.read(AT + 16, 4)).toBe(0);
});

test('reset turns it off and forgets the message', () => {
  const { msi, space } = make(0x0080);
  space.write(AT + 4, 4, 0xfee0_0000);
  space.write(AT + 2, 2, 1);
  msi.reset();
  expect(msi.enabled).toBe(false);
  expect(space.read(AT + 4, 4)).toBe(0);
  expect(space.read(AT + 2, 2)).toBe(0x0080);
});
