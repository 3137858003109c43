import { existsSync } from 'node:fs';
import { open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { cacheRoot, materialise } from './cache.ts';
import { LabError } from './errors.ts';
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

/**
 * The kernel at a path: a bzImage, or a directory with a kernel as distributions lay it out (`vmlinuz*` in it, in `boot`
 * or in `lib/modules/<version>`). Its modules are looked for near it and on the host.
 */
export async function kernelAt(path: string): Promise<Kernel> {
  const vmlinuz = await imageAt(resolve(path));
  const version = await imageVersion(vmlinuz);
  const near = dirname(vmlinuz);
  const homes = [near, dirname(near), '/'].flatMap((root) => [
    join(root, 'lib/modules'),
    join(root, 'usr/lib/modules'),
  ]);
  // An image may also lie among its own modules.
  const modulesDir = [dirname(near), ...homes].map((home) => join(home, version)).find((one) => existsSync(one));
  const configs = [join(near, `config-${version}`), join(near, 'config'), join(near, '.config')];
  return { version, packageVersion: version, vmlinuz, modulesDir, config: configs.find((one) => existsSync(one)) };
}

async function imageAt(path: string): Promise<string> {
  const names = async (directory: string) => (await readdir(directory).catch(() => [])).sort();
  if ((await stat(path).catch(() => undefined))?.isFile()) return path;
  const directories = [path, join(path, 'boot')];
  for (const home of [join(path, 'lib/modules'), join(path, 'usr/lib/modules')]) {
    for (const version of await names(home)) directories.push(join(home, version));
  }
  for (const directory of directories) {
    const image = (await names(directory)).find((name) => /^(vmlinuz|bzImage)/.test(name));
    if (image !== undefined) return join(directory, image);
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
