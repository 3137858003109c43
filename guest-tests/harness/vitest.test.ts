/** The same `test()` under vitest. What follows the adapter is declared by a test file as by any other. */
import assert from 'node:assert/strict';
import { expect, test as vitestTest } from 'vitest';
import { fakeGuests } from './fakes/fake-guests.ts';
import { TestBench } from './fakes/test-bench.ts';
import { hasCapability, isClass, test } from './index.ts';
import { useVitest } from './vitest.ts';

const bench = new TestBench();
const ran: string[] = [];
const uninstall = useVitest({ device: () => bench.device(), guests: fakeGuests() });

test('a test of the harness', { needs: hasCapability('MSI-X') }, async ({ device, boot }) => {
  assert.equal((await (await boot()).run('true')).code, 0);
  ran.push(`${device.readConfig(0, 2).toString(16)} on ${device.driver()}`);
});

test('one that is skipped', { needs: isClass('nvme') }, () => {
  ran.push('not this one');
});

uninstall();

vitestTest('they were run by the harness, and the device was given back', () => {
  expect(ran).toEqual(['8086 on vfio-pci']);
  expect(bench.driver).toBe('e1000e');
  bench[Symbol.dispose]();
});

vitestTest('without an adapter or a runner `test` says what to do', () => {
  expect(() => test('lost', () => {})).toThrow(/causeway test FILE/);
});
