import { expect, it } from 'vitest';
import { dropProgramPages, untouchedMappings } from './program-pages.ts';

const mapping = (range: string, permissions: string, path: string, anonymousKib: number) =>
  `${range} ${permissions} 00000000 fe:00 1234       ${path}\nSize: 9999 kB\nRss: 100 kB\nAnonymous: ${' '.repeat(8)}${anonymousKib} kB\nVmFlags: rd mr mw me\n`;

const SMAPS = [
  mapping('00400000-00b6f000', 'r--p', '/usr/bin/node', 0),
  mapping('00b72000-025fe000', 'r-xp', '/usr/bin/node', 0),
  // A breakpoint, or a relocation.
  mapping('03000000-04000000', 'r-xp', '/usr/bin/node', 4),
  mapping('04000000-05000000', 'rw-p', '/usr/bin/node', 0),
  mapping('05000000-06000000', 'r--s', '/usr/bin/node', 0),
  // Too small.
  mapping('06000000-06001000', 'r--p', '/usr/bin/node', 0),
  mapping('07000000-08000000', 'r-xp', '/usr/lib/libc.so.6', 0),
  mapping('7f0000000000-7f0001000000', 'r-xp', '', 0),
].join('');

it('drops what the file still holds, and nothing else', () => {
  const dropped: unknown[] = [];
  dropProgramPages({
    readLink: () => '/usr/bin/node',
    readFile: () => Buffer.from(SMAPS, 'latin1'),
    dropPages: (start, sizeBytes) => void dropped.push([start, sizeBytes]),
  });
  expect(dropped).toEqual([
    [0x40_0000, 0x76_f000],
    [0xb7_2000, 0x1a8_c000],
  ]);
});

it('finds nothing in what it does not know', () => {
  expect(untouchedMappings('', '/usr/bin/node')).toEqual([]);
  expect(untouchedMappings(SMAPS, '/usr/bin/node (deleted)')).toEqual([]);
});

it('does not fail where there is no /proc', () => {
  const missing = () => {
    throw new Error('ENOENT');
  };
  expect(() => dropProgramPages({ readLink: missing, readFile: missing, dropPages: missing })).not.toThrow();
});
