import { expect, test } from 'vitest';
import { ConsoleLog } from './console-log.ts';

const forEver = new Promise<never>(() => {});

test('expect finds what is there, what comes, and nothing twice', async () => {
  const log = new ConsoleLog();
  log.push(Buffer.from('login: '));
  expect(await log.expect('login:', 1000, forEver)).toBe('login:');
  const second = log.expect(/log(in|out):/, 30_000, forEver);
  log.push(Buffer.from('lo'));
  log.push(Buffer.from('gout: bye'));
  expect(await second).toBe('logout:');
  await expect(log.expect('logout:', 20, forEver)).rejects.toMatchObject({
    code: 'TIMEOUT',
    message: expect.stringContaining('it ends with:\nlogin: logout: bye'),
  });
  const over = Promise.reject(new Error('the guest is gone'));
  await expect(log.expect('more', 30_000, over)).rejects.toThrow('the guest is gone');
});

test('lines are told once they are whole, without their ends', () => {
  const lines: string[] = [];
  const log = new ConsoleLog((line) => lines.push(line));
  log.push(Buffer.from('one\r\ntw'));
  log.push(Buffer.from('o\r\r\nthree'));
  expect(lines).toEqual(['one', 'two']);
});

test('of a flood the beginning and the end are kept', () => {
  const log = new ConsoleLog();
  const line = Buffer.from(`${'x'.repeat(1023)}\n`);
  log.push(Buffer.from('first\n'));
  for (let i = 0; i < 20 * 1024; i++) log.push(line);
  log.push(Buffer.from('last\n'));
  const text = log.text();
  expect(text.length).toBeLessThan(8 * 1024 * 1024);
  expect(text.startsWith('first\n')).toBe(true);
  expect(text.endsWith('last\n')).toBe(true);
  expect(text).toMatch(/\[\d+ characters left out\]/);
});
