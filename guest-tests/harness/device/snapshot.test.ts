import { expect, test } from 'vitest';
import { isAlive } from './snapshot.ts';

test('a virtual function answers although its ids read all ones; what fell off the bus does not', () => {
  const config = new Uint8Array(256).fill(0xff, 0, 4);
  config[0x0b] = 0x02;
  expect(isAlive({ config })).toBe(true);
  expect(isAlive({ config: new Uint8Array(256).fill(0xff) })).toBe(false);
  expect(isAlive({ config: new Uint8Array(0) })).toBe(false);
});
