import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ByteLog, type LogPiece } from './byte-log.ts';
import { EventJournal, type JournalEntry } from './event-journal.ts';

const never = new AbortController().signal;

async function all<T>(source: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of source) found.push(item);
  return found;
}

test('a log gives back what was appended, and says what is gone, whatever the sizes', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 200 }),
      fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }),
      fc.nat(4000),
      async (limit, pieces, from) => {
        const log = new ByteLog(limit);
        for (const piece of pieces) log.append(piece);
        const whole = Buffer.concat(pieces);
        expect(log.end).toBe(whole.length);
        const start = Math.min(from, whole.length);
        const read = await all(log.read(from, false, never));
        const dropped = read.reduce((sum, { droppedBytes }) => sum + droppedBytes, 0);
        expect(dropped).toBe(Math.max(0, Math.max(0, whole.length - limit) - start));
        expect(Buffer.concat(read.map(({ data }) => data))).toEqual(whole.subarray(start + dropped));
        for (const { offset, data } of read)
          expect(Buffer.from(data)).toEqual(whole.subarray(offset, offset + data.length));
      },
    ),
  );
});

test('a log grows as far as it may, keeping everything until then', async () => {
  const log = new ByteLog(100_000);
  const whole = Buffer.alloc(99_999).map((_, i) => i % 251);
  for (let at = 0; at < whole.length; at += 777) log.append(whole.subarray(at, at + 777));
  const read: LogPiece[] = await all(log.read(0, false, never));
  expect(read.length).toBeGreaterThan(1);
  expect(Buffer.concat(read.map(({ data }) => data)).equals(whole)).toBe(true);
});

test('readers of a journal see every event once and in order, or how many they missed', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 10 }),
      fc.array(fc.integer({ min: 0, max: 8 }), { maxLength: 12 }),
      fc.nat(30),
      async (capacity, steps, since) => {
        const journal = new EventJournal<number>(capacity);
        const entries: JournalEntry<number>[] = [];
        const reader = journal.read(since, never);
        let next = 1;
        for (const count of steps) {
          for (let i = 0; i < count; i++) journal.add(next++);
          if (journal.lastId > since) entries.push((await reader.next()).value!);
          else break;
          if (entries.at(-1)!.id === journal.lastId) break;
        }
        journal.end();
        entries.push(...(await all(reader)));
        let position = since > journal.lastId || (entries[0]?.id ?? since + 1) <= since ? 0 : since;
        for (const { id, content } of entries) {
          if ('dropped' in content) expect(id).toBe(position + content.dropped);
          else expect([id, content.event]).toEqual([position + 1, position + 1]);
          position = id;
        }
        if (since <= journal.lastId) expect(position).toBe(journal.lastId);
      },
    ),
  );
});

test('readers end when they are aborted while they wait', async () => {
  const abort = new AbortController();
  const journal = new EventJournal<string>();
  const log = new ByteLog();
  const reading = [all(journal.read(0, abort.signal)), all(log.read(0, true, abort.signal))];
  abort.abort();
  expect(await Promise.all(reading)).toEqual([[], []]);
});
