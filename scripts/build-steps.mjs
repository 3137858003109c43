/** From a clone to a build: npm packages, TypeScript, the addon. Each step does nothing when its result is current. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { bundleCli } from './bundle.mjs';
import { Failure, ROOT, runProgram, say } from './host.mjs';

const NOT_SOURCE = new Set(['node_modules', 'dist', 'build', 'coverage', '.git', '.cache']);
const DIST = join(ROOT, 'dist');
const STAMP = join(DIST, '.built');

/** `npm ci`, when what is installed is not what the lockfile says. */
export async function installPackages() {
  if (packagesAreCurrent()) return;
  say('installing npm packages (npm ci)');
  const args = ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'];
  const status = await runProgram('npm', args, { stdio: ['ignore', 2, 2] });
  if (status !== 0) throw new Failure('npm ci failed');
}

/** Compares versions, not times: a checkout touches the lockfile without changing it. */
function packagesAreCurrent() {
  const installedFile = join(ROOT, 'node_modules', '.package-lock.json');
  if (!existsSync(installedFile)) return false;
  const wanted = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')).packages;
  const installed = JSON.parse(readFileSync(installedFile, 'utf8')).packages;
  return Object.entries(wanted).every(([path, { version, optional, devOptional, peer }]) => {
    if (path === '' || (installed[path] === undefined && (optional || devOptional || peer))) return true;
    return installed[path]?.version === version;
  });
}

/** Compiles TypeScript into `dist/`, and bundles the command line from it into `build/cli/`. */
export async function compileTypeScript() {
  const sources = listSources(ROOT);
  const fingerprint = fingerprintOf(sources);
  if (existsSync(STAMP) && readFileSync(STAMP, 'utf8') === fingerprint) return bundleCli(fingerprint);
  say('compiling TypeScript');
  const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const status = await runProgram(process.execPath, [tsc, '-p', join(ROOT, 'tsconfig.json')], {
    stdio: ['ignore', 2, 2],
  });
  if (status !== 0) throw new Failure('TypeScript found errors; nothing was run');
  pruneOutput(sources);
  mkdirSync(DIST, { recursive: true });
  writeFileSync(STAMP, fingerprint);
  await bundleCli(fingerprint);
}

/** Builds `native/src` into the addon. */
export async function buildNative() {
  const builder = join(ROOT, 'native', 'build.mjs');
  if (!existsSync(builder)) throw new Failure('native/build.mjs is missing');
  const { buildAddon } = await import(pathToFileURL(builder).href);
  try {
    await buildAddon({ log: say });
  } catch (error) {
    throw new Failure(`the native addon could not be built: ${error.message}`);
  }
}

function listSources(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return NOT_SOURCE.has(entry.name) ? [] : listSources(path);
    return entry.name.endsWith('.ts') ? [path] : [];
  });
}

function fingerprintOf(sources) {
  const hash = createHash('sha256').update(process.version);
  for (const path of [...sources.sort(), join(ROOT, 'tsconfig.json'), join(ROOT, 'package-lock.json')]) {
    const { size, mtimeMs } = statSync(path, { throwIfNoEntry: false }) ?? { size: -1, mtimeMs: 0 };
    hash.update(`${path}\0${size}\0${mtimeMs}\n`);
  }
  return hash.digest('hex');
}

/** Removes output whose source is gone, so that a module that was deleted cannot be imported by accident. */
function pruneOutput(sources) {
  const stems = new Set(sources.map((path) => relative(ROOT, path).replace(/\.ts$/, '')));
  const visit = (folder) => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) visit(path);
      else if (/\.(js|js\.map|d\.ts)$/.test(entry.name)) {
        const stem = relative(DIST, path).replace(/\.(js\.map|js|d\.ts)$/, '');
        if (!stems.has(stem)) rmSync(path);
      }
    }
  };
  visit(DIST);
}
