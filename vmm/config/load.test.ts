import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { defineVm } from './define-vm.ts';
import { loadVmConfig } from './load.ts';

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'causeway-config-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

test('JSON, with paths taken from its own folder', async () => {
  const path = file('vm.json', '{ "kernel": "boot/vmlinuz", "initrd": "/initrd", "cpus": 2 }');
  expect(await loadVmConfig(path)).toEqual({ kernel: join(folder, 'boot/vmlinuz'), initrd: '/initrd', cpus: 2 });
});

test.each(['ts', 'mts'])('.%s with types, as an object', async (extension) => {
  const path = file(
    `typed.${extension}`,
    'const cpus: number = 3;\nexport default { kernel: "/k", cpus } as object;\n',
  );
  expect(await loadVmConfig(path)).toEqual({ kernel: '/k', cpus: 3 });
});

test.each(['js', 'mjs'])('.%s, as a function of the host', async (extension) => {
  const path = file(`function.${extension}`, 'export default async ({ host }) => ({ kernel: "/k", cpus: host.cpus });');
  expect(await loadVmConfig(path, { host: { cpus: 8 } })).toEqual({ kernel: '/k', cpus: 8 });
});

test.each([
  ['missing.json', undefined, /ENOENT/],
  ['vm.yaml', 'kernel: k', /must end in \.json, \.ts/],
  ['broken.json', '{ kernel', /JSON/],
  ['throws.mjs', 'throw new Error("no luck");', /no luck/],
  ['empty.mjs', 'export const kernel = 1;', /no default export/],
])('%s is refused by name', async (name, text, message) => {
  const path = text === undefined ? join(folder, name) : file(name, text);
  const refused = expect.objectContaining({ code: 'CONFIG_INVALID', path, message: expect.stringMatching(message) });
  await expect(loadVmConfig(path)).rejects.toEqual(refused);
});

test('what is no object passes through, for normalising to refuse', async () => {
  expect(await loadVmConfig(file('list.json', '[1]'))).toEqual([1]);
});

test('defineVm gives back what it got', () => {
  const config = { kernel: 'k' };
  expect(defineVm(config)).toBe(config);
});
