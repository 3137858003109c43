/**
 * Builds the addon with g++ alone: no node-gyp, no Python, no download. Run it directly, or import `buildAddon`.
 * Safe when several processes build at once: every file is written under a temporary name and renamed.
 */

import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const require = createRequire(import.meta.url);
const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const sourceDir = join(here, 'src');
const buildDir = join(root, 'build');
const objectDir = join(buildDir, 'obj');

const COMPILER = process.env.CXX ?? 'g++';
// NODELETE: the epoll thread outlives the worker that loaded the addon last.
const LINK_FLAGS = ['-shared', '-pthread', '-Wl,-z,nodelete', '-Wl,-z,now'];
const COMPILE_FLAGS = [
  '-std=c++17',
  '-O2',
  '-fPIC',
  '-pthread',
  '-fvisibility=hidden',
  '-Wall',
  '-Wextra',
  '-Werror',
  '-DNAPI_VERSION=8',
  '-DNODE_ADDON_API_CPP_EXCEPTIONS',
];

/** The file that {@link buildAddon} makes. */
export const addonPath = join(buildDir, 'causeway.node');

/**
 * Compiles and links what changed.
 * @param {{ force?: boolean, log?: (line: string) => void }} [options]
 * @returns {Promise<string>} the path of the addon
 * @throws Error that says what to install when the compiler or a header is missing
 */
export async function buildAddon({ force = false, log = () => {} } = {}) {
  const units = readdirSync(sourceDir)
    .filter((name) => name.endsWith('.cc'))
    .sort();
  const headers = readdirSync(sourceDir)
    .filter((name) => name.endsWith('.h'))
    .sort();
  const common = hashOf([
    COMPILER,
    ...COMPILE_FLAGS,
    ...LINK_FLAGS,
    require('node-addon-api/package.json').version,
    require('node-api-headers/package.json').version,
    process.arch,
    ...headers.map((name) => readFileSync(join(sourceDir, name), 'utf8')),
  ]);
  const objects = units.map((name) => {
    const hash = hashOf([common, name, readFileSync(join(sourceDir, name), 'utf8')]);
    return { source: join(sourceDir, name), name, object: join(objectDir, `${name}.${hash}.o`) };
  });
  const stamp = hashOf(objects.map((unit) => unit.object));
  const stampPath = `${addonPath}.hash`;
  if (!force && existsSync(addonPath) && existsSync(stampPath) && readFileSync(stampPath, 'utf8') === stamp) {
    return addonPath;
  }
  mkdirSync(objectDir, { recursive: true });
  await checkCompiler();
  const started = Date.now();
  const missing = objects.filter((unit) => force || !existsSync(unit.object));
  log(`native: compiling ${missing.length} of ${objects.length} files with ${COMPILER}`);
  await eachParallel(missing, compile);
  const temporary = `${addonPath}.${process.pid}`;
  await run(COMPILER, [...LINK_FLAGS, '-o', temporary, ...objects.map((unit) => unit.object)]);
  renameSync(temporary, addonPath);
  writeAtomically(stampPath, stamp);
  prune(objects.map((unit) => unit.object));
  log(`native: built ${addonPath} in ${((Date.now() - started) / 1000).toFixed(1)} s`);
  return addonPath;
}

async function compile({ source, object }) {
  const temporary = `${object}.${process.pid}`;
  const includes = [
    require('node-api-headers').include_dir,
    dirname(require.resolve('node-addon-api/package.json')),
  ].flatMap((directory) => ['-isystem', directory]);
  await run(COMPILER, [...COMPILE_FLAGS, ...includes, '-c', source, '-o', temporary], { maxBuffer: 1 << 26 });
  renameSync(temporary, object);
}

async function checkCompiler() {
  try {
    await run(COMPILER, ['--version']);
  } catch (cause) {
    throw new Error(`${COMPILER} not found: the addon needs a C++17 compiler. Debian, Ubuntu: apt-get install g++`, {
      cause,
    });
  }
  for (const header of ['/usr/include/linux/kvm.h', '/usr/include/linux/vfio.h']) {
    if (!existsSync(header)) {
      throw new Error(`${header} not found. Debian, Ubuntu: apt-get install linux-libc-dev; Fedora: kernel-headers`);
    }
  }
}

async function eachParallel(items, work) {
  const queue = [...items];
  const lanes = Array.from({ length: availableParallelism() }, async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  });
  await Promise.all(lanes);
}

/** Old objects of the same sources only; a file of a build that runs beside this one has a process id at its end. */
function prune(current) {
  for (const name of readdirSync(objectDir)) {
    if (name.endsWith('.o') && !current.includes(join(objectDir, name))) rmSync(join(objectDir, name), { force: true });
  }
}

function writeAtomically(path, text) {
  writeFileSync(`${path}.${process.pid}`, text);
  renameSync(`${path}.${process.pid}`, path);
}

function hashOf(parts) {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part).update('\0');
  return hash.digest('hex').slice(0, 32);
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    await buildAddon({ force: process.argv.includes('--force'), log: (line) => console.log(line) });
  } catch (error) {
    console.error(error.stderr ?? error.message);
    process.exitCode = 1;
  }
}
