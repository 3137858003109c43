/** Finds and loads test files: those that come with Causeway by their name, others by their path. */
import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { CausewayError } from '../../../vmm/base/errors.ts';
import { collect } from '../registry.ts';
import type { Suite } from '../run/plan.ts';

const HERE = dirname(fileURLToPath(import.meta.url));
/** `.ts` in the source tree, `.js` in `dist/`. */
const OWN_EXTENSION = extname(import.meta.url);
const OWN_TESTS = join(HERE, '../..');
const SUITES = join(OWN_TESTS, 'suites');
const ENTRY = join(HERE, `../index${OWN_EXTENSION}`);
const EXTENSIONS = ['.ts', '.mts', '.js', '.mjs'];

/** Names of the suites that come with Causeway. */
export function builtInSuites(folder: string = SUITES): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => name.endsWith(OWN_EXTENSION) && !/\.(test|d)\.[jt]s$/.test(name))
    .map((name) => basename(name, OWN_EXTENSION))
    .sort();
}

/**
 * @param words names and paths; empty: every suite
 * @throws CausewayError CONFIG_INVALID with everything that cannot be found or loaded
 */
export async function loadSuites(words: readonly string[], folder: string = SUITES): Promise<Suite[]> {
  const known = builtInSuites(folder);
  const faults: string[] = [];
  const suites: Suite[] = [];
  for (const word of words.length > 0 ? words : known) {
    try {
      const file = known.includes(word) ? join(folder, `${word}${OWN_EXTENSION}`) : userFile(word, known);
      const tests = await collect(() => importFile(file));
      const name = basename(file).replace(/(\.test)?\.m?[jt]s$/, '');
      if (tests.length === 0) throw new Error('it declares no test');
      if (suites.some((suite) => suite.name === name)) throw new Error(`there is another suite called "${name}"`);
      suites.push({ name, tests });
    } catch (error) {
      faults.push(`${word}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  if (faults.length > 0) {
    throw new CausewayError('CONFIG_INVALID', faults.join('\n'), { hint: `suites: ${known.join(', ') || 'none'}` });
  }
  return suites;
}

function userFile(word: string, known: readonly string[]): string {
  const file = resolve(word);
  if (!existsSync(file))
    throw new Error(`no suite has that name and no file that path; suites: ${known.join(', ') || 'none'}`);
  if (!EXTENSIONS.includes(extname(file))) throw new Error(`its name must end in ${EXTENSIONS.join(', ')}`);
  return file;
}

/** TypeScript goes through jiti, which also finds `causeway/test` for a file that lies anywhere. Our own is compiled. */
async function importFile(file: string): Promise<unknown> {
  if (file.startsWith(OWN_TESTS) && OWN_EXTENSION === '.js') return import(pathToFileURL(file).href);
  const { createJiti } = await import('jiti');
  return createJiti(import.meta.url, { fsCache: false, moduleCache: false, alias: { 'causeway/test': ENTRY } }).import(
    file,
  );
}
