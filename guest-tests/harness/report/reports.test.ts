/** Reports of one run that has everything in it. */
import { expect, test } from 'vitest';
import { type AttemptRecord, type RunRecord, SCHEMA, type TestRecord, totalsOf, VERDICTS } from '../model.ts';
import { summarise } from '../run/metrics.ts';
import type { PlannedGroup } from '../run/plan.ts';
import { compareRuns, describeComparison, readRun } from './compare.ts';
import { htmlReport } from './html.ts';
import { junitXml } from './junit.ts';
import { KtapReporter } from './ktap.ts';

const EVIL = '<script>alert("x")</script> & #1';

function attempt(more: Partial<AttemptRecord> = {}): AttemptRecord {
  return {
    verdict: 'PASS',
    durationMs: 1500,
    subtests: [],
    metrics: [],
    invariants: [{ name: 'device answers', ok: true }],
    log: [],
    artifacts: [],
    ...more,
  };
}

function record(name: string, verdict: TestRecord['verdict'], more: Partial<TestRecord> = {}): TestRecord {
  return {
    id: `suite/${name} @ 8086:10d3`,
    suite: 'suite',
    name,
    device: 'e1000e',
    verdict,
    durationMs: 1500,
    attempts: [attempt({ verdict })],
    ...more,
  };
}

const LATENCY = summarise('latency', [3, 4, 5, 6, 7, 900], { unit: 'us', better: 'lower' });
const RATE = summarise('throughput', [812.5], { unit: 'MB/s', better: 'higher' });

function run(tests: readonly TestRecord[]): RunRecord {
  const reset = { when: 'before test', method: 'function (pm)', ok: true, durationMs: 12, changed: [] };
  return {
    schema: SCHEMA,
    startedAt: '2026-11-22T23:00:00.000Z',
    durationMs: 61_000,
    host: { kernel: '6.1.0', node: '20.20.2', causeway: 'causeway 0.1.0' },
    devices: [
      {
        label: 'e1000e',
        key: '8086:10d3',
        bdf: '0000:01:00.0',
        name: EVIL,
        classCode: 0x020000,
        driver: 'e1000e',
        resetMethods: ['pm', 'bus'],
        configBefore: '8680d310'.repeat(64),
        configAfter: `8680d311${'8680d310'.repeat(63)}`,
        resets: [reset, { ...reset, ok: false, method: 'none: hot reset failed (EIO)' }],
        givenBack: true,
      },
    ],
    tests,
    totals: totalsOf(tests),
    exitCode: 1,
  };
}

const ALL = run([
  ...VERDICTS.map((verdict) =>
    record(`is ${verdict}`, verdict, verdict === 'PASS' ? {} : { reason: `because of ${EVIL}` }),
  ),
  record('together', 'PASS', { id: 'suite/together @ all', device: 'all devices' }),
  record('measures', 'PASS', { attempts: [attempt({ metrics: [LATENCY, RATE] })] }),
  record('steps', 'FAIL', {
    reason: 'two: odd\n    at file.ts:3',
    attempts: [attempt({ verdict: 'FAIL', subtests: [{ name: 'two', verdict: 'FAIL', reason: 'odd' }], log: [EVIL] })],
  }),
]);

test('KTAP: nested, one line a result, no stray directive', () => {
  let text = '';
  const ktap = new KtapReporter((piece) => {
    text += piece;
  });
  const group = { title: 'suite on e1000e', tests: ALL.tests } as unknown as PlannedGroup;
  ktap.plan([group]);
  ktap.groupBegins(group);
  for (const each of ALL.tests) ktap.testEnds(each);
  ktap.groupEnds(group, ALL.tests);
  expect(text).toBe(`KTAP version 1
1..1
  KTAP version 1
  # Subtest: suite on e1000e
  1..13
  ok 1 is PASS
  not ok 2 is FAIL # FAIL because of <script>alert("x")</script> & \\#1
  ok 3 is SKIP # SKIP because of <script>alert("x")</script> & \\#1
  ok 4 is XFAIL # XFAIL because of <script>alert("x")</script> & \\#1
  not ok 5 is XPASS # XPASS because of <script>alert("x")</script> & \\#1
  not ok 6 is TIMEOUT # TIMEOUT because of <script>alert("x")</script> & \\#1
  not ok 7 is CRASH # CRASH because of <script>alert("x")</script> & \\#1
  not ok 8 is HANG # HANG because of <script>alert("x")</script> & \\#1
  ok 9 is FLAKY # FLAKY because of <script>alert("x")</script> & \\#1
  not ok 10 is INFRA # INFRA because of <script>alert("x")</script> & \\#1
  ok 11 together
  # latency: p50 5 p99 900 max 900 us (6)
  # throughput: p50 812.5 p99 812.5 max 812.5 MB/s (1)
  ok 12 measures
    KTAP version 1
    # Subtest: steps
    1..1
    not ok 1 two # FAIL odd
  not ok 13 steps # FAIL two: odd | at file.ts:3
not ok 1 suite on e1000e
`);
});

test('JUnit: failures, errors and skipped are told apart', () => {
  const xml = junitXml(ALL);
  expect(xml).toContain('tests="13" failures="6" errors="1" skipped="2"');
  expect(xml).toContain(
    '<error type="INFRA" message="because of &lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; #1"/>',
  );
  expect(xml).not.toContain('<script>');
});

test('HTML: everything is in it, nothing is loaded, nothing is markup that was text', () => {
  const html = htmlReport(ALL);
  for (const verdict of VERDICTS) expect(html).toContain(`is ${verdict}`);
  expect(html).toContain('7 of 13 tests went wrong');
  for (const part of [
    'Reset report card',
    'Histogram of latency',
    'throughput',
    'Before and after',
    '<mark>11</mark>',
  ]) {
    expect(html).toContain(part);
  }
  expect(html, 'a column of its own').toContain('<th>all devices</th>');
  expect(html).not.toContain('<script');
  expect(html).not.toMatch(/(src|href)="(?!#)[a-z]*:?\/\//i);
  expect(html).not.toMatch(/url\(|@import|NaN|undefined|Infinity/);
  // Every link inside leads somewhere.
  const targets = new Set([...html.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id));
  for (const [, target] of html.matchAll(/href="#([^"]+)"/g)) expect(targets).toContain(target);
});

test('HTML of a run without anything', () => {
  const html = htmlReport({ ...run([]), devices: [] });
  expect(html).toContain('no test was run');
  expect(html).not.toMatch(/NaN|Infinity/);
});

test('compare: fixed, broken, new, gone, slower', () => {
  const slow = summarise('latency', [9, 9, 9], { unit: 'us', better: 'lower' });
  const fast = summarise('throughput', [1600], { unit: 'MB/s', better: 'higher' });
  const before = run([
    record('a', 'FAIL'),
    record('b', 'PASS'),
    record('c', 'PASS'),
    record('m', 'PASS', { attempts: [attempt({ metrics: [LATENCY, RATE] })] }),
  ]);
  const after = run([
    record('a', 'PASS'),
    record('b', 'CRASH', { reason: 'oops' }),
    record('d', 'SKIP'),
    record('m', 'PASS', { attempts: [attempt({ metrics: [slow, fast] })] }),
  ]);
  const comparison = compareRuns(before, readRun(JSON.stringify(after)));
  expect(describeComparison(comparison)).toBe(`broken: 1
  suite/b @ 8086:10d3: PASS -> CRASH (oops)
fixed: 1
  suite/a @ 8086:10d3: FAIL -> PASS
new: 1
  suite/d @ 8086:10d3: SKIP
gone: 1
  suite/c @ 8086:10d3: PASS
slower: 1
  suite/m @ 8086:10d3: latency 5 -> 9 us (x1.80)
faster: 1
  suite/m @ 8086:10d3: throughput 812.5 -> 1600 MB/s (x1.97)
`);
  expect(describeComparison(compareRuns(before, before))).toBe('nothing changed\n');
  expect(() => readRun('{}')).toThrow(/not a result/);
});
