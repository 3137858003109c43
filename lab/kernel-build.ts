import { existsSync } from 'node:fs';
import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { PrivateApt } from './apt.ts';
import { cacheRoot, type Log, materialise } from './cache.ts';
import { LabError } from './errors.ts';
import { kernelConfig, missingOptions } from './kernel-config.ts';
import { type Kernel, kernelAt } from './kernels.ts';
import { type FetchOptions, readManifest, writeManifest } from './packages.ts';
import { run } from './run.ts';

/** The name of the built kernel where a kernel is named. */
export const builtKernelName = 'iommufd';

const series = '6.12';
/** What a bare compiler lacks; taken from Debian, unpacked beside the source, and forgotten with it. */
const tools = ['flex', 'bison', 'm4', 'bc', 'libelf-dev', 'libelf1', 'zlib1g-dev'];
/** What must be on this machine. */
const programs = ['gcc', 'make', 'ld', 'tar', 'xz', 'perl'];
const told = 500;

function home(): string {
  return join(cacheRoot(), 'packages', `kernel-${builtKernelName}`);
}

/** Whether the kernel was built once: a test without it is skipped. */
export function hasBuiltKernel(): boolean {
  return existsSync(home());
}

/** The kernel that {@link buildKernel} left in the cache. Throws LabError when there is none. */
export async function builtKernel(): Promise<Kernel> {
  if (!hasBuiltKernel()) {
    throw new LabError('LAB_USAGE', 'the kernel with iommufd is not built yet', {
      hint: 'npm run lab:kernel builds it, in ten minutes to half an hour',
    });
  }
  return { ...(await kernelAt(home())), packageVersion: (await readManifest(home())).version };
}

/** Build a small kernel with iommufd and VFIO device files from Debian's source, once; gives it from the cache. */
export async function buildKernel(options: FetchOptions = {}): Promise<Kernel> {
  const log = options.log ?? (() => {});
  await materialise(
    home(),
    async (fresh) => {
      await checkPrograms();
      const work = join(fresh, 'work');
      const version = await fetchSource(work, log);
      const source = join(work, `linux-source-${series}`);
      await make(source, work, log);
      await copyFile(join(source, 'arch/x86/boot/bzImage'), join(fresh, 'vmlinuz'));
      await copyFile(join(source, '.config'), join(fresh, 'config'));
      await rm(work, { recursive: true });
      await writeManifest(fresh, { name: `linux-source-${series}`, version });
    },
    { refresh: options.refresh ?? false, log },
  );
  return builtKernel();
}

async function checkPrograms(): Promise<void> {
  if (!PrivateApt.available()) {
    throw new LabError('LAB_UNSUPPORTED_HOST', 'the kernel is built from a Debian package, and this is no Debian', {
      hint: `build one with the options of lab/kernel-config.ts, and give it as --kernel PATH`,
    });
  }
  for (const program of programs) {
    await run('sh', ['-c', 'command -v "$1"', 'sh', program], {
      hint: `${program} is missing: sudo apt-get install gcc make binutils tar xz-utils perl`,
    });
  }
}

async function fetchSource(work: string, log: Log): Promise<string> {
  const name = `linux-source-${series}`;
  const apt = new PrivateApt('bookworm', log);
  await mkdir(work);
  await apt.fetch([name, ...tools], work);
  log(`unpacking ${name}`);
  await run('tar', ['-xf', join(work, 'usr/src', `${name}.tar.xz`), '-C', work], { code: 'LAB_FETCH_FAILED' });
  return (await apt.version(name)) ?? '?';
}

async function make(source: string, work: string, log: Log): Promise<void> {
  const libraries = join(work, 'usr/lib/x86_64-linux-gnu');
  const env = {
    ...process.env,
    PATH: `${join(work, 'usr/bin')}:${process.env.PATH ?? ''}`,
    M4: join(work, 'usr/bin/m4'),
    BISON_PKGDATADIR: join(work, 'usr/share/bison'),
    LD_LIBRARY_PATH: libraries,
    LIBRARY_PATH: libraries,
    C_INCLUDE_PATH: join(work, 'usr/include'),
    KCONFIG_ALLCONFIG: join(work, 'fragment'),
    KBUILD_BUILD_USER: 'causeway',
    KBUILD_BUILD_HOST: 'lab',
  };
  await writeFile(env.KCONFIG_ALLCONFIG, kernelConfig());
  await run('make', ['-s', 'allnoconfig'], { cwd: source, env });
  const missing = missingOptions(await readFile(join(source, '.config'), 'utf8'));
  if (missing.length > 0) {
    throw new LabError('LAB_UNSUPPORTED_HOST', `Linux ${series} does not take ${missing.join(', ')} as configured`);
  }
  log(`compiling Linux ${series} at low priority: ten minutes on two idle processors`);
  let files = 0;
  // Whoever waits for a lab meanwhile comes first.
  await run('nice', ['-n', '19', 'make', `-j${availableParallelism()}`, 'bzImage'], {
    cwd: source,
    env,
    onLine: (line) => {
      if (!/^\s+(CC|AS)\s/.test(line)) return;
      files += 1;
      if (files % told === 0) log(`  ${files} files`);
    },
  });
}
