import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { writeCpio } from './cpio.ts';

test('an archive begins with the newc magic, has aligned records and ends with the trailer', () => {
  const archive = writeCpio([{ kind: 'file', path: '/a', data: Buffer.from('xyz'), mode: 0o644 }]);
  expect(archive.toString('latin1', 0, 6)).toBe('070701');
  expect(archive.length % 4).toBe(0);
  expect(archive.includes('TRAILER!!!')).toBe(true);
  // mode is the second field, size the seventh
  expect(archive.toString('latin1', 14, 22)).toBe('000081a4');
  expect(archive.toString('latin1', 54, 62)).toBe('00000003');
});

test('parents are added once and before what is in them', () => {
  const archive = writeCpio([
    { kind: 'file', path: 'x/y/one', data: Buffer.from('1'), mode: 0o600 },
    { kind: 'directory', path: '/x' },
    { kind: 'symlink', path: 'x/two', target: 'y/one' },
  ]).toString('latin1');
  const names = [...archive.matchAll(/070701[0-9a-f]{104}([^\0]+)\0/g)].map((match) => match[1]);
  expect(names).toEqual(['x', 'x/y', 'x/y/one', 'x/two', 'TRAILER!!!']);
});

test('equal input gives equal bytes', () => {
  const make = () => writeCpio([{ kind: 'file', path: 'f', data: Buffer.from('data'), mode: 0o755 }]);
  expect(make().equals(make())).toBe(true);
});

function hasCpio(): boolean {
  try {
    execFileSync('cpio', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

test('cpio(1) unpacks what was written', ({ skip }) => {
  if (!hasCpio()) skip('needs cpio(1): apt-get install cpio');
  const directory = mkdtempSync(join(tmpdir(), 'cpio-test-'));
  try {
    const archive = writeCpio([
      { kind: 'file', path: 'bin/tool', data: Buffer.from('#!/bin/sh\n'), mode: 0o755 },
      { kind: 'symlink', path: 'bin/link', target: 'tool' },
    ]);
    execFileSync('cpio', ['-idm', '--quiet'], { cwd: directory, input: archive });
    expect(readFileSync(join(directory, 'bin/tool'), 'utf8')).toBe('#!/bin/sh\n');
    expect(statSync(join(directory, 'bin/tool')).mode & 0o777).toBe(0o755);
    expect(readlinkSync(join(directory, 'bin/link'))).toBe('tool');
  } finally {
    rmSync(directory, { recursive: true });
  }
});
