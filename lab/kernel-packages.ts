import { existsSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { PrivateApt, type Suite } from './apt.ts';
import { cacheRoot, type Log, materialise } from './cache.ts';
import { LabError } from './errors.ts';
import { builtKernel, builtKernelName } from './kernel-build.ts';
import { type Kernel, kernelAt } from './kernels.ts';
import { type FetchOptions, readManifest, writeManifest } from './packages.ts';

/**
 * A kernel by name: a Debian series (`6.1`, `6.12`), `iommufd` for the one that `npm run lab:kernel` builds, `host` for the
 * running one, or a path (see `kernelAt`).
 */
export async function findKernel(name: string, options: FetchOptions = {}): Promise<Kernel> {
  if (name === 'host') return runningKernel();
  if (name === builtKernelName) return builtKernel();
  if (/^\d+\.\d+$/.test(name)) return debianKernel(name, options);
  return kernelAt(name);
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
  const log = options.log ?? (() => {});
  const directory = join(cacheRoot(), 'packages', `kernel-${series}`);
  if (!existsSync(directory) && !PrivateApt.available()) return runningKernel();
  await materialise(
    directory,
    async (fresh) => {
      const { apt, name } = await newestOf(series, log);
      await apt.fetch(await kernelParts(apt, name), fresh);
      await kernelAt(fresh);
      await writeManifest(fresh, { name, version: (await apt.version(name)) ?? '?' });
    },
    { refresh: options.refresh ?? false, log },
  );
  return { ...(await kernelAt(directory)), packageVersion: (await readManifest(directory)).version };
}

async function newestOf(series: string, log: Log): Promise<{ apt: PrivateApt; name: string }> {
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

/** Newer packaging splits a kernel: the image's own package is then an empty one that depends on these. */
async function kernelParts(apt: PrivateApt, image: string): Promise<string[]> {
  const parts = ['binary', 'modules', 'base'].map((part) => image.replace(/^linux-image-/, `linux-${part}-`));
  const known = await Promise.all(parts.map((part) => apt.version(part)));
  return [image, ...parts.filter((_, index) => known[index] !== undefined)];
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
