import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { BusMemory, DOORBELL_WORD } from '../bus/bus-memory.ts';
import { SharedBytes, TrapTable } from '../bus/trap-table.ts';
import { CallServer } from './call-server.ts';
import { CALL, Mailbox, SPACE } from './mailbox.ts';
import type { Vcpu, VcpuService } from './vcpu.ts';

const REGISTER = 0x600;

function machine() {
  const bus = new BusMemory();
  const shared = new SharedBytes(bus);
  const ports = new TrapTable(bus.ports, bus, shared);
  const server = new CallServer({ bus, ports, mmio: new TrapTable(bus.mmio, bus, shared), onNotice: () => {} });
  const written: number[] = [];
  const handler = {
    read: () => written.length,
    write: (_at: number, _width: number, value: number) => written.push(value),
  };
  ports.add(REGISTER, 1, { kind: 'call', name: 'register', handler });
  return { bus, server, written };
}

it('gives the event loop its turn while vCPUs call without end', async () => {
  const { bus, server } = machine();
  let served = 0;
  const vcpu = {
    alive: true,
    serve: () => {
      served++;
      // The next call is there before this one is answered.
      Atomics.add(bus.words, DOORBELL_WORD, 1);
      return true;
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

it('answers every call of a burst, in few turns of the event loop', async () => {
  const { bus, server, written } = machine();
  const mailbox = new Mailbox();
  const calls = 2000;
  // What a vCPU thread does, in plain words: this thread cannot load TypeScript.
  const worker = new Worker(
    `const { workerData: { mailbox, bell, calls } } = require('node:worker_threads');
     const words = new Int32Array(mailbox, 0, 16);
     for (let i = 0; i < calls; i++) {
       words.set([${CALL.write}, ${SPACE.port}, 1, i], 3);
       new Float64Array(mailbox, 64, 1)[0] = ${REGISTER};
       Atomics.store(words, 2, 1);
       Atomics.add(bell, ${DOORBELL_WORD}, 1);
       Atomics.notify(bell, ${DOORBELL_WORD});
       while (Atomics.load(words, 2) === 1) Atomics.wait(words, 2, 1);
       Atomics.store(words, 2, 0);
     }`,
    { eval: true, workerData: { mailbox: mailbox.memory, bell: bus.words, calls } },
  );
  let alive = true;
  let ended = false;
  const serve = (service: VcpuService): boolean =>
    mailbox.serveCall((_op, space, address, width, value) => {
      service.write(space, address, width, value);
      return 0;
    });
  const vcpu = {
    serve,
    get alive() {
      return alive;
    },
  };
  server.start([vcpu as unknown as Vcpu]);
  worker.once('exit', () => {
    ended = true;
  });
  let turns = 0;
  while (!ended) {
    const before = written.length;
    await new Promise((resolve) => setImmediate(resolve));
    if (written.length > before) turns++;
  }
  alive = false;
  server.finish();
  expect(written).toEqual(Array.from({ length: calls }, (_, i) => i));
  expect(turns).toBeLessThan(calls / 4);
});
