import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { dependencyTable } from './build.ts';
import { ModuleTree, modinfo, moduleName } from './modules.ts';

/** A 64-bit ELF file with nothing but a .modinfo section. */
function fakeModule(info: readonly string[]): Buffer {
  const body = Buffer.from(info.map((line) => `${line}\0`).join(''), 'latin1');
  const names = Buffer.from('\0.modinfo\0.shstrtab\0');
  const tableAt = 64 + body.length + names.length;
  const elf = Buffer.alloc(tableAt + 3 * 64);
  elf.writeUInt32BE(0x7f454c46, 0);
  elf.writeBigUInt64LE(BigInt(tableAt), 0x28);
  elf.writeUInt16LE(64, 0x3a);
  elf.writeUInt16LE(3, 0x3c);
  elf.writeUInt16LE(2, 0x3e);
  body.copy(elf, 64);
  names.copy(elf, 64 + body.length);
  const section = (index: number, name: number, at: number, size: number) => {
    elf.writeUInt32LE(name, tableAt + index * 64);
    elf.writeBigUInt64LE(BigInt(at), tableAt + index * 64 + 0x18);
    elf.writeBigUInt64LE(BigInt(size), tableAt + index * 64 + 0x20);
  };
  section(1, 1, 64, body.length);
  section(2, 10, 64 + body.length, names.length);
  return elf;
}

let directory: string;

function put(path: string, ...info: string[]): void {
  mkdirSync(dirname(join(directory, path)), { recursive: true });
  writeFileSync(join(directory, path), fakeModule(info));
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'modules-test-'));
  put('kernel/vfio-pci.ko', 'depends=vfio_pci_core,vfio', 'alias=vfio_pci:v*');
  put('kernel/vfio-pci-core.ko', 'depends=vfio,irqbypass');
  put('kernel/vfio.ko', 'depends=');
  put('kernel/irqbypass.ko', 'license=GPL');
  put('kernel/fs.ko', 'depends=missing_one');
  put('kernel/soft.ko', 'softdep=pre: irqbypass absent post: vfio');
  writeFileSync(join(directory, 'modules.builtin'), 'kernel/drivers/virtio/virtio_ring.ko\n');
});

afterEach(() => rmSync(directory, { recursive: true }));

test('modinfo collects every value of a key', () => {
  const info = modinfo(fakeModule(['alias=a', 'alias=b', 'depends=x,y']));
  expect(info.get('alias')).toEqual(['a', 'b']);
  expect(info.get('depends')).toEqual(['x,y']);
  expect(modinfo(Buffer.from('no module')).size).toBe(0);
});

test('names are the kernel’s own, whatever the file is called', () => {
  expect(moduleName('kernel/drivers/vfio/pci/vfio-pci.ko.xz')).toBe('vfio_pci');
  expect(moduleName('8139too')).toBe('8139too');
});

test('a module comes after all it needs, and once', async () => {
  const tree = await ModuleTree.open(directory);
  const names = (await tree.closure(['vfio-pci', 'vfio'])).map(({ name }) => name);
  expect(names).toEqual(['vfio', 'irqbypass', 'vfio_pci_core', 'vfio_pci']);
});

test('built-in modules are left out; soft dependencies are taken when there', async () => {
  const tree = await ModuleTree.open(directory);
  expect(tree.has('virtio-ring')).toBe(true);
  expect(await tree.closure(['virtio_ring'])).toEqual([]);
  expect((await tree.closure(['soft'])).map(({ name }) => name)).toEqual(['irqbypass', 'soft']);
});

test('a missing module is named, with what needs it', async () => {
  const tree = await ModuleTree.open(directory);
  await expect(tree.closure(['fs'])).rejects.toMatchObject({
    code: 'LAB_MODULE_MISSING',
    message: expect.stringContaining('missing_one, which fs needs'),
  });
});

test('modules.dep lists what is needed first last', async () => {
  const tree = await ModuleTree.open(directory);
  const table = dependencyTable(await tree.closure(['vfio-pci']));
  expect(table).toContain('kernel/vfio-pci.ko: kernel/vfio-pci-core.ko kernel/irqbypass.ko kernel/vfio.ko\n');
});
