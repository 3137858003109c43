import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import { PrivateApt, type Suite } from './apt.ts';
import { cacheRoot, type Log, materialise } from './cache.ts';
import { LabError } from './errors.ts';
import type { Kernel } from './kernels.ts';
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

interface Manifest {
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
      await apt.fetchOne('busybox-static', fresh);
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

/** Where a kernel series is looked for, in order. */
const kernelHomes: readonly { suite: Suite; release?: string }[] = [
  { suite: 'bookworm' },
  { suite: 'trixie' },
  { suite: 'sid' },
];

/**
 * Debian's kernel of a series such as `6.1` or `6.12`, with its modules: the newest on offer when first asked, the
 * same one ever after. Without Debian's tools: the running kernel, whatever the series.
 */
export async function debianKernel(series: string, options: FetchOptions = {}): Promise<Kernel> {
  if (!/^\d+\.\d+$/.test(series)) throw new LabError('LAB_USAGE', `${series} is not a kernel series such as 6.1`);
  const log = options.log ?? quiet;
  const directory = join(cacheRoot(), 'packages', `kernel-${series}`);
  if (!existsSync(directory) && !PrivateApt.available()) return runningKernel();
  await materialise(
    directory,
    async (fresh) => {
      const { apt, name } = await findKernel(series, log);
      await apt.fetchOne(name, fresh);
      await writeManifest(fresh, { name, version: (await apt.version(name)) ?? '?' });
    },
    { refresh: options.refresh ?? false, log },
  );
  const manifest = await readManifest(directory);
  const boot = await readdir(join(directory, 'boot'));
  const image = boot.find((name) => name.startsWith('vmlinuz-'));
  if (image === undefined) throw damaged(directory);
  const version = image.slice('vmlinuz-'.length);
  const modules = ['lib/modules', 'usr/lib/modules']
    .map((path) => join(directory, path, version))
    .find((p) => existsSync(p));
  return {
    version,
    packageVersion: manifest.version,
    vmlinuz: join(directory, 'boot', image),
    modulesDir: modules,
    config: join(directory, 'boot', `config-${version}`),
  };
}

async function findKernel(series: string, log: Log): Promise<{ apt: PrivateApt; name: string }> {
  const escaped = series.replaceAll('.', '\\.');
  const pattern = new RegExp(`^linux-image-${escaped}([.+-](?!.*(cloud|rt|dbg|unsigned)).*)?-amd64$`);
  for (const { suite } of kernelHomes) {
    const apt = new PrivateApt(suite, log);
    const names = (await apt.names(`linux-image-${series}`, pattern)).sort(byNumbers).reverse();
    // A name without a version of its own is a meta-package: it holds no kernel.
    for (const name of names.filter((one) => one !== `linux-image-${series}-amd64`)) {
      if ((await apt.version(name)) !== undefined) return { apt, name };
    }
  }
  throw new LabError('LAB_FETCH_FAILED', `Debian offers no kernel ${series}`, {
    hint: '6.1 and 6.12 are known to exist; a kernel of your own is given as a path',
  });
}

/** Order by the numbers in the names: 6.12.9 before 6.12.10. */
export function byNumbers(a: string, b: string): number {
  const numbers = (text: string) => (text.match(/\d+/g) ?? []).map(Number);
  const left = numbers(a);
  const right = numbers(b);
  for (let i = 0; i < Math.max(left.length, right.length); i += 1) {
    const difference = (left[i] ?? -1) - (right[i] ?? -1);
    if (difference !== 0) return difference;
  }
  return a < b ? -1 : 1;
}

/** The kernel this host runs, with its modules. */
export function runningKernel(): Kernel {
  const version = release();
  const vmlinuz = [`/boot/vmlinuz-${version}`, `/lib/modules/${version}/vmlinuz`].find((path) => existsSync(path));
  if (vmlinuz === undefined) {
    throw new LabError('LAB_UNSUPPORTED_HOST', `the image of the running kernel (${version}) is not in /boot`, {
      hint: 'name a kernel image with --kernel PATH',
    });
  }
  const modulesDir = existsSync(`/lib/modules/${version}`) ? `/lib/modules/${version}` : undefined;
  const config = existsSync(`/boot/config-${version}`) ? `/boot/config-${version}` : undefined;
  return { version, packageVersion: version, vmlinuz, modulesDir, config };
}

async function writeManifest(directory: string, manifest: Manifest): Promise<void> {
  await writeFile(join(directory, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`);
}

async function readManifest(directory: string): Promise<Manifest> {
  return JSON.parse(await readFile(join(directory, 'manifest.json'), 'utf8')) as Manifest;
}

function damaged(directory: string): LabError {
  return new LabError('LAB_FETCH_FAILED', `the cached package in ${directory} is incomplete`, {
    hint: 'remove that directory, or run with --refresh',
  });
}
