/** What is kept by test and not by review: import direction, file length, types, documents, the lockfile. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { ERROR_CODES } from '../vmm/base/errors.ts';
import { errorsDocument } from '../vmm/cli/reference.ts';
import { findCycles, ROOT, type SourceFile, sourceFiles } from './source-tree.ts';

const MAX_LINES = 600;
const WARN_LINES = 400;

/** Layers from the bottom up. A file may import from its own layer and from those below. */
const LAYERS: readonly (readonly [string, RegExp])[] = [
  ['native, proto', /^(native|proto)\//],
  ['parts of the machine', /^vmm\/(base|memory|cpu|irq|bus|pci|devices|boot|acpi|config)\//],
  ['machine', /^vmm\/[^/]+\.ts$/],
  ['passthrough', /^passthrough\//],
  ['control', /^vmm\/control\//],
  ['cli', /^vmm\/cli\//],
  ['the public entry', /^index\.ts$/],
  ['users', /^(guest-tests|examples|bench|lab)\//],
  ['programs', /^bin\//],
];

const files = sourceFiles();

function layerOf(path: string): number {
  return LAYERS.findIndex(([, pattern]) => pattern.test(path));
}

/** Scripts and configuration of tools stand outside; a test may look wherever it likes. */
function isLayered(file: SourceFile): boolean {
  return layerOf(file.path) >= 0 && !/\.test\.ts$/.test(file.path);
}

test('every source file belongs to a layer', () => {
  const outside = files.filter(({ path }) => layerOf(path) < 0 && !/^(scripts\/|[^/]+\.config\.ts$)/.test(path));
  expect(outside.map(({ path }) => path)).toEqual([]);
});

test('imports point down', () => {
  const wrong = files
    .filter(isLayered)
    .flatMap(({ path, imports }) =>
      imports
        .filter((target) => layerOf(target) > layerOf(path))
        .map((target) => `${path} (${LAYERS[layerOf(path)]![0]}) -> ${target} (${LAYERS[layerOf(target)]![0]})`),
    );
  expect(wrong).toEqual([]);
});

test('no folders import each other in a circle', () => {
  const graph = new Map<string, Set<string>>();
  for (const { path, imports } of files.filter(isLayered)) {
    const from = dirname(path);
    const targets = graph.get(from) ?? new Set<string>();
    graph.set(from, targets);
    for (const target of imports) if (areApart(from, dirname(target))) targets.add(dirname(target));
  }
  expect(findCycles(graph).map((cycle) => cycle.join(' -> '))).toEqual([]);
});

/** A folder and what it holds are one thing seen from two sides: only neighbours can be in each other's way. */
function areApart(a: string, b: string): boolean {
  return a !== b && !a.startsWith(`${b}/`) && !b.startsWith(`${a}/`);
}

test('no files load each other in a circle', () => {
  const graph = new Map(files.map(({ path, loads }) => [path, new Set(loads)]));
  expect(findCycles(graph).map((cycle) => cycle.join(' -> '))).toEqual([]);
});

test('no file is too long', () => {
  const long = files.filter(({ lines }) => lines > WARN_LINES).map(({ path, lines }) => `${path}: ${lines} lines`);
  if (long.length > 0) console.warn(`over ${WARN_LINES} lines:\n  ${long.join('\n  ')}`);
  expect(files.filter(({ lines }) => lines > MAX_LINES).map(({ path }) => path)).toEqual([]);
});

test('nothing is typed any', () => {
  const pattern = /(:\s*any\b(?!thing)|\bas any\b|<any>|\bany\[\]|@ts-ignore|@ts-nocheck)/;
  const code = files.filter(({ path }) => path.endsWith('.ts') && path !== 'scripts/structure.test.ts');
  const found = code.flatMap(({ path, text }) =>
    text.split('\n').flatMap((line, i) => {
      const isComment = /^\s*(\*|\/\/|\/\*)/.test(line);
      return !isComment && pattern.test(line) ? [`${path}:${i + 1}: ${line.trim()}`] : [];
    }),
  );
  expect(found).toEqual([]);
});

test('docs/errors.md is what the source says, with a row for every code', () => {
  const document = readFileSync(join(ROOT, 'docs/errors.md'), 'utf8');
  for (const code of Object.keys(ERROR_CODES)) expect(document).toContain(`| \`${code}\` |`);
  expect(document, 'stale: npm run build && node scripts/generate-docs.mjs').toBe(errorsDocument());
});

/** Codes that stand in the table ahead of the code that will throw them. None may be added. */
const NOT_THROWN_YET = ['ADDON_MISSING', 'DEVICE_LOST', 'DEVICE_RESET_FAILED', 'GUEST_CRASHED', 'REBOOT_LIMIT'];

test('every error code is thrown somewhere', () => {
  const code = files.filter(({ path }) => path !== 'vmm/base/errors.ts' && !path.endsWith('.test.ts'));
  const unused = Object.keys(ERROR_CODES).filter((name) => !code.some(({ text }) => text.includes(`'${name}'`)));
  expect(unused.filter((name) => !NOT_THROWN_YET.includes(name))).toEqual([]);
});

test('no package of the lockfile runs a script when it is installed', () => {
  const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { hasInstallScript?: boolean; optional?: boolean; resolved?: string }>;
  };
  // Only for macOS, and so never installed here.
  const allowed = ['node_modules/fsevents'];
  const found = Object.entries(packages).filter(([path, entry]) => entry.hasInstallScript && !allowed.includes(path));
  expect(found.map(([path]) => path)).toEqual([]);
});

test('the lockfile holds every optional package it mentions, for other platforms too', () => {
  const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { optionalDependencies?: Record<string, string> }>;
  };
  // npm leaves out what its registry could not give at the time, and `npm ci` then refuses the lockfile.
  const mentioned = Object.values(packages).flatMap((entry) => Object.keys(entry.optionalDependencies ?? {}));
  expect(mentioned.filter((name) => packages[`node_modules/${name}`] === undefined)).toEqual([]);
});

test('the lockfile names no registry but the public one', () => {
  const lock = readFileSync(join(ROOT, 'package-lock.json'), 'utf8');
  const hosts = new Set([...lock.matchAll(/"resolved": "(https?:\/\/[^/]+)/g)].map(([, host]) => host));
  expect([...hosts].filter((host) => host !== 'https://registry.npmjs.org')).toEqual([]);
});
