import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { cacheRoot, materialise, withLock } from './cache.ts';
import { byNumbers } from './kernel-packages.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'cache-test-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

test('the cache is where the environment says', () => {
  expect(cacheRoot({ CAUSEWAY_CACHE: '/c' })).toBe('/c');
  expect(cacheRoot({ XDG_CACHE_HOME: '/x' })).toBe('/x/causeway');
  expect(cacheRoot({})).toMatch(/\/\.cache\/causeway$/);
});

test('two callers at once fill a target once', async () => {
  let fills = 0;
  const fill = async (fresh: string) => {
    fills += 1;
    writeFileSync(join(fresh, 'file'), 'content');
  };
  const target = join(directory, 'target');
  await Promise.all([materialise(target, fill), materialise(target, fill)]);
  expect(fills).toBe(1);
  expect(readFileSync(join(target, 'file'), 'utf8')).toBe('content');
  expect(existsSync(`${target}.lock`)).toBe(false);
});

test('a failed fill leaves nothing, a refresh replaces', async () => {
  const target = join(directory, 'target');
  const fail = async () => {
    throw new Error('no network');
  };
  await expect(materialise(target, fail)).rejects.toThrow('no network');
  expect(existsSync(target)).toBe(false);
  await materialise(target, async (fresh) => writeFileSync(join(fresh, 'v'), '1'));
  await expect(materialise(target, fail, { refresh: true })).rejects.toThrow('no network');
  expect(readFileSync(join(target, 'v'), 'utf8')).toBe('1');
  await materialise(target, async (fresh) => writeFileSync(join(fresh, 'v'), '2'), { refresh: true });
  expect(readFileSync(join(target, 'v'), 'utf8')).toBe('2');
});

test('the lock of a process that is gone is taken over', async () => {
  const lock = join(directory, 'lock');
  writeFileSync(lock, '999999999 1\n');
  expect(await withLock(lock, async () => 'mine')).toBe('mine');
});

test('versions are ordered by their numbers', () => {
  const names = ['6.12.9+deb12', '6.12.117+deb12', '6.12.38+deb12'];
  expect(names.sort(byNumbers)).toEqual(['6.12.9+deb12', '6.12.38+deb12', '6.12.117+deb12']);
});
