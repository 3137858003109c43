/**
 * Results of tests that others wrote: TAP 13 and 14, KTAP (kernel: Documentation/dev-tools/ktap.rst), JUnit XML, or nothing
 * but an exit code. A plan is held to: what it announces and has no result counts as failed, so that a torn line cannot pass.
 */
import type { SubtestRecord } from '../model.ts';

export type ForeignFormat = 'auto' | 'tap' | 'junit' | 'exit';

export interface ForeignReport {
  /** What it was taken for. */
  readonly format: Exclude<ForeignFormat, 'auto'>;
  readonly results: readonly SubtestRecord[];
}

export interface ForeignOutput {
  readonly text: string;
  readonly code: number;
  /** The code that means: skipped. */
  readonly skipCode?: number;
  /** What to call the whole. */
  readonly name: string;
}

/** kselftest's code for a skipped test (tools/testing/selftests/kselftest.h). */
const KSFT_SKIP = 4;

/** Never throws. */
export function parseForeign(output: ForeignOutput, format: ForeignFormat = 'auto'): ForeignReport {
  const { text } = output;
  const isJunit = format === 'junit' || (format === 'auto' && /<testsuites?[\s>]/.test(text));
  const isTap =
    format === 'tap' ||
    (format === 'auto' && /^\s*(?:K?TAP version \d+|(?:not )?ok (?:\d+|-)|1\.\.\d+\s*(?:#.*)?$)/m.test(text));
  if (isJunit) return withCode('junit', parseJunit(text), output);
  if (isTap) return withCode('tap', parseTap(text), output);
  return { format: 'exit', results: [exitResult(output)] };
}

/** A suite that prints nothing but passes and ends with an error has failed all the same. */
function withCode(format: 'tap' | 'junit', results: readonly SubtestRecord[], output: ForeignOutput): ForeignReport {
  const skipped = output.code === (output.skipCode ?? KSFT_SKIP);
  const hasFailed = results.some(({ verdict }) => verdict === 'FAIL');
  if (output.code === 0 || hasFailed || (skipped && results.length > 0)) {
    const none: SubtestRecord = { name: output.name, verdict: 'FAIL', reason: `no results in its ${format} output` };
    return { format, results: results.length > 0 ? results : [none] };
  }
  return { format, results: [...results, exitResult(output)] };
}

function exitResult({ name, code, skipCode = KSFT_SKIP, text }: ForeignOutput): SubtestRecord {
  if (code === 0) return { name, verdict: 'PASS' };
  const last = text.trimEnd().split('\n').at(-1)?.trim() ?? '';
  if (code === skipCode) return { name, verdict: 'SKIP', reason: last || `exit code ${code}` };
  return { name, verdict: 'FAIL', reason: `exit code ${code}${last ? `: ${last.slice(0, 200)}` : ''}` };
}

/** One level of a TAP document, while it is read. */
interface Level {
  readonly indent: number;
  planned: number | undefined;
  readonly numbers: Set<number>;
  /** Its results have numbers. */
  isNumbered: boolean;
}

/** Results of all levels; those of a nested level carry the name of the test that they belong to. */
function parseTap(text: string): SubtestRecord[] {
  const results: SubtestRecord[] = [];
  /** By level: results whose test, one level up, has not been named yet. */
  let pending: { readonly indent: number; readonly at: number }[] = [];
  const levels = new Map<number, Level>();
  const levelAt = (indent: number): Level => {
    const known = levels.get(indent);
    if (known) return known;
    const level: Level = { indent, planned: undefined, numbers: new Set(), isNumbered: false };
    levels.set(indent, level);
    return level;
  };
  const close = (indent: number): void => {
    for (const [at, level] of [...levels]) {
      if (at < indent) continue;
      results.push(...missingOf(level));
      levels.delete(at);
    }
  };
  for (const line of text.split(/\r?\n/)) {
    const indent = /^\s*/.exec(line)![0].length;
    const words = line.trim();
    const plan = /^1\.\.(\d+)(?:\s+#\s*(SKIP\b.*))?/i.exec(words);
    const result = /^(not )?ok\b\s*(\d+)?\s*-?\s*(.*)$/.exec(words);
    const bail = /^Bail out!\s*(.*)$/.exec(words);
    if (plan) {
      const level = levelAt(indent);
      level.planned = Number(plan[1]);
      if (level.planned === 0)
        results.push({ name: 'all', verdict: 'SKIP', reason: plan[2]?.slice(4).trim() || 'empty plan' });
    } else if (bail) {
      results.push({ name: 'bail out', verdict: 'FAIL', reason: bail[1] || 'no reason given' });
    } else if (result && !isTorn(result[2], result[3]!, levels.get(indent))) {
      // What is deeper belongs to this test.
      const nested = pending.filter((each) => each.indent > indent).map(({ at }) => at);
      close(indent + 1);
      const level = levelAt(indent);
      if (result[2] !== undefined) level.isNumbered = true;
      if (result[2] !== undefined) level.numbers.add(Number(result[2]));
      else level.numbers.add(level.numbers.size + 1);
      const record = readResult(result[1] !== undefined, result[3]!);
      pending = pending.filter((each) => each.indent <= indent);
      for (const at of nested) results[at] = { ...results[at]!, name: `${record.name}: ${results[at]!.name}` };
      for (const at of nested) pending.push({ indent, at });
      // A test that has subtests is their sum: told only when they do not say what went wrong.
      const explained = nested.some((at) => results[at]!.verdict === 'FAIL') || record.verdict !== 'FAIL';
      if (nested.length > 0 && explained) continue;
      pending.push({ indent, at: results.length });
      results.push(record);
    }
  }
  close(0);
  return results;
}

/** Numbers may be left out, but then in all of a level; a line of the kernel's log in their place has torn a result. */
function isTorn(number: string | undefined, text: string, level: Level | undefined): boolean {
  if (number !== undefined) return false;
  return /^\[\s*\d+\.\d+\]/.test(text) || (level?.isNumbered ?? false);
}

function missingOf({ planned, numbers }: Level): SubtestRecord[] {
  if (planned === undefined) return [];
  return Array.from({ length: Math.min(planned, 10_000) }, (_, i) => i + 1)
    .filter((number) => !numbers.has(number))
    .map((number) => ({
      name: `test ${number}`,
      verdict: 'FAIL',
      reason: `planned (1..${planned}), and no result was seen`,
    }));
}

/** `name`, `name # SKIP why`, `name # TODO why`. */
function readResult(failed: boolean, text: string): SubtestRecord {
  const [, name = '', directive, why = ''] =
    /^(.*?)(?:\s*#\s*(SKIP|TODO|XFAIL|TIMEOUT|ERROR)\b:?\s*(.*))?$/i.exec(text) ?? [];
  const called = name.trim() || 'unnamed';
  switch (directive?.toUpperCase()) {
    case 'SKIP':
      return { name: called, verdict: 'SKIP', reason: why || 'no reason given' };
    case 'TODO':
    case 'XFAIL':
      return failed || directive?.toUpperCase() === 'XFAIL'
        ? { name: called, verdict: 'XFAIL', reason: why || 'no reason given' }
        : { name: called, verdict: 'PASS' };
    default:
      return failed
        ? { name: called, verdict: 'FAIL', reason: [directive, why].filter(Boolean).join(' ') || 'not ok' }
        : { name: called, verdict: 'PASS' };
  }
}

/** Enough of XML for what test programs write: cases with a failure, error or skipped element. */
function parseJunit(text: string): SubtestRecord[] {
  const results: SubtestRecord[] = [];
  for (const match of text.matchAll(/<testcase\b([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g)) {
    const [, attributes = '', body = ''] = match;
    const name =
      [attribute(attributes, 'classname'), attribute(attributes, 'name')].filter(Boolean).join('.') || 'unnamed';
    const seconds = Number(attribute(attributes, 'time') ?? Number.NaN);
    const durationMs = Number.isFinite(seconds) ? { durationMs: seconds * 1000 } : {};
    const [, kind, more = ''] = /<(failure|error|skipped)\b([^>]*)/.exec(body) ?? [];
    const reason =
      attribute(more, 'message') ??
      body
        .replaceAll(/<[^>]*>/g, ' ')
        .trim()
        .slice(0, 200);
    if (kind === 'skipped') results.push({ name, verdict: 'SKIP', reason: reason || 'no reason given', ...durationMs });
    else if (kind) results.push({ name, verdict: 'FAIL', reason: reason || kind, ...durationMs });
    else results.push({ name, verdict: 'PASS', ...durationMs });
  }
  return results;
}

function attribute(text: string, name: string): string | undefined {
  const match = new RegExp(`\\b${name}=(?:"([^"]*)"|'([^']*)')`).exec(text);
  const value = match?.[1] ?? match?.[2];
  return value
    ?.replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&apos;', "'")
    .replaceAll('&amp;', '&');
}
