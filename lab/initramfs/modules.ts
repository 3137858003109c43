import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { LabError } from '../errors.ts';
import { run } from '../run.ts';

/** A kernel module, unpacked. */
export interface KernelModule {
  /** With underscores, as the kernel names it. */
  readonly name: string;
  /** Relative to the kernel's module directory, ending in `.ko`. */
  readonly path: string;
  readonly data: Buffer;
  readonly depends: readonly string[];
  readonly aliases: readonly string[];
}

/** The strings of a module's `.modinfo` section, by key. */
export function modinfo(module: Buffer): Map<string, string[]> {
  const section = findSection(module, '.modinfo');
  const found = new Map<string, string[]>();
  for (const text of section.toString('latin1').split('\0')) {
    const at = text.indexOf('=');
    if (at < 0) continue;
    const key = text.slice(0, at);
    found.set(key, [...(found.get(key) ?? []), text.slice(at + 1)]);
  }
  return found;
}

function findSection(elf: Buffer, wanted: string): Buffer {
  if (elf.length < 64 || elf.readUInt32BE(0) !== 0x7f454c46) return Buffer.alloc(0);
  const table = Number(elf.readBigUInt64LE(0x28));
  const entrySize = elf.readUInt16LE(0x3a);
  const count = elf.readUInt16LE(0x3c);
  const header = (index: number) => {
    const at = table + index * entrySize;
    const offset = Number(elf.readBigUInt64LE(at + 0x18));
    return { name: elf.readUInt32LE(at), body: elf.subarray(offset, offset + Number(elf.readBigUInt64LE(at + 0x20))) };
  };
  const names = header(elf.readUInt16LE(0x3e)).body;
  for (let index = 1; index < count; index += 1) {
    const { name, body } = header(index);
    if (names.toString('latin1', name, names.indexOf(0, name)) === wanted) return body;
  }
  return Buffer.alloc(0);
}

/** The name the kernel uses for a module file or a name written with dashes. */
export function moduleName(text: string): string {
  return basename(text)
    .replace(/\.ko(\.\w+)?$/, '')
    .replaceAll('-', '_');
}

/**
 * The modules of one unpacked kernel. Dependencies are read from the modules themselves: a kernel package that was never
 * installed has no `modules.dep`.
 */
export class ModuleTree {
  readonly #directory: string;
  readonly #files: ReadonlyMap<string, string>;
  readonly #builtin: ReadonlySet<string>;
  readonly #loaded = new Map<string, Promise<KernelModule>>();

  private constructor(directory: string, files: ReadonlyMap<string, string>, builtin: ReadonlySet<string>) {
    this.#directory = directory;
    this.#files = files;
    this.#builtin = builtin;
  }

  /** Index a module directory (`lib/modules/<version>`). */
  static async open(directory: string): Promise<ModuleTree> {
    const files = new Map<string, string>();
    for (const path of await readdir(directory, { recursive: true })) {
      if (/\.ko(\.(xz|zst|gz))?$/.test(path)) files.set(moduleName(path), path);
    }
    const list = join(directory, 'modules.builtin');
    const text = existsSync(list) ? await readFile(list, 'utf8') : '';
    return new ModuleTree(directory, files, new Set(text.split('\n').filter(Boolean).map(moduleName)));
  }

  /** Whether the kernel has the module, as a file or built in. */
  has(name: string): boolean {
    return this.#files.has(moduleName(name)) || this.#builtin.has(moduleName(name));
  }

  /**
   * The named modules and all they need, each after what it needs. Built-in ones are left out. Throws
   * LAB_MODULE_MISSING for one that the kernel does not have.
   */
  async closure(names: readonly string[]): Promise<KernelModule[]> {
    const order = new Map<string, KernelModule>();
    const visit = async (name: string, needed: string | undefined, optional: boolean): Promise<void> => {
      if (order.has(name) || this.#builtin.has(name)) return;
      if (!this.#files.has(name)) {
        if (optional) return;
        const why = needed === undefined ? '' : `, which ${needed} needs`;
        throw new LabError('LAB_MODULE_MISSING', `the kernel in ${this.#directory} has no module ${name}${why}`);
      }
      const module = await this.#load(name);
      for (const one of module.depends) await visit(one, name, false);
      for (const one of module.before) await visit(one, name, true);
      order.set(name, module);
    };
    for (const name of names) await visit(moduleName(name), undefined, false);
    return [...order.values()];
  }

  #load(name: string): Promise<KernelModule & { before: readonly string[] }> {
    const known = this.#loaded.get(name) as Promise<KernelModule & { before: readonly string[] }> | undefined;
    if (known !== undefined) return known;
    const loading = this.#read(name);
    this.#loaded.set(name, loading);
    return loading;
  }

  async #read(name: string): Promise<KernelModule & { before: readonly string[] }> {
    const path = this.#files.get(name) ?? '';
    const data = await unpackModule(join(this.#directory, path));
    const info = modinfo(data);
    const list = (text: string) =>
      text
        .split(/[\s,]+/)
        .filter(Boolean)
        .map(moduleName);
    const soft = (info.get('softdep') ?? []).map((text) => /pre:\s*([^:]*?)(?=\s*\w+:|$)/.exec(text)?.[1] ?? '');
    return {
      name,
      path: path.replace(/\.ko\.\w+$/, '.ko'),
      data,
      depends: (info.get('depends') ?? []).flatMap(list),
      aliases: info.get('alias') ?? [],
      before: soft.flatMap(list),
    };
  }
}

async function unpackModule(path: string): Promise<Buffer> {
  if (path.endsWith('.xz')) return run('xz', ['-dc', path], { hint: 'install xz (package xz-utils)' });
  if (path.endsWith('.zst')) return run('zstd', ['-dcq', path], { hint: 'install zstd' });
  const data = await readFile(path);
  return path.endsWith('.gz') ? gunzipSync(data) : data;
}
