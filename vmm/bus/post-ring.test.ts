import { expect, it } from 'vitest';
import { POST_RING_BYTES, PostRing } from './post-ring.ts';

it('keeps the order of writes from several vCPUs, says when it is full, and goes on after it was emptied', () => {
  const memory = new SharedArrayBuffer(POST_RING_BYTES);
  const vcpus = [new PostRing(memory, 0), new PostRing(memory, 0)];
  const machine = new PostRing(memory, 0);
  let sent = 0;
  const seen: number[] = [];
  for (let round = 0; round < 5; round++) {
    while (vcpus[sent % 2]!.put(0x3f8, 1, sent)) sent++;
    expect(sent - seen.length).toBe(1024);
    machine.drain((_port, _width, value) => seen.push(value));
  }
  expect(seen).toEqual(Array.from({ length: sent }, (_, i) => i));
});

it('holds back an entry that is not completely written', () => {
  const memory = new SharedArrayBuffer(POST_RING_BYTES);
  const ring = new PostRing(memory, 0);
  // A vCPU thread has reserved the first entry and was preempted there.
  Atomics.store(new Int32Array(memory, 0, 2), 0, 1);
  ring.put(0x80, 1, 7);
  const seen: number[] = [];
  ring.drain((_port, _width, value) => seen.push(value));
  expect(seen).toEqual([]);
});
