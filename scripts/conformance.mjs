/**
 * docs/conformance.md: which test enforces which requirement. Requirements stand in conformance.json; a test says what it
 * enforces in a comment directly above it, `// Enforces A12, P3.`, and so does a row in a bare-metal payload's table of
 * tests, `/* Enforces A12. *\/`. Nothing else counts.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { ROOT } from './host.mjs';

const SKIPPED = new Set(['node_modules', 'dist', 'build', 'coverage', '.git', '.cache', 'generated']);
const MARKER = /^\s*(?:\/\/|\/\*) Enforces (.*?)(?: \*\/)?$/;
const LIST = /^[A-Z]\d+(?:, [A-Z]\d+)*\.$/;
const TEST = /^(\s*)(?:test|it)(?:\.\w+(?:\(\w+\))?)?(?:<.*>)?\(/;
const PAYLOAD_TEST = /^\s*\{"([^"]+)", \w+\},?/;
/** The marker's own test would find itself. */
const OWN_TEST = 'scripts/conformance.test.ts';

export function loadRequirements() {
  return JSON.parse(readFileSync(join(ROOT, 'scripts', 'conformance.json'), 'utf8'));
}

/** Every marker in the tests, and what is wrong with some. */
export function findMarkers(files = testFiles()) {
  const found = { marks: [], faults: [] };
  for (const { path, text } of files) scan(path, text.split('\n'), found);
  return found;
}

function scan(path, lines, { marks, faults }) {
  for (const [i, line] of lines.entries()) {
    const list = MARKER.exec(line)?.[1];
    if (list === undefined) {
      // Something that was meant as a marker must not pass for a remark.
      if (/^\s*(\/\/|\/\*)\s*enforces\b/i.test(line)) faults.push(`${path}:${i + 1}: "${line.trim()}" is no marker`);
      continue;
    }
    const name = path.endsWith('.c') ? PAYLOAD_TEST.exec(lines[i + 1])?.[1] : nameOfTest(lines, i + 1);
    if (!LIST.test(list))
      faults.push(`${path}:${i + 1}: "Enforces ${list}" is no list of numbers that ends with a period`);
    else if (name === undefined) faults.push(`${path}:${i + 1}: no test directly below the marker`);
    else for (const id of list.slice(0, -1).split(', ')) marks.push({ id, path, line: i + 1, name });
  }
}

/** The title of the test that begins on a line; of a table's test, what stands behind the table. */
function nameOfTest(lines, at) {
  const start = TEST.exec(lines[at] ?? '');
  if (!start) return undefined;
  const rest = lines.slice(at, at + 200).join('\n');
  const title = /\.(each|for)\b/.test(start[0]) ? /\)\(\s*(['"`])(.*?)\1/ : /^[^(]*\(\s*(['"`])(.*?)\1/;
  return title.exec(rest)?.[2];
}

function testFiles() {
  const files = [];
  const walk = (folder) => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) {
        if (!SKIPPED.has(entry.name)) walk(path);
      } else if (isTestFile(relative(ROOT, path))) {
        files.push({ path: relative(ROOT, path), text: readFileSync(path, 'utf8') });
      }
    }
  };
  walk(ROOT);
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}

function isTestFile(path) {
  if (path === OWN_TEST) return false;
  return path.endsWith('.test.ts') || /^guest-tests\/bare\/payloads\/[\w-]+\.c$/.test(path);
}

/** Where a test runs: against the scripted kernel or in the lab. */
export function isLabTest({ path }) {
  return path.startsWith('guest-tests/');
}

/** Everything that is wrong with requirements and markers together. */
export function conformanceFaults({ rows, open, noSilicon }, { marks, faults }) {
  const known = new Set(Object.keys(rows));
  const wrong = [...faults];
  for (const { id, path, line } of marks)
    if (!known.has(id)) wrong.push(`${path}:${line}: there is no requirement ${id}`);
  for (const id of [...Object.keys(open), ...Object.keys(noSilicon)]) {
    if (!known.has(id)) wrong.push(`conformance.json: there is no requirement ${id}`);
  }
  for (const id of known) {
    const tests = marks.filter((mark) => mark.id === id);
    if (id in open) continue;
    if (tests.length === 0) wrong.push(`${id} has no test and is not marked open`);
    else if (tests.every(isLabTest) && id in noSilicon) wrong.push(`${id} has no test against the scripted kernel`);
  }
  return wrong;
}

export function conformanceDocument(requirements = loadRequirements(), { marks } = findMarkers()) {
  const { sections, rows, open, noSilicon } = requirements;
  const ids = Object.keys(rows);
  const inLab = ids.filter((id) => marks.some((mark) => mark.id === id && isLabTest(mark)));
  const openIds = Object.keys(open);
  const parts = [
    '# Conformance',
    '',
    'What assigning a device must get right, and the tests that enforce it. Written by `scripts/generate-docs.mjs` from',
    '`scripts/conformance.json` and the markers in the tests: `// Enforces A12, P3.` directly above a test.',
    '',
    `${ids.length} requirements: ${ids.length - openIds.length} enforced, ${openIds.length} open${openIds.length > 0 ? ` (${openIds.join(', ')})` : ''}.`,
    `${inLab.length} have a test in the lab, on real VFIO, KVM and an emulated device; the others are enforced against the scripted kernel in \`native/fake/\`.`,
    'A lab test is one under `guest-tests/`.',
  ];
  for (const [letter, title] of Object.entries(sections)) {
    parts.push('', `## ${title}`, '', '| | Requirement | Enforced by |', '| --- | --- | --- |');
    for (const id of ids.filter((each) => each[0] === letter)) {
      parts.push(`| ${id} | ${cell(rows[id])} | ${evidence(id, marks, open[id], noSilicon[id])} |`);
    }
  }
  return `${parts.join('\n')}\n`;
}

function evidence(id, marks, open, noSilicon) {
  const tests = marks.filter((mark) => mark.id === id);
  const lines = tests.map(({ path, name }) => `[${path}](../${path}): ${cell(name)}`);
  if (open !== undefined) lines.unshift(`**Open:** ${cell(open)}`);
  if (noSilicon !== undefined) lines.push(`Not in the lab: ${cell(noSilicon)}`);
  return lines.join('<br>');
}

function cell(text) {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;');
}
