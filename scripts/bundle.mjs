/**
 * Bundles the command line: some 150 modules become a handful of files, so that it starts quicker where opening a file
 * is slow. Two entries side by side, because a vCPU's thread finds its file beside the one that starts it.
 */
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, say } from './host.mjs';

const DIST = join(ROOT, 'dist');
const TARGET = join(ROOT, 'build', 'cli');
const STAMP = join(TARGET, '.built');

/**
 * What stands on top of the command line stays in `dist/`: it finds its own files at run time, and is loaded only for its own
 * command. Seen from `build/cli/`.
 */
const keepApart = {
  name: 'keep-apart',
  resolveId: (source) =>
    /[/]guest-tests[/]/.test(source) ? { id: `../../dist/${source.replace(/^(\.\.[/])+/, '')}`, external: true } : null,
};

/** @param fingerprint of what was compiled; a bundle of the same is kept */
export async function bundleCli(fingerprint) {
  if (existsSync(STAMP) && readFileSync(STAMP, 'utf8') === fingerprint) return;
  say('bundling the command line');
  const { rolldown } = await import('rolldown');
  const bundle = await rolldown({
    input: { main: join(DIST, 'bin/causeway.js'), 'vcpu-thread': join(DIST, 'vmm/cpu/vcpu-thread.js') },
    platform: 'node',
    // Finds its own files at run time.
    external: ['jiti'],
    plugins: [keepApart],
  });
  const fresh = `${TARGET}.${process.pid}`;
  await bundle.write({ dir: fresh, format: 'esm', entryFileNames: '[name].js', chunkFileNames: '[name]-[hash].js' });
  await bundle.close();
  writeFileSync(join(fresh, '.built'), fingerprint);
  rmSync(TARGET, { recursive: true, force: true });
  renameSync(fresh, TARGET);
}
