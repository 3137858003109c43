import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { afterEach, expect, it, vi } from 'vitest';
import { Doorbell } from './doorbell.ts';

afterEach(() => vi.restoreAllMocks());

const RINGERS = 3;
const RINGS_EACH = 20_000;
/** A lost ring is never made up for. */
const LOST_MS = 10_000;

it('a ring before the sleep is seen at once, one in the sleep ends it', async () => {
  const bell = new Doorbell(new SharedArrayBuffer(8), 0);
  const { rings } = bell;
  bell.ring();
  expect(bell.sleep(rings)).toBeUndefined();
  const sleep = bell.sleep(bell.rings);
  expect(sleep).toBeDefined();
  bell.ring();
  bell.ring();
  await sleep;
  bell.awake();
  expect(bell.sleep(rings + 2)).toBeUndefined();
});

/** As `ring` does it, in plain words: a worker cannot load TypeScript. The work is counted before each ring. */
const RINGER = `
const { workerData: { memory, count } } = require('node:worker_threads');
const words = new Int32Array(memory);
for (let i = 0; i < count; i++) {
  Atomics.add(words, 2, 1);
  Atomics.add(words, 0, 1);
  if (Atomics.load(words, 1) === 1) Atomics.notify(words, 0);
  for (let pause = (i * 7919) % 300; pause > 0; pause--) Atomics.load(words, 0);
}`;

it('no ring of several threads is lost, and few of them wake anybody', { timeout: 60_000 }, async () => {
  const memory = new SharedArrayBuffer(16);
  const words = new Int32Array(memory);
  const bell = new Doorbell(memory, 0);
  const workers = Array.from(
    { length: RINGERS },
    () => new Worker(RINGER, { eval: true, workerData: { memory, count: RINGS_EACH } }),
  );
  const ended = Promise.all(workers.map((worker) => once(worker, 'exit')));
  let seen = 0;
  let sleeps = 0;
  while (seen < RINGERS * RINGS_EACH) {
    const { rings } = bell;
    seen = Atomics.load(words, 2);
    if (seen === RINGERS * RINGS_EACH) break;
    const sleep = bell.sleep(rings);
    if (!sleep) continue;
    sleeps++;
    let timer: NodeJS.Timeout | undefined;
    const lost = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`asleep with ${seen} seen of ${Atomics.load(words, 2)}`)), LOST_MS);
    });
    await Promise.race([sleep, lost]);
    bell.awake();
    clearTimeout(timer);
  }
  await ended;
  expect(sleeps).toBeGreaterThan(0);
  expect(sleeps).toBeLessThan(RINGERS * RINGS_EACH);
});

it('a ringer who looks for the sleeper late, for a ring that was seen, does not have the next ring lost', async () => {
  const bell = new Doorbell(new SharedArrayBuffer(8), 0);
  bell.ring();
  const { waitAsync } = Atomics;
  vi.spyOn(Atomics, 'waitAsync').mockImplementationOnce((...wait: Parameters<typeof waitAsync>) => {
    // Between "I sleep" and sleep: the second half of a ring whose first half was before `rings` was read.
    vi.spyOn(Atomics, 'add').mockImplementationOnce(() => 0 as never);
    bell.ring();
    return waitAsync(...wait);
  });
  const sleep = bell.sleep(bell.rings);
  bell.ring();
  const lost = new Promise((_, reject) => setTimeout(() => reject(new Error('nobody woke the sleeper')), 1000));
  await Promise.race([sleep, lost]);
});
