/** The result as text: for a terminal, for a README, for a program. */
import type { BenchResult, Measurements } from './benchmark.ts';
import { type Comparison, compare, type Spread } from './statistics.ts';
import { textTable } from './text-table.ts';

interface Row {
  readonly name: string;
  readonly unit: string;
  readonly aim: string;
  readonly values: Comparison;
}

/** What is compared, in the order of the table. */
export function rows(result: BenchResult): Row[] {
  const { causeway, qemu } = result.programs;
  const row = (name: string, unit: string, aim: string, values: (of: Measurements) => readonly number[]): Row => ({
    name,
    unit,
    aim,
    values: compare(values(causeway), values(qemu)),
  });
  return [
    row('start to user space', 's', 'ratio ≤ 0.8', (of) => of.startMs.map((ms) => ms / 1000)),
    row('memory above guest RAM', 'MiB', '≤ 60 MiB', (of) =>
      of.memory.map(({ peakKib }) => peakKib / 1024 - result.memoryMib),
    ),
    row('port read exit', 'µs', 'ratio ≤ 1.2', (of) => of.exitUs.read),
    row('port write exit', 'µs', 'ratio ≤ 1.2', (of) => of.exitUs.write),
  ];
}

export function formatTable(result: BenchResult): string {
  const table = [
    ['', 'Causeway', 'QEMU', 'ratio by pair', 'aim'],
    ['', 'min / median / max', 'min / median / max', 'min / median / max', ''],
    ...rows(result).map(({ name, unit, aim, values }) => [
      `${name}, ${unit}`,
      formatSpread(values.causeway),
      formatSpread(values.qemu),
      formatSpread(values.ratio, 2),
      aim,
    ]),
  ];
  return [...textTable(table), '', ...footnotes(result)].join('\n');
}

export function formatMarkdown(result: BenchResult): string {
  return [
    '| | Causeway | QEMU | ratio | aim |',
    '|---|--:|--:|--:|---|',
    ...rows(result).map(({ name, unit, aim, values }) => {
      const { causeway, qemu, ratio } = values;
      const [ours, theirs] = [causeway, qemu].map(({ median }) => `${number(median)} ${unit}`);
      return `| ${name} | ${ours} | ${theirs} | **${ratio.median.toFixed(2)}** (${ratio.min.toFixed(2)}–${ratio.max.toFixed(2)}) | ${aim} |`;
    }),
    '',
    `Medians of ${counted(result)}, ratios pair by pair (and their range). ${describe(result)}`,
  ].join('\n');
}

/** Everything that was measured, with what follows from it. */
export function formatJson(result: BenchResult): string {
  return JSON.stringify({ ...result, comparison: rows(result) }, null, 2);
}

function footnotes(result: BenchResult): string[] {
  return [...split(result), `${counted(result)}. ${describe(result)}`];
}

function counted({ pairs }: BenchResult): string {
  return pairs === 1 ? '1 pair' : `${pairs} pairs`;
}

/** What the memory is made of, by the first pair. */
function split({ programs }: BenchResult): string[] {
  return [programs.causeway, programs.qemu].map(({ memory }, i) => {
    const { anonKib, fileKib, shmemKib, proportionalKib } = memory[0]!;
    const [anon, file, shared, pss] = [anonKib, fileKib, shmemKib, proportionalKib].map((kib) => number(kib / 1024));
    return `${i === 0 ? 'Causeway' : 'QEMU'}, MiB with guest RAM: anonymous ${anon}, files ${file}, shared ${shared}; proportional ${pss}`;
  });
}

function describe({ versions, machine, memoryMib }: BenchResult): string {
  const { causeway, node, qemu, host, guest } = versions;
  return (
    `Causeway ${causeway} on Node ${node}, QEMU ${qemu} (q35, KVM); ${memoryMib} MiB, 1 vCPU, assigned e1000e; ` +
    `host Linux ${host}, guest Linux ${guest}; ${machine}.`
  );
}

function formatSpread({ min, median, max }: Spread, digits?: number): string {
  return [min, median, max].map((value) => (digits === undefined ? number(value) : value.toFixed(digits))).join(' / ');
}

function number(value: number): string {
  return value.toFixed(Math.abs(value) < 10 ? 2 : 1);
}
