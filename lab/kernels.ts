import { existsSync } from 'node:fs';
import { open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { cacheRoot, materialise } from './cache.ts';
import { LabError } from './errors.ts';
import { debianKernel, type FetchOptions, runningKernel } from './packages.ts';
import { run } from './run.ts';

/** A Linux kernel on the host's disk. */
export interface Kernel {
  /** What `uname -r` says under it. */
  readonly version: string;
  /** The distribution's version of the package, or `version` when there is no package. */
  readonly packageVersion: string;
  /** The bzImage. */
  readonly vmlinuz: string;
  /** `lib/modules/<version>`; undefined for a kernel that has everything built in. */
  readonly modulesDir: string | undefined;
  /** The build configuration, where known. */
  readonly config: string | undefined;
}

/** A kernel by name: a Debian series (`6.1`, `6.12`), `host` for the running one, or a path (see `kernelAt`). */
export async function findKernel(name: string, options: FetchOptions = {}): Promise<Kernel> {
  if (name === 'host') return runningKernel();
  if (/^\d+\.\d+$/.test(name)) return debianKernel(name, options);
  return kernelAt(name);
}

/**
 * The kernel at a path: a bzImage, or a directory that holds `vmlinuz*` or `boot/vmlinuz*`. Its modules are looked for in
 * `lib/modules/<version>` beside it, one level up, and on the host.
 */
export async function kernelAt(path: string): Promise<Kernel> {
  const vmlinuz = await imageAt(resolve(path));
  const version = await imageVersion(vmlinuz);
  const near = dirname(vmlinuz);
  const roots = [near, dirname(near), '/'];
  const modulesDir = roots.map((root) => join(root, 'lib/modules', version)).find((one) => existsSync(one));
  const config = [join(near, `config-${version}`), join(near, 'config'), join(near, '.config')].find((one) =>
    existsSync(one),
  );
  return { version, packageVersion: version, vmlinuz, modulesDir, config };
}

async function imageAt(path: string): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isFile()) return path;
  for (const directory of found?.isDirectory() ? [path, join(path, 'boot')] : []) {
    const name = (await readdir(directory).catch(() => [])).find((one) => /^(vmlinuz|bzImage)/.test(one));
    if (name !== undefined) return join(directory, name);
  }
  throw new LabError('LAB_USAGE', `there is no kernel image at ${path}`, {
    hint: 'give a series such as 6.1 or 6.12, "host", or the path of a bzImage',
  });
}

/** The release string that the header of a bzImage carries. */
export async function imageVersion(vmlinuz: string): Promise<string> {
  const file = await open(vmlinuz);
  try {
    const head = Buffer.alloc(0x10000);
    await file.read(head, 0, head.length, 0);
    if (head.toString('latin1', 0x202, 0x206) !== 'HdrS') throw notAnImage(vmlinuz);
    const at = head.readUInt16LE(0x20e) + 0x200;
    return head.toString('latin1', at, head.indexOf(0, at)).split(' ')[0] ?? '';
  } finally {
    await file.close();
  }
}

/**
 * The kernel proper (ELF) inside a bzImage, unpacked once into the cache. Under emulation the host unpacks it far faster
 * than the machine would. Undefined when the image is packed in a way this host cannot undo: then boot the image.
 */
export async function unpackedImage(vmlinuz: string): Promise<string | undefined> {
  const { mtimeMs, size } = await stat(vmlinuz);
  const key = `${await imageVersion(vmlinuz)}-${size.toString(36)}-${Math.round(mtimeMs).toString(36)}`;
  try {
    const directory = await materialise(join(cacheRoot(), 'vmlinux', key), async (fresh) => {
      await writeFile(join(fresh, 'vmlinux'), await unpack(await readFile(vmlinuz), vmlinuz, fresh));
    });
    return join(directory, 'vmlinux');
  } catch {
    return undefined;
  }
}

async function unpack(image: Buffer, path: string, scratch: string): Promise<Buffer> {
  const setupSectors = image[0x1f1] || 4;
  const start = (setupSectors + 1) * 512 + image.readUInt32LE(0x248);
  const payload = image.subarray(start, start + image.readUInt32LE(0x24c));
  // All formats but gzip carry the unpacked size in four bytes at the end, which the unpackers would call garbage.
  const packed = join(scratch, 'payload');
  const magic = payload.readUInt32BE(0);
  await writeFile(packed, payload.subarray(0, -4));
  let kernel: Buffer;
  if (magic >>> 16 === 0x1f8b) kernel = gunzipSync(payload);
  else if (magic === 0xfd377a58) kernel = await run('xz', ['-dc', '--single-stream', packed]);
  else if (magic === 0x28b52ffd) kernel = await run('zstd', ['-dcq', packed]);
  else if (magic === 0x02214c18) kernel = await run('lz4', ['-dcq', packed]);
  else throw notAnImage(path);
  if (kernel.readUInt32BE(0) !== 0x7f454c46) throw notAnImage(path);
  await rm(packed);
  return kernel;
}

function notAnImage(path: string): LabError {
  return new LabError('LAB_USAGE', `${path} is not a bzImage this program understands`);
}
