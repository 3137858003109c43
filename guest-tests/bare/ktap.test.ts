import { expect, test } from 'vitest';
import { parseKtap } from './ktap.ts';

test('plan, verdicts, reasons, durations and metrics', () => {
  const report = parseKtap(
    [
      'KTAP version 1',
      '1..4',
      'ok 1 - plain',
      '# took 21000 us',
      'not ok 2 - broken # register: 0x1, expected 0x2',
      'ok 3 - absent # SKIP no such capability',
      '# metric latency.p50 1200 ns',
      'ok 4 - the last # of all',
    ].join('\r\n'),
  );
  expect(report).toEqual({
    planned: 4,
    results: [
      { name: 'plain', verdict: 'pass', tookUs: 21_000 },
      { name: 'broken', verdict: 'fail', reason: 'register: 0x1, expected 0x2' },
      { name: 'absent', verdict: 'skip', reason: 'no such capability' },
      { name: 'the last', verdict: 'pass' },
    ],
    metrics: { 'latency.p50': { value: 1200, unit: 'ns' } },
    distributions: {},
    bailOut: undefined,
  });
});

test('a distribution has its 101 values, or is none', () => {
  const values = Array.from({ length: 101 }, (_, i) => i * 10);
  const { distributions } = parseKtap(
    `# distribution latency ns 5000 ${values.join(' ')}\r\n# distribution torn ns 5000 ${values.slice(1).join(' ')}`,
  );
  expect(distributions).toEqual({ latency: { unit: 'ns', count: 5000, percentiles: values } });
});

test('a failure without a reason is a failure', () => {
  expect(parseKtap('not ok 1 - alone').results).toEqual([
    { name: 'alone', verdict: 'fail', reason: 'no reason given' },
  ]);
});

test('giving up is told apart', () => {
  const { results, bailOut } = parseKtap('1..3\nnot ok 1 - one # exception 14\nBail out! exception 14\n');
  expect(results).toHaveLength(1);
  expect(bailOut).toBe('exception 14');
});

test.each([
  '',
  '\0\xff',
  '1.2.3',
  'ok',
  'not ok',
  'not ok not ok ok 7 not ok',
  '# metric',
  '# metric a b c',
  '# took 3 us',
  '    ok 1 - nested',
  'printk: ok 1 - torn',
])('%j means nothing', (text) => {
  expect(parseKtap(text)).toEqual({
    planned: undefined,
    results: [],
    metrics: {},
    distributions: {},
    bailOut: undefined,
  });
});
