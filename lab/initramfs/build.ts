import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { cacheRoot, materialise } from '../cache.ts';
import type { Kernel } from '../kernels.ts';
import { busybox, type FetchOptions } from '../packages.ts';
import { run } from '../run.ts';
import { type CpioEntry, writeCpio } from './cpio.ts';
import { type KernelModule, ModuleTree } from './modules.ts';

/** A file to put into an image: its text or bytes, or the host file to copy, with mode 0644 unless said otherwise. */
export type ImageFile =
  | string
  | Uint8Array
  | { readonly data: string | Uint8Array; readonly mode?: number }
  | { readonly from: string; readonly mode?: number };

/** What an initramfs is made of. */
export interface InitramfsSpec {
  /** The kernel whose modules are taken. */
  readonly kernel: Kernel;
  /** Modules to load, by name; what they need comes along. Listed in order in `/etc/modules`, one path a line. */
  readonly modules?: readonly string[];
  /** Modules to carry but not to list: for `modprobe` later. */
  readonly spareModules?: readonly string[];
  /** Like `spareModules`, but left out when the kernel does not have them. */
  readonly optionalModules?: readonly string[];
  /** Files by absolute path. */
  readonly files?: Readonly<Record<string, ImageFile>>;
  /** The text of `/init`, a script for busybox `sh`. It can load the modules with `. /etc/load-modules`. */
  readonly init: string;
}

/** Raise this when the writer changes what it makes from the same input. */
const formatVersion = 1;

const unusedForMs = 3 * 24 * 3600 * 1000;

const loadModules = `while read -r module; do
  insmod "$module" || echo "cannot load $module"
done < /etc/modules
`;

/**
 * Build an initramfs with busybox (all its applets in /bin), the modules, the files and `/init`; gives its path in the
 * cache. The name is a hash of everything that went in, so equal input is built once.
 */
export async function buildInitramfs(spec: InitramfsSpec, options: FetchOptions = {}): Promise<string> {
  const shell = await busybox(options);
  const hash = createHash('sha256');
  const note = (...values: (string | number | Uint8Array)[]) => {
    for (const value of values) hash.update(typeof value === 'number' ? `${value}` : value).update('\0');
  };
  note(formatVersion, shell, (await stat(shell)).mtimeMs, spec.init, spec.kernel.version, spec.kernel.packageVersion);
  note(JSON.stringify([spec.modules ?? [], spec.spareModules ?? [], spec.optionalModules ?? []]));
  if (spec.kernel.modulesDir !== undefined) {
    note(spec.kernel.modulesDir, (await stat(spec.kernel.modulesDir)).mtimeMs);
  }
  const files: CpioEntry[] = [];
  for (const [path, file] of Object.entries(spec.files ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))) {
    const entry = await readImageFile(path, file);
    files.push(entry);
    note(path, entry.mode, entry.data);
  }
  const name = hash.digest('hex').slice(0, 24);
  const directory = await materialise(
    join(cacheRoot(), 'initramfs', name),
    async (fresh) => {
      const entries = [...(await baseEntries(shell)), ...(await moduleEntries(spec)), ...files];
      entries.push({ kind: 'file', path: '/init', mode: 0o755, data: Buffer.from(spec.init) });
      await writeFile(join(fresh, 'initrd'), writeCpio(entries));
    },
    options.log === undefined ? {} : { log: options.log },
  );
  await utimes(directory, new Date(), new Date());
  await prune(dirname(directory));
  return join(directory, 'initrd');
}

/** Images are cheap to build again, and every change of a script makes another: forget the ones long unused. */
async function prune(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    const used = await stat(path).catch(() => undefined);
    if (used !== undefined && Date.now() - used.mtimeMs > unusedForMs) await rm(path, { recursive: true, force: true });
  }
}

/** An entry of an archive out of a file as the user names it. */
export async function readImageFile(path: string, file: ImageFile): Promise<Extract<CpioEntry, { kind: 'file' }>> {
  if (typeof file === 'string' || file instanceof Uint8Array) {
    return { kind: 'file', path, mode: 0o644, data: Buffer.from(file) };
  }
  if ('data' in file) return { kind: 'file', path, mode: file.mode ?? 0o644, data: Buffer.from(file.data) };
  const mode = file.mode ?? (await stat(file.from)).mode & 0o777;
  return { kind: 'file', path, mode, data: await readFile(file.from) };
}

async function baseEntries(shell: string): Promise<CpioEntry[]> {
  const applets = (await run(shell, ['--list'])).toString().split('\n').filter(Boolean);
  return [
    ...['/dev', '/proc', '/sys', '/tmp', '/run', '/etc'].map((path): CpioEntry => ({ kind: 'directory', path })),
    { kind: 'chardev', path: '/dev/console', major: 5, minor: 1 },
    { kind: 'chardev', path: '/dev/null', major: 1, minor: 3 },
    { kind: 'file', path: '/bin/busybox', mode: 0o755, data: await readFile(shell) },
    ...applets
      .filter((applet) => applet !== 'busybox')
      .map((applet): CpioEntry => ({ kind: 'symlink', path: `/bin/${applet}`, target: 'busybox' })),
    { kind: 'symlink', path: '/sbin', target: 'bin' },
    { kind: 'file', path: '/etc/load-modules', mode: 0o644, data: Buffer.from(loadModules) },
  ];
}

async function moduleEntries(spec: InitramfsSpec): Promise<CpioEntry[]> {
  const { kernel } = spec;
  const wanted = [...(spec.modules ?? []), ...(spec.spareModules ?? [])];
  const empty: CpioEntry = { kind: 'file', path: '/etc/modules', mode: 0o644, data: Buffer.alloc(0) };
  if (kernel.modulesDir === undefined || !existsSync(kernel.modulesDir)) return [empty];
  const tree = await ModuleTree.open(kernel.modulesDir);
  const listed = await tree.closure(spec.modules ?? []);
  const all = await tree.closure([...wanted, ...(spec.optionalModules ?? []).filter((name) => tree.has(name))]);
  const home = `/lib/modules/${kernel.version}`;
  const file = (path: string, text: string): CpioEntry => ({
    kind: 'file',
    path,
    mode: 0o644,
    data: Buffer.from(text),
  });
  const entries: CpioEntry[] = all.map(({ path, data }) => ({
    kind: 'file',
    path: `${home}/${path}`,
    mode: 0o644,
    data,
  }));
  const lines = listed.map(({ path }) => `${home}/${path}\n`).join('');
  return [
    ...entries,
    file('/etc/modules', lines),
    file(`${home}/modules.dep`, dependencyTable(all)),
    file(
      `${home}/modules.alias`,
      all.flatMap(({ aliases, name }) => aliases.map((one) => `alias ${one} ${name}\n`)).join(''),
    ),
    file(`${home}/modules.builtin`, await readFile(join(kernel.modulesDir, 'modules.builtin'), 'utf8').catch(() => '')),
  ];
}

/** The lines of `modules.dep` for a set of modules that is closed under dependency. */
export function dependencyTable(modules: readonly KernelModule[]): string {
  const byName = new Map(modules.map((module) => [module.name, module]));
  const all = (module: KernelModule, found: Set<KernelModule>): Set<KernelModule> => {
    for (const name of module.depends) {
      const next = byName.get(name);
      if (next === undefined || found.has(next)) continue;
      found.add(next);
      all(next, found);
    }
    return found;
  };
  // modprobe loads the list from its end, so what is needed first must come last.
  const position = new Map(modules.map((module, index) => [module, index]));
  const latestFirst = (a: KernelModule, b: KernelModule) => (position.get(b) ?? 0) - (position.get(a) ?? 0);
  return modules
    .map(
      (module) =>
        `${module.path}: ${[...all(module, new Set())]
          .sort(latestFirst)
          .map(({ path }) => path)
          .join(' ')}\n`,
    )
    .join('');
}
