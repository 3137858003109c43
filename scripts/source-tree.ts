/** The repository's TypeScript as the structure tests see it. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT: string = dirname(dirname(fileURLToPath(import.meta.url)));

const SKIPPED = new Set(['node_modules', 'dist', 'build', 'coverage', '.git', '.cache', 'generated']);

export interface SourceFile {
  /** Relative to the repository. */
  readonly path: string;
  readonly text: string;
  readonly lines: number;
  /** Files of the repository that it imports, types included, relative to the repository. */
  readonly imports: readonly string[];
  /** Those of them that remain when types are erased. */
  readonly loads: readonly string[];
}

/** Every `.ts` and `.mjs` file that is not generated. */
export function sourceFiles(folder: string = ROOT): SourceFile[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return SKIPPED.has(entry.name) ? [] : sourceFiles(path);
    if (!/\.(ts|mts|mjs)$/.test(entry.name)) return [];
    const text = readFileSync(path, 'utf8');
    const lines = text.split('\n').length - 1;
    const loads = importsOf(path, text.replaceAll(/\b(import|export) type [^;]*;/g, ''));
    return [{ path: relative(ROOT, path), text, lines, imports: importsOf(path, text), loads }];
  });
}

function importsOf(path: string, text: string): string[] {
  // `from './x.ts'`, `import './x.ts'` and `import('./x.ts')`: all that this code base writes.
  const specifiers = text.matchAll(/(?:\bfrom\s+|\bimport\s*\(?\s*)'(\.{1,2}\/[^']+)'/g);
  return [...specifiers].map(([, specifier]) => normalize(join(dirname(relative(ROOT, path)), specifier!)));
}

/** Cycles in a graph of names, each as the way round it; every cycle is found at least once. */
export function findCycles(graph: ReadonlyMap<string, ReadonlySet<string>>): string[][] {
  const cycles: string[][] = [];
  const done = new Set<string>();
  const visit = (node: string, way: readonly string[]): void => {
    const at = way.indexOf(node);
    if (at >= 0) {
      cycles.push([...way.slice(at), node]);
      return;
    }
    if (done.has(node)) return;
    for (const next of graph.get(node) ?? []) visit(next, [...way, node]);
    done.add(node);
  };
  for (const node of graph.keys()) visit(node, []);
  return cycles;
}
