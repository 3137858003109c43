/** Where the programs are that the tests run inside the lab. The lab sees this repository at the same paths. */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const DIST = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'dist');

/** The command line's entry. */
export const CLI: string = join(DIST, '../build/cli/main.js');

/** A file of `guest-tests`, compiled: its path there without extension. */
export function compiled(path: string): string {
  return join(DIST, 'guest-tests', `${path}.js`);
}

/** A program of `guest-tests/inside`. */
export function insideProgram(name: string): string {
  return compiled(`inside/${name}`);
}
