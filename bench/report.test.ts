import { describe, expect, it } from 'vitest';
import type { BenchResult } from './benchmark.ts';
import { parseKib } from './process-memory.ts';
import { formatJson, formatMarkdown, formatTable, rows } from './report.ts';

const memory = (peakMib: number) => ({
  peakKib: peakMib * 1024,
  anonKib: 1024,
  fileKib: 2048,
  shmemKib: 3072,
  proportionalKib: 4096,
});

const result: BenchResult = {
  versions: { causeway: '0.1.0', node: 'v20', qemu: '7.2', host: '6.1', guest: '6.1' },
  machine: 'lab',
  memoryMib: 512,
  pairs: 3,
  exits: 1000,
  programs: {
    causeway: {
      startMs: [4000, 8000, 3000],
      memory: [memory(562), memory(560), memory(572)],
      exitUs: { read: [50, 55, 60], write: [40, 40, 40] },
    },
    qemu: {
      startMs: [8000, 10_000, 5000],
      memory: [memory(612), memory(608), memory(612)],
      exitUs: { read: [50, 50, 50], write: [80, 80, 80] },
    },
  },
};

describe('the report', () => {
  it('compares pair by pair, and memory without the RAM of the guest', () => {
    const [start, above, read, write] = rows(result);
    expect(start?.values.ratio).toEqual({ min: 0.5, median: 0.6, max: 0.8 });
    expect(above?.values.causeway).toEqual({ min: 48, median: 50, max: 60 });
    expect(above?.values.ratio.median).toBe(0.5);
    expect(read?.values.ratio.median).toBe(1.1);
    expect(write?.values.ratio.max).toBe(0.5);
  });

  it('is a table whose columns stand below each other', () => {
    const [head, ...lines] = formatTable(result).split('\n');
    const at = head!.indexOf('QEMU');
    expect(lines.slice(1, 5).every((line) => /\S/.test(line[at]!) && line.slice(at - 2, at) === '  ')).toBe(true);
    expect(formatTable(result)).toContain('start to user space, s');
    expect(formatTable(result)).toContain('0.50 / 0.60 / 0.80');
    expect(formatTable(result)).toContain('Causeway 0.1.0 on Node v20, QEMU 7.2');
  });

  it('is markdown with as many cells in every row', () => {
    const table = formatMarkdown(result)
      .split('\n')
      .filter((line) => line.startsWith('|'));
    expect(new Set(table.map((line) => line.split('|').length))).toEqual(new Set([7]));
    expect(table[2]).toBe('| start to user space | 4.00 s | 8.00 s | **0.60** (0.50–0.80) | ratio ≤ 0.8 |');
  });

  it('is JSON that carries every measurement', () => {
    const json = JSON.parse(formatJson(result)) as BenchResult & { comparison: unknown[] };
    expect(json.programs).toEqual(result.programs);
    expect(json.comparison).toHaveLength(4);
  });
});

describe('memory of a process', () => {
  it('is read from the lines that carry kB', () => {
    const text = 'Name:\tnode\nVmHWM:\t  574321 kB\nRssAnon:\t24000 kB\nThreads:\t11\n';
    expect(parseKib(text)).toEqual({ VmHWM: 574_321, RssAnon: 24_000 });
  });
});
