import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PrivateApt } from './apt.ts';
import { cacheRoot, type Log, materialise } from './cache.ts';
import { LabError } from './errors.ts';
import { run } from './run.ts';

/** How to get a package. */
export interface FetchOptions {
  /** Receives one line per step; default: silence. */
  readonly log?: Log | undefined;
  /** Look for a newer version although one is in the cache. */
  readonly refresh?: boolean | undefined;
}

/** A QEMU to run: the words that start it, before its own arguments, and its version. */
export interface Qemu {
  readonly version: string;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** What a cached package was made from. */
export interface Manifest {
  readonly name: string;
  readonly version: string;
}

const arch = 'x86_64-linux-gnu';
const quiet: Log = () => {};

/** The QEMU series that Debian 12 offers: 7.2 from the release itself, 10 from its backports. */
export const qemuSeries: readonly string[] = ['7.2', '10'];

/**
 * QEMU's x86 system emulator with all its libraries. It is started through its own dynamic loader, so that neither
 * the host's C library nor its other libraries matter. Without Debian's tools: the one in PATH.
 */
export async function qemu(series = '7.2', options: FetchOptions = {}): Promise<Qemu> {
  if (!qemuSeries.includes(series)) {
    throw new LabError('LAB_USAGE', `no QEMU ${series}; there are ${qemuSeries.join(' and ')}`);
  }
  const log = options.log ?? quiet;
  const directory = join(cacheRoot(), 'packages', `qemu-${series}`);
  if (!existsSync(directory) && !PrivateApt.available()) return qemuInPath();
  await materialise(
    directory,
    async (fresh) => {
      const from = series === '10' ? 'bookworm-backports' : undefined;
      const apt = new PrivateApt('bookworm', log);
      await apt.fetchClosure(['qemu-system-x86'], fresh, from);
      await writeManifest(fresh, {
        name: 'qemu-system-x86',
        version: (await apt.version('qemu-system-x86', from)) ?? '?',
      });
    },
    { refresh: options.refresh ?? false, log },
  );
  const libraries = [`usr/lib/${arch}`, `lib/${arch}`, `usr/lib/${arch}/pulseaudio`].map((path) =>
    join(directory, path),
  );
  const loader = [`usr/lib/${arch}`, `lib/${arch}`]
    .map((path) => join(directory, path, 'ld-linux-x86-64.so.2'))
    .find((path) => existsSync(path));
  if (loader === undefined) throw damaged(directory);
  const firmware = ['usr/share/qemu', 'usr/share/seabios', 'usr/lib/ipxe/qemu'].map((path) => join(directory, path));
  return {
    version: (await readManifest(directory)).version,
    command: [
      loader,
      '--library-path',
      libraries.join(':'),
      join(directory, 'usr/bin/qemu-system-x86_64'),
      ...firmware.flatMap((path) => ['-L', path]),
    ],
    env: { QEMU_MODULE_DIR: join(directory, `usr/lib/${arch}/qemu`) },
  };
}

async function qemuInPath(): Promise<Qemu> {
  const text = await run('qemu-system-x86_64', ['--version'], {
    hint: 'this is no Debian, so nothing can be fetched: install QEMU (x86 system emulator) with the package manager here',
  });
  const version = /version (\S+)/.exec(text.toString())?.[1] ?? '?';
  return { version, command: ['qemu-system-x86_64'], env: {} };
}

/** The path of a statically linked busybox. Without Debian's tools: the one in PATH, which then must be static. */
export async function busybox(options: FetchOptions = {}): Promise<string> {
  const log = options.log ?? quiet;
  const directory = join(cacheRoot(), 'packages', 'busybox');
  if (!existsSync(directory) && !PrivateApt.available()) {
    const hint = 'this is no Debian, so nothing can be fetched: install a static busybox with the package manager here';
    return (await run('sh', ['-c', 'command -v busybox'], { hint })).toString().trim();
  }
  await materialise(
    directory,
    async (fresh) => {
      const apt = new PrivateApt('bookworm', log);
      await apt.fetch(['busybox-static'], fresh);
      await writeManifest(fresh, { name: 'busybox-static', version: (await apt.version('busybox-static')) ?? '?' });
    },
    { refresh: options.refresh ?? false, log },
  );
  const found = ['bin/busybox', 'usr/bin/busybox']
    .map((path) => join(directory, path))
    .find((path) => existsSync(path));
  if (found === undefined) throw damaged(directory);
  return found;
}

/** Record beside an unpacked package what it is. */
export async function writeManifest(directory: string, manifest: Manifest): Promise<void> {
  await writeFile(join(directory, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`);
}

/** What an unpacked package is. */
export async function readManifest(directory: string): Promise<Manifest> {
  return JSON.parse(await readFile(join(directory, 'manifest.json'), 'utf8')) as Manifest;
}

/** The error for a cached package in which something is missing. */
export function damaged(directory: string): LabError {
  return new LabError('LAB_FETCH_FAILED', `the cached package in ${directory} is incomplete`, {
    hint: 'remove that directory, or run with --refresh',
  });
}
