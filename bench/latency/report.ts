/** The measurements of devices as text. */
import { compare, spread } from '../statistics.ts';
import { textTable } from '../text-table.ts';
import { LATENCY_PAYLOADS, type Measure } from './payloads.ts';
import type { LatencyResult, Quantiles } from './run.ts';

const QUANTILES = ['p50', 'p99', 'max'] as const;
type Quantile = (typeof QUANTILES)[number];

/** Medians over the pairs, in ns, and the ratios of p50 and p99 pair by pair. */
export interface LatencyRow {
  readonly measure: Measure;
  readonly causeway: Quantiles;
  readonly qemu: Quantiles;
  readonly ratio: Readonly<
    Record<'p50' | 'p99', { readonly min: number; readonly median: number; readonly max: number }>
  >;
}

/** What was compared, in the order of the table. */
export function latencyRows({ measured, pairs }: LatencyResult): LatencyRow[] {
  return LATENCY_PAYLOADS.flatMap(({ measures }) => measures).flatMap((measure) => {
    const both = measured[measure.distribution];
    // What one of the two did not measure each time is told below the table.
    if (both?.causeway.length !== pairs || both.qemu.length !== pairs) return [];
    const median = (of: readonly Quantiles[]): Quantiles => {
      const at = (quantile: Quantile) => spread(of.map((one) => one[quantile])).median;
      return { p50: at('p50'), p99: at('p99'), max: at('max') };
    };
    const ratio = (quantile: Quantile) =>
      compare(
        both.causeway.map((one) => one[quantile]),
        both.qemu.map((one) => one[quantile]),
      ).ratio;
    return [
      {
        measure,
        causeway: median(both.causeway),
        qemu: median(both.qemu),
        ratio: { p50: ratio('p50'), p99: ratio('p99') },
      },
    ];
  });
}

export function latencyMarkdown(result: LatencyResult): string {
  return [
    '| | Causeway: p50 / p99 / max | QEMU: p50 / p99 / max | ratio of p50 | ratio of p99 |',
    '|---|--:|--:|--:|--:|',
    ...latencyRows(result).map(({ measure, causeway, qemu, ratio }) => {
      const [p50, p99] = [ratio.p50, ratio.p99].map(
        ({ min, median, max }) => `**${median.toFixed(2)}** (${min.toFixed(2)}–${max.toFixed(2)})`,
      );
      return `| ${measure.title} | ${values(measure, causeway)} | ${values(measure, qemu)} | ${p50} | ${p99} |`;
    }),
    '',
    footnote(result),
  ].join('\n');
}

export function latencyTable(result: LatencyResult): string {
  const table = [
    ['', 'Causeway', 'QEMU', 'ratio of p50', 'ratio of p99'],
    ['', 'p50 / p99 / max', 'p50 / p99 / max', 'min / median / max', 'min / median / max'],
    ...latencyRows(result).map(({ measure, causeway, qemu, ratio }) => [
      measure.title,
      values(measure, causeway),
      values(measure, qemu),
      ...[ratio.p50, ratio.p99].map(({ min, median, max }) =>
        [min, median, max].map((one) => one.toFixed(2)).join(' / '),
      ),
    ]),
  ];
  return [...textTable(table), '', footnote(result)].join('\n');
}

/** Everything that was measured, with what follows from it. */
export function latencyJson(result: LatencyResult): string {
  return JSON.stringify({ ...result, comparison: latencyRows(result) }, null, 2);
}

/** Times in µs; as a rate where the measure is one. */
function values({ bytes }: Measure, quantiles: Quantiles): string {
  const shown = QUANTILES.map((quantile) => {
    const ns = quantiles[quantile];
    return number(bytes === undefined ? ns / 1000 : (bytes / 2 ** 20 / ns) * 1e9);
  });
  return `${shown.join(' / ')} ${bytes === undefined ? 'µs' : 'MiB/s'}`;
}

function footnote({ versions, machine, pairs, loops, failed }: LatencyResult): string {
  const { causeway, node, qemu, host } = versions;
  const faults =
    failed.length === 0
      ? ''
      : `\n\nTests of the payloads that failed meanwhile:\n${failed.map((one) => `- ${one}`).join('\n')}`;
  return (
    `Medians of ${pairs === 1 ? '1 pair' : `${pairs} pairs`} with ${loops} values each (throughput: 64 KiB a value); ratios are of times, pair by pair, with their range. ` +
    `Causeway ${causeway} on Node ${node}, QEMU ${qemu} (q35, KVM), 1 vCPU; host Linux ${host}; ${machine}.${faults}`
  );
}

function number(value: number): string {
  return value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
}
