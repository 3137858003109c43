import { expect, test } from 'vitest';
import type { Fd } from '../../native/types.ts';
import { BusMemory } from './bus-memory.ts';
import { TrapLookup } from './trap-lookup.ts';
import { SharedBytes, TrapTable } from './trap-table.ts';

const file = { kind: 'file', name: 'bar', fd: 5 as Fd, offset: 0 } as const;

function tables() {
  const bus = new BusMemory();
  const shared = new SharedBytes(bus);
  return { bus, mmio: new TrapTable(bus.mmio, bus, shared), ports: new TrapTable(bus.ports, bus, shared) };
}

test('a burst is told to the trap that has the counter, with the page’s offset', () => {
  const { bus, mmio, ports } = tables();
  const told: string[] = [];
  mmio.add(0xc000_0800, 0x2000, { ...file, onBurst: (offset) => told.push(`mmio ${offset}`) });
  ports.add(0x1000, 0x20, { ...file, onBurst: (offset) => told.push(`ports ${offset}`) });
  const lookup = new TrapLookup(bus.mmio);
  lookup.find(0xc000_2000);
  const of = (lookupOf: TrapLookup): number => lookupOf.counter;
  for (const counter of [of(lookup), of(lookup) + 2]) {
    mmio.burst(counter);
    ports.burst(counter);
  }
  const portLookup = new TrapLookup(bus.ports);
  portLookup.find(0x1004);
  mmio.burst(of(portLookup));
  ports.burst(of(portLookup));
  expect(told).toEqual(['mmio 0', 'mmio 6144', 'ports 0']);
});

test('a very large trap shares few counters, and counters run out without harm', () => {
  const { bus, mmio } = tables();
  const lookup = new TrapLookup(bus.mmio);
  const traps = Array.from({ length: 17 }, (_, i) => (1 + i) * 2 ** 33);
  for (const start of traps) mmio.add(start, 2 ** 33, { ...file, onBurst: () => {} });
  const counters = traps.map((start) => {
    lookup.find(start + 2 ** 33 - 1);
    return [lookup.counter, lookup.granule];
  });
  expect(counters[0]).toEqual([0, 2 ** 25]);
  expect(counters[15]).toEqual([15 * 256, 2 ** 25]);
  expect(counters[16], 'the seventeenth is not counted').toEqual([-1, 0]);
  mmio.remove(traps[3]!);
  mmio.remove(traps[16]!);
  mmio.add(traps[16]!, 2 ** 33, { ...file, onBurst: () => {} });
  lookup.find(traps[16]!);
  expect(lookup.counter, 'what was given back is used again').toBe(3 * 256);
});
