import { expect, test } from 'vitest';
import { UsageError } from '../options.ts';
import { PROGRAMS, payloadRun } from '../programs.ts';
import { parseLatencyOptions } from './options.ts';
import { LATENCY_PAYLOADS } from './payloads.ts';
import { latencyJson, latencyMarkdown, latencyRows, latencyTable } from './report.ts';
import { type LatencyResult, readRun } from './run.ts';

const at = (p50: number) => ({ p50, p99: 2 * p50, max: 10 * p50 });
const RESULT: LatencyResult = {
  versions: { causeway: '0.1.0', node: 'v20', qemu: '7.2', host: '6.1' },
  machine: 'lab',
  pairs: 3,
  loops: 500,
  measured: {
    'msi-latency': { causeway: [at(5000), at(8000), at(6000)], qemu: [at(10_000), at(8000), at(8000)] },
    'wc-write-64k': { causeway: Array(3).fill(at(62_500)), qemu: Array(3).fill(at(125_000)) },
    'trapped-read': { causeway: [at(1), at(1), at(1)], qemu: [at(1)] },
  },
  failed: ['qemu: nvme-msix: MSI-X and INTx take turns: no INTx'],
};

const lines = (text: string) => text.split('\n').map((line) => ({ ms: 0, text: line }));

test('medians of the pairs, ratios pair by pair', () => {
  const rows = latencyRows(RESULT);
  expect(rows, 'without what QEMU measured once only').toHaveLength(2);
  const [msi] = rows;
  expect(msi).toMatchObject({
    causeway: { p50: 6000, p99: 12_000, max: 60_000 },
    qemu: { p50: 8000 },
    ratio: { p50: { min: 0.5, median: 0.75, max: 1 } },
  });
});

test('times in microseconds, pieces of memory as a rate', () => {
  const text = latencyMarkdown(RESULT);
  expect(text).toContain(
    '| MSI: device raises to handler runs | 6.00 / 12.0 / 60.0 µs | 8.00 / 16.0 / 80.0 µs | **0.75** (0.50–1.00) |',
  );
  expect(text).toContain('1000 / 500 / 100 MiB/s | 500 / 250 / 50.0 MiB/s | **0.50**');
  expect(text).toContain('- qemu: nvme-msix: MSI-X and INTx take turns');
  expect(latencyTable(RESULT)).toContain('0.50 / 0.75 / 1.00');
  expect(JSON.parse(latencyJson(RESULT))).toMatchObject({ measured: RESULT.measured, pairs: 3 });
});

test('a run gives its numbers, and tells what failed in it', () => {
  const what = { payload: 'edu-mmio', model: 'edu', measures: [{ distribution: 'read-latency', title: 'read' }] };
  const percentiles = Array.from({ length: 101 }, (_, i) => i);
  const said = `1..2\nok 1 - one\nnot ok 2 - two # why\n# distribution read-latency ns 500 ${percentiles.join(' ')}`;
  expect(readRun(what, { lines: lines(said), complaints: '' })).toEqual({
    found: { 'read-latency': { p50: 50, p99: 99, max: 100 } },
    failures: ['two: why'],
  });
  expect(readRun(what, { lines: lines('1..2'), complaints: 'vfio: no\n' }).failures).toEqual([
    'read-latency was not measured; last words: vfio: no',
  ]);
});

test('both programs run the same payload with the same device in the same slot', () => {
  const qemu = { version: '7.2', command: ['/bin/qemu'], env: {} };
  const guest = { payload: '/p/edu-irq.elf', args: 'loops=100', device: '0000:01:00.0' };
  const [ours, theirs] = PROGRAMS.map((program) => payloadRun(program, qemu, guest));
  for (const run of [ours, theirs]) {
    expect(run?.argv).toEqual(expect.arrayContaining(['/p/edu-irq.elf', 'loops=100']));
    expect(run?.exitCode).toBeUndefined();
  }
  expect(ours?.argv.join(' ')).toContain('--device 0000:01:00.0');
  expect(theirs?.argv.join(' ')).toContain('vfio-pci,host=0000:01:00.0,addr=1');
});

test('every measure has a name of its own', () => {
  const names = LATENCY_PAYLOADS.flatMap(({ measures }) => measures.map(({ distribution }) => distribution));
  expect(new Set(names).size).toBe(names.length);
});

test('options', () => {
  expect(parseLatencyOptions(['--pairs', '2', '--markdown'])).toMatchObject({ pairs: 2, output: 'markdown', cpus: 2 });
  for (const wrong of [['--pairs', '0'], ['--loops', '5000'], ['--json', '--markdown'], ['--frob']]) {
    expect(() => parseLatencyOptions(wrong)).toThrow(UsageError);
  }
});
