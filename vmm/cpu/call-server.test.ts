import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { BusMemory } from '../bus/bus-memory.ts';
import { SharedBytes, TrapTable } from '../bus/trap-table.ts';
import { CallServer } from './call-server.ts';
import type { Vcpu } from './vcpu.ts';

function machine() {
  const bus = new BusMemory();
  const shared = new SharedBytes(bus);
  const [ports, mmio] = [new TrapTable(bus.ports, bus, shared), new TrapTable(bus.mmio, bus, shared)];
  return { bus, server: new CallServer({ bus, ports, mmio, onNotice: () => {} }) };
}

it('gives the event loop its turn while vCPUs call without end', async () => {
  const { bus, server } = machine();
  let served = 0;
  const vcpu = {
    alive: true,
    serve: () => {
      served++;
      // The next call is there before this one is answered.
      bus.bell.ring();
    },
  };
  server.start([vcpu as unknown as Vcpu]);
  const before = served;
  await sleep(20);
  expect(served).toBeGreaterThan(before);
  vcpu.alive = false;
  await sleep(20);
  const after = served;
  await sleep(20);
  expect(served).toBe(after);
});
