/** Loads the addon: the real kernel behind the seam. Nothing above `native/` imports this but the composition root. */

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMainThread } from 'node:worker_threads';
import { hostFiles } from './host-files.ts';
import type { HostFiles, Native } from './types.ts';

export { isKernelError } from './kernel-error.ts';

/** What the binary exports: the seam without the files, and one call for the end of the process. */
interface Addon extends Omit<Native, keyof HostFiles> {
  /** Kicks every vCPU and makes every later `vcpuRun` return -EINTR at once. */
  stopAllVcpus(): void;
}

const loaded = new Map<string, Native>();

/**
 * The addon joined with {@link hostFiles}. One object per thread; the state behind it is one per process.
 * @param path the binary; by default `build/causeway.node` of this package
 * @throws Error that says how to build when the binary is missing
 */
export function loadNative(path: string = defaultPath()): Native {
  const known = loaded.get(path);
  if (known !== undefined) return known;
  if (!existsSync(path)) throw new Error(`${path} does not exist: run \`npm run build\` to compile the native addon`);
  const addon: Addon = createRequire(import.meta.url)(path);
  // Node joins its workers when the process exits; one that sits inside a guest would keep it for ever.
  if (isMainThread) process.once('exit', () => addon.stopAllVcpus());
  const { stopAllVcpus: _, ...calls } = addon;
  const native: Native = { ...calls, ...hostFiles };
  loaded.set(path, native);
  return native;
}

/** This file runs as `native/index.ts` and as `dist/native/index.js`; the package root is above both. */
function defaultPath(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) {
    const parent = dirname(directory);
    if (parent === directory) throw new Error('no package.json above the native layer');
    directory = parent;
  }
  return join(directory, 'build', 'causeway.node');
}
