import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { breakModule } from './broken-module.ts';

const SOURCE = `
extern int work(int);
int other(void) { return work(1); }
int init_module(void) { return work(2) + work(3); }
`;
const HANG = [0xfa, 0xeb, 0xfe];

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'module-test-'));
});

afterEach(() => rmSync(folder, { recursive: true }));

function tool(name: string, ...args: string[]): string {
  return execFileSync(name, args, { encoding: 'utf8', cwd: folder });
}

test.each([
  ['as Linux 6.1 has it', '-fcf-protection=none'],
  ['with IBT', '-fcf-protection=branch'],
])('init does something else behind the hook of the tracer, %s', (_, protection) => {
  writeFileSync(join(folder, 'a.c'), SOURCE);
  tool('gcc', '-c', '-O2', '-ffunction-sections', '-fno-pic', '-pg', '-mfentry', '-mrecord-mcount', protection, 'a.c');
  const module = readFileSync(join(folder, 'a.o'));
  writeFileSync(join(folder, 'b.o'), breakModule(module, HANG));
  const code = tool('objdump', '-dr', '-j', '.text.init_module', 'b.o');
  // The hook and its reference are there, then the new code; nothing else is referred to.
  expect(code).toMatch(/call.*\n.*__fentry__.*\n.*\bcli\b.*\n.*eb fe\s+jmp/);
  expect(code).not.toContain('work');
  expect(tool('objdump', '-dr', '-j', '.text.other', 'b.o')).toContain('work');
  expect(module).toEqual(readFileSync(join(folder, 'a.o')));
  // A signature at the end would no longer fit.
  const signature = Buffer.alloc(100 + 12, 7);
  signature.writeUInt32BE(100, 108);
  const signed = Buffer.concat([module, signature, Buffer.from('~Module signature appended~\n')]);
  expect(breakModule(signed, HANG)).toEqual(breakModule(module, HANG));
});

test('what is no module is told', () => {
  writeFileSync(join(folder, 'a.c'), 'int nothing(void) { return 0; }');
  tool('gcc', '-c', 'a.c');
  expect(() => breakModule(readFileSync(join(folder, 'a.o')), HANG)).toThrow('no init_module');
});
