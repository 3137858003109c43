/** Plots as inline SVG. Colours are the page's variables, so that they follow light and dark. */
import { type Bin, type MetricRecord, type TestRecord, VERDICTS } from '../model.ts';
import { duration, escapeHtml, number } from './escape.ts';
import { colour } from './html-style.ts';

const MATRIX_WIDTH = 1000;
/** About that. */
const LETTER_WIDTH = 6.2;

/** All tests as squares at one glance: a row for each device, the tests of a suite side by side, in the same column everywhere. */
export function verdictMatrix(tests: readonly TestRecord[]): string {
  const devices = [...new Set(tests.map(({ device }) => device))];
  const suites = new Map<string, string[]>();
  for (const { suite, name } of tests) {
    const names = suites.get(suite) ?? [];
    if (!names.includes(name)) names.push(name);
    suites.set(suite, names);
  }
  const [left, apart, top] = [120, 18, 22];
  const columns = [...suites.values()].reduce((sum, names) => sum + names.length, 0);
  const step = Math.min(24, (MATRIX_WIDTH - left - apart * suites.size) / Math.max(1, columns));
  const [size, tall] = [step * 0.84, Math.max(step, 16)];
  const at = new Map<string, number>();
  const parts: string[] = [];
  let x = left;
  let right = left;
  for (const [suite, names] of suites) {
    const label = shorten(suite, names.length * step + apart);
    parts.push(`<text x="${x}" y="12">${escapeHtml(label)}</text>`);
    right = Math.max(right, x + label.length * LETTER_WIDTH, x + names.length * step);
    for (const name of names) {
      at.set(`${suite}/${name}`, x);
      x += step;
    }
    x += apart;
  }
  devices.forEach((device, row) => {
    const y = top + row * tall;
    parts.push(
      `<text x="0" y="${y + size / 2 + 4}" class="ink">${escapeHtml(shorten(device ?? 'no device', left - 8))}</text>`,
    );
    for (const test of tests) {
      if (test.device !== device) continue;
      const title = `${test.verdict}: ${test.suite}/${test.name}${test.reason ? ` (${test.reason.split('\n')[0]})` : ''}`;
      const square = `<rect x="${at.get(`${test.suite}/${test.name}`)!}" y="${y}" width="${size}" height="${size}" rx="${size / 5}" fill="${colour(test.verdict)}"/>`;
      parts.push(`<a href="#${anchor(test)}"><title>${escapeHtml(title)}</title>${square}</a>`);
    }
  });
  return svg(right, top + devices.length * tall, 'Verdicts of all tests', parts);
}

/** As much of a label as fits. */
function shorten(text: string, width: number): string {
  const letters = Math.max(2, Math.floor(width / LETTER_WIDTH));
  return text.length <= letters ? text : `${text.slice(0, letters - 1)}\u2026`;
}

/** One bar over the whole width, a part for each verdict. */
export function verdictBar(totals: Readonly<Partial<Record<string, number>>>): string {
  const all = Object.values(totals).reduce<number>((sum, count) => sum + (count ?? 0), 0);
  if (all === 0) return '';
  let x = 0;
  const parts = VERDICTS.flatMap((verdict) => {
    const count = totals[verdict] ?? 0;
    if (count === 0) return [];
    const width = (count / all) * 1000;
    const part = `<rect x="${x}" y="0" width="${Math.max(1, width - 3)}" height="10" rx="4" fill="${colour(verdict)}"><title>${count} ${verdict}</title></rect>`;
    x += width;
    return [part];
  });
  return `<svg viewBox="0 0 1000 10" width="100%" height="10" preserveAspectRatio="none" role="img" aria-label="Share of each verdict">${parts.join('')}</svg>`;
}

/** A histogram with median and 99th percentile marked. The axis is logarithmic where the bins are. */
export function histogramPlot(metric: MetricRecord & { readonly histogram: readonly Bin[] }): string {
  const [width, height, bottom, top] = [300, 142, 30, 32];
  const { histogram: bins, p50, p99, unit } = metric;
  const [low, high] = [bins[0]!.from, bins.at(-1)!.to];
  const isLogarithmic =
    low > 0 && bins.length > 2 && bins.at(-1)!.to - bins.at(-1)!.from > 2 * (bins[0]!.to - bins[0]!.from);
  const scale = (value: number): number => {
    if (high === low) return width / 2;
    const share = isLogarithmic ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
    return Math.min(1, Math.max(0, share)) * width;
  };
  const most = Math.max(...bins.map(({ count }) => count));
  const bars = bins.map(({ from, to, count }) => {
    const [x0, x1] = high === low ? [width / 2 - 12, width / 2 + 12] : [scale(from), scale(to)];
    // Seldom is not never: what was counted is seen.
    const tall = count === 0 ? 0 : Math.max(2, (count / most) * (height - bottom - top));
    const title = `<title>${number(from)} to ${number(to)} ${escapeHtml(unit)}: ${count}</title>`;
    return `<rect x="${x0 + 0.75}" y="${height - bottom - tall}" width="${Math.max(1, x1 - x0 - 1.5)}" height="${tall}" rx="1.5" fill="var(--accent)" opacity=".82">${title}</rect>`;
  });
  // Each label has a row of its own: they may stand at the same place.
  const mark = (value: number, label: string, row: number): string => {
    const x = scale(value);
    const [anchorAt, shift] = x > width - 90 ? ['end', -3] : ['start', 3];
    const y = 10 + row * 12;
    const line = `<line x1="${x}" x2="${x}" y1="${y - 8}" y2="${height - bottom}" stroke="var(--ink)" stroke-width="1" stroke-dasharray="3 3" opacity=".7"/>`;
    return `${line}<text x="${x + shift}" y="${y}" text-anchor="${anchorAt}" class="ink">${label} ${number(value)}</text>`;
  };
  const axis = `<line x1="0" x2="${width}" y1="${height - bottom}" y2="${height - bottom}" stroke="var(--line)"/>`;
  const ticks = [
    `<text x="0" y="${height - 13}">${number(low)}</text>`,
    `<text x="${width}" y="${height - 13}" text-anchor="end">${number(high)} ${escapeHtml(unit)}</text>`,
    isLogarithmic ? `<text x="${width / 2}" y="${height - 13}" text-anchor="middle">logarithmic</text>` : '',
  ];
  const marks = [mark(p50, 'p50', 0), ...(p50 === p99 ? [] : [mark(p99, 'p99', 1)])];
  return svg(width, height, `Histogram of ${metric.name}`, [axis, ...bars, ...ticks, ...marks]);
}

export interface BarRow {
  readonly label: string;
  readonly value: number;
  readonly text: string;
}

/** Horizontal bars from zero. */
export function barPlot(title: string, rows: readonly BarRow[]): string {
  const [left, width, tall] = [96, 300, 20];
  const most = Math.max(...rows.map(({ value }) => value), Number.MIN_VALUE);
  const parts = rows.map(({ label, value, text }, i) => {
    const y = i * (tall + 6);
    const long = Math.max(2, (value / most) * (width - left - 96));
    return [
      `<text x="0" y="${y + 15}" class="ink">${escapeHtml(shorten(label, left - 6))}</text>`,
      `<rect x="${left}" y="${y + 2}" width="${long}" height="${tall - 4}" rx="4" fill="var(--accent)" opacity=".82"/>`,
      `<text x="${left + long + 7}" y="${y + 15}">${escapeHtml(text)}</text>`,
    ].join('');
  });
  return svg(width, rows.length * (tall + 6), title, parts);
}

/** Durations as dots on one axis, failures as crosses. */
export function dotStrip(
  title: string,
  dots: readonly { readonly ms: number; readonly ok: boolean; readonly title: string }[],
): string {
  const [width, height] = [300, 34];
  const most = Math.max(...dots.map(({ ms }) => ms), 0.001);
  const parts = dots.map(({ ms, ok, title: hover }) => {
    const x = 6 + (ms / most) * (width - 70);
    const shape = ok
      ? `<circle cx="${x}" cy="11" r="4.5" fill="var(--PASS)" opacity=".6"/>`
      : `<path d="M${x - 4} 7l8 8m0-8l-8 8" stroke="var(--FAIL)" stroke-width="2.4" stroke-linecap="round"/>`;
    return `<g><title>${escapeHtml(hover)}</title>${shape}</g>`;
  });
  const axis = `<line x1="0" x2="${width - 58}" y1="20" y2="20" stroke="var(--line)"/>`;
  const ticks = `<text x="0" y="32">0</text><text x="${width - 64}" y="32" text-anchor="end">${duration(most)}</text>`;
  return svg(width, height, title, [axis, ...parts, ticks]);
}

/** Name of a test's place in the page. */
export function anchor({ id }: Pick<TestRecord, 'id'>): string {
  return `t-${id.replaceAll(/[^\w]+/g, '-')}`;
}

function svg(width: number, height: number, title: string, parts: readonly string[]): string {
  return `<svg viewBox="0 0 ${Math.ceil(width)} ${Math.ceil(height)}" width="${Math.ceil(width)}" role="img" aria-label="${escapeHtml(title)}">${parts.join('')}</svg>`;
}
