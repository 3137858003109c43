import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ConsoleFile } from './console-file.ts';

const MIB = 2 ** 20;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'causeway-console-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

it('has every byte at once, and goes on after its end', () => {
  const path = join(folder, 'console');
  const file = new ConsoleFile(path);
  file.write(Buffer.from('Linux '));
  expect(readFileSync(path, 'utf8')).toBe('Linux ');
  file.write(Buffer.from('version'));
  file.end();
  file.write(Buffer.from(' 6.1'));
  file.end();
  expect(readFileSync(path, 'utf8')).toBe('Linux version 6.1');
});

it('keeps the first 4 MiB and the last of what never ends, and says how much is missing', () => {
  const path = join(folder, 'console');
  const file = new ConsoleFile(path);
  const pieces = 12 * 16;
  for (let i = 0; i < pieces; i++) file.write(Buffer.alloc(MIB / 16, `${i % 10}`));
  expect(readFileSync(path).length).toBe(4 * MIB);
  file.write(Buffer.from('the end'));
  file.end();
  const text = readFileSync(path, 'latin1');
  const skipped = Number(/\[\.\.\. (\d+) bytes left out \.\.\.\]/.exec(text)![1]);
  expect(text.endsWith('the end')).toBe(true);
  expect(text.replace(/\n\[.*\]\n/, '').length + skipped).toBe((pieces * MIB) / 16 + 7);
  expect(text.length).toBeLessThan(6.1 * MIB);
});
