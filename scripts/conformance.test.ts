/** docs/conformance.md tells the truth: every number is known, every marker has its test, every row its enforcement. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import {
  conformanceDocument,
  conformanceFaults,
  findMarkers,
  loadRequirements,
  type Requirements,
} from './conformance.mjs';
import { ROOT } from './source-tree.ts';

/** The numbers of the assertions, by section, and of the pitfalls. */
const SECTIONS: readonly (readonly [string, number, number])[] = [
  ['A', 1, 12],
  ['B', 13, 19],
  ['C', 20, 36],
  ['D', 37, 48],
  ['E', 49, 61],
  ['F', 62, 67],
  ['G', 68, 75],
  ['H', 76, 83],
  ['I', 84, 88],
  ['P', 1, 55],
];

test('every requirement has its row', () => {
  const numbers = SECTIONS.flatMap(([letter, first, last]) =>
    Array.from({ length: last - first + 1 }, (_, i) => `${letter}${first + i}`),
  );
  const { rows, sections } = loadRequirements();
  expect(Object.keys(rows)).toEqual(numbers);
  expect(Object.keys(sections)).toEqual(SECTIONS.map(([letter]) => letter));
});

test('every marker stands above a test, and every row that is not open has one', () => {
  expect(conformanceFaults(loadRequirements(), findMarkers())).toEqual([]);
});

test('docs/conformance.md is what the markers say', () => {
  const document = readFileSync(join(ROOT, 'docs/conformance.md'), 'utf8');
  expect(document, 'stale: node scripts/generate-docs.mjs').toBe(conformanceDocument());
});

const REQUIREMENTS: Requirements = {
  sections: { A: 'First' },
  rows: { A1: 'one', A2: 'two' },
  open: {},
  noSilicon: {},
};
const faultsOf = (text: string, requirements = REQUIREMENTS, path = 'x.test.ts'): string[] =>
  conformanceFaults(requirements, findMarkers([{ path, text }]));

test('a marker names its test, behind a table too, and a payload’s row', () => {
  const { marks, faults } = findMarkers([
    {
      path: 'x.test.ts',
      text: "// Enforces A1.\ntest('plain', () => {});\n  // Enforces A1, A2.\n  test.each([\n    ['a', (b)],\n  ])('%s of a table', () => {});\n",
    },
    { path: 'guest-tests/bare/payloads/x.c', text: '\t\t/* Enforces A2. */\n\t\t{"in a guest", function},\n' },
  ]);
  expect(faults).toEqual([]);
  expect(marks.map(({ id, name }) => `${id} ${name}`)).toEqual([
    'A1 plain',
    'A1 %s of a table',
    'A2 %s of a table',
    'A2 in a guest',
  ]);
});

test.each([
  ["// Enforces A1, A2, A3.\ntest('x', () => {});", /no requirement A3/],
  ["// Enforces A1, A2.\n\ntest('x', () => {});", /no test directly below/],
  ['// Enforces A1, A2.\nconst x = 1;', /no test directly below/],
  ["// Enforces A1 and A2.\ntest('x', () => {});", /no list of numbers/],
  ["// Enforces A1, A2\ntest('x', () => {});", /no list of numbers/],
  ["// enforces A1, A2.\ntest('x', () => {});", /is no marker/],
  ["// Enforces A1.\ntest('x', () => {});", /A2 has no test and is not marked open/],
])('%j is refused', (text, message) => {
  expect(faultsOf(text).join('\n')).toMatch(message);
});

test('an open row needs no test, and one without silicon needs one outside the lab', () => {
  const text = "// Enforces A1.\ntest('x', () => {});";
  expect(faultsOf(text, { ...REQUIREMENTS, open: { A2: 'later' } })).toEqual([]);
  const lonely = { ...REQUIREMENTS, open: { A2: 'later' }, noSilicon: { A1: 'rare' } };
  expect(faultsOf(text, lonely, 'guest-tests/x.test.ts')).toEqual(['A1 has no test against the scripted kernel']);
  expect(faultsOf(text, lonely)).toEqual([]);
});
