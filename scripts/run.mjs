/**
 * What every npm script calls: makes sure that packages, compiler and build are there, then runs one target.
 * Plain JavaScript without dependencies, because on a fresh clone there are none.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { withBuildLock } from './build-lock.mjs';
import { buildNative, compileTypeScript, installPackages } from './build-steps.mjs';
import { checkNode, ensureToolchain, Failure, ROOT, say } from './host.mjs';
import { runTests } from './run-tests.mjs';

/** Targets that are a program of the build, run in this process so that signals and exit codes need no forwarding. */
const PROGRAMS = {
  demo: 'dist/lab/demo.js',
  lab: 'dist/lab/main.js',
  'lab:kernel': 'dist/lab/build-kernel.js',
  bench: 'dist/bench/main.js',
  'bench:devices': 'dist/bench/latency/main.js',
  causeway: 'build/cli/main.js',
  fuzz: 'dist/passthrough/fuzz/program.js',
};
const TESTS = { test: ['unit', 'lab'], 'test:unit': ['unit'], 'test:lab': ['lab'] };
const BUILDS = ['setup', 'build'];

async function prepare() {
  await withBuildLock(async () => {
    await installPackages();
    ensureToolchain();
    await compileTypeScript();
    await buildNative();
  });
}

async function main([target, ...args]) {
  checkNode();
  const known = [...Object.keys(PROGRAMS), ...Object.keys(TESTS), ...BUILDS];
  if (!known.includes(target)) {
    throw new Failure(`unknown target ${target ?? '(none)'}; known: ${known.join(', ')}`, 2);
  }
  await prepare();
  if (target in TESTS) return runTests(TESTS[target], args);
  if (!(target in PROGRAMS)) {
    say('ready');
    return 0;
  }
  const program = join(ROOT, PROGRAMS[target]);
  if (!existsSync(program)) throw new Failure(`${PROGRAMS[target]} does not exist: this part is not built yet`);
  process.argv = [process.argv[0], program, ...args];
  await import(pathToFileURL(program).href);
  return undefined;
}

try {
  const status = await main(process.argv.slice(2));
  if (status !== undefined) process.exitCode = status;
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  say(error.message);
  process.exitCode = error.status;
}
