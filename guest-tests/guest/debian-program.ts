/** A program of Debian with the libraries that it needs, as files for a guest. */
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { PrivateApt } from '../../lab/apt.ts';
import { cacheRoot, materialise } from '../../lab/cache.ts';
import type { ImageFile } from '../../lab/index.ts';
import { run } from '../../lab/run.ts';

const LIBRARIES = 'lib/x86_64-linux-gnu';
const LOADER = 'ld-linux-x86-64.so.2';

/**
 * Kept in the cache of packages. @param path inside the package, such as `sbin/ethtool`
 * @returns files by their path in the guest, the program in /bin; undefined where it is not in the cache and cannot be fetched
 */
export async function debianProgram(name: string, path: string): Promise<Record<string, ImageFile> | undefined> {
  const folder = join(cacheRoot(), 'packages', name);
  if (!existsSync(folder)) {
    if (!PrivateApt.available()) return undefined;
    try {
      await materialise(folder, (fresh) => new PrivateApt('bookworm', () => {}).fetchClosure([name], fresh));
    } catch {
      return undefined;
    }
  }
  const loader = join(folder, LIBRARIES, LOADER);
  const folders = [LIBRARIES, `usr/${LIBRARIES}`].map((one) => join(folder, one)).join(':');
  const listed = await run(loader, ['--library-path', folders, '--list', join(folder, path)]);
  // "libmnl.so.0 => /cache/.../libmnl.so.0 (0x...)"; what the kernel provides has no path.
  const libraries = [...listed.toString().matchAll(/=> (\/\S+)/g)].map(([, file]) => file!);
  return {
    // Where busybox is: a folder of its own would take the place of the link that /sbin is.
    [`/bin/${basename(path)}`]: { from: join(folder, path), mode: 0o755 },
    [`/lib64/${LOADER}`]: { from: loader, mode: 0o755 },
    ...Object.fromEntries(
      libraries
        .filter((file) => basename(file) !== LOADER)
        .map((file) => [`/${LIBRARIES}/${basename(file)}`, { from: file, mode: 0o755 }]),
    ),
  };
}
