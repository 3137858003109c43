import fc from 'fast-check';
import { expect, test } from 'vitest';
import { writeLe } from '../base/bits.ts';
import { walkCapabilities, walkExtendedCapabilities } from './capabilities.ts';

/** A config space with a standard chain of [offset, id, next]. */
function standard(first: number, entries: readonly (readonly [number, number, number])[], size = 256): Uint8Array {
  const config = new Uint8Array(size);
  config[0x06] = 0x10;
  config[0x34] = first;
  for (const [at, id, next] of entries) {
    config[at] = id;
    config[at + 1] = next;
  }
  return config;
}

function extended(entries: readonly (readonly [number, number, number])[]): Uint8Array {
  const config = new Uint8Array(4096);
  for (const [at, id, next] of entries) writeLe(config, at, 4, ((next << 20) | (1 << 16) | id) >>> 0);
  return config;
}

test('a chain is walked in its own order, lengths by kind, clipped at the next one', () => {
  const config = standard(0xc8, [
    [0xc8, 0x01, 0xd0],
    [0xd0, 0x05, 0xe0],
    [0xe0, 0x10, 0xa0],
    [0xa0, 0x11, 0],
  ]);
  config[0xd2] = 0x80;
  config[0xe2] = 0x02;
  const { capabilities, faults } = walkCapabilities(config);
  expect(capabilities.map(({ id, offset, sizeBytes }) => [id, offset, sizeBytes])).toEqual([
    [0x01, 0xc8, 8],
    [0x05, 0xd0, 14],
    [0x10, 0xe0, 32],
    [0x11, 0xa0, 12],
  ]);
  expect(faults).toEqual([]);
});

test('no list bit, no chain', () => {
  const config = standard(0x40, [[0x40, 1, 0]]);
  config[0x06] = 0;
  expect(walkCapabilities(config).capabilities).toEqual([]);
});

// Enforces A11.
test('loops end and are told', () => {
  const walk = walkCapabilities(
    standard(0x40, [
      [0x40, 1, 0x50],
      [0x50, 9, 0x40],
    ]),
  );
  expect(walk.capabilities).toHaveLength(2);
  expect(walk.faults).toEqual(['capability chain loops at 0x40']);
});

test('pointers into the header or past the end stop the walk', () => {
  expect(walkCapabilities(standard(0x3c, [])).faults).toEqual(['capability pointer 0x3c is out of range']);
  const walk = walkExtendedCapabilities(extended([[0x100, 3, 0x0c0]]));
  expect(walk.capabilities.map(({ id }) => id)).toEqual([3]);
  expect(walk.faults).toEqual(['extended capability pointer 0xc0 is out of range']);
});

// Enforces A12.
test('a null capability is passed over, what follows it is found', () => {
  const walk = walkCapabilities(
    standard(0x40, [
      [0x40, 0, 0x50],
      [0x50, 5, 0],
    ]),
  );
  expect(walk.capabilities.map(({ id }) => id)).toEqual([5]);
  const ext = walkExtendedCapabilities(
    extended([
      [0x100, 0, 0x140],
      [0x140, 3, 0],
    ]),
  );
  expect(ext.capabilities.map(({ id, offset }) => [id, offset])).toEqual([[3, 0x140]]);
});

test('a function of 256 bytes has no extended chain, and one that fell off the bus has none either', () => {
  expect(walkExtendedCapabilities(new Uint8Array(256)).capabilities).toEqual([]);
  expect(walkExtendedCapabilities(new Uint8Array(4096).fill(0xff))).toEqual({ capabilities: [], faults: [] });
  expect(walkCapabilities(new Uint8Array(256).fill(0xff)).capabilities).toEqual([]);
});

// Enforces A11.
test('any bytes at all: the walk ends, and nothing it finds lies outside', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 256, maxLength: 256 }), (config) => {
      config[0x06]! |= 0x10;
      for (const { offset, sizeBytes } of walkCapabilities(config).capabilities) {
        expect(offset).toBeGreaterThanOrEqual(0x40);
        expect(offset + sizeBytes).toBeLessThanOrEqual(256);
      }
    }),
  );
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 64, max: 1023 }), fc.integer({ min: 0, max: 0xffff_ffff }))),
      (words) => {
        const config = new Uint8Array(4096);
        for (const [at, value] of words) writeLe(config, 4 * at, 4, value);
        for (const { offset, sizeBytes } of walkExtendedCapabilities(config).capabilities) {
          expect(offset + sizeBytes).toBeLessThanOrEqual(4096);
        }
      },
    ),
  );
});
