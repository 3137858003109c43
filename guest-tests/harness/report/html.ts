/** The report of a run as one HTML file without anything from outside: no script, no font, no picture but inline SVG. */
import {
  type AttemptRecord,
  type Bin,
  GREEN,
  type MetricRecord,
  type RunRecord,
  type TestRecord,
  VERDICTS,
} from '../model.ts';
import { duration, escapeHtml, number } from './escape.ts';
import { devicesSection } from './html-devices.ts';
import { colour, STYLE } from './html-style.ts';
import { anchor, type BarRow, barPlot, histogramPlot, verdictBar, verdictMatrix } from './plots.ts';

/** A log longer than this is in the run folder. */
const MOST_LINES = 60;

export function htmlReport(run: RunRecord): string {
  const bad = run.tests.filter(({ verdict }) => !GREEN.includes(verdict));
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>causeway test: ${escapeHtml(headline(run))}</title><style>${STYLE}</style></head><body><main>
${header(run)}
<h2 id="verdicts">Verdicts</h2><div class="card">${verdictMatrix(run.tests)}</div>${matrixTable(run)}
${bad.length > 0 ? `<h2 id="failures">What went wrong</h2><div class="card">${bad.map((test) => details(test, true)).join('')}</div>` : ''}
${metricsSection(run)}
${devicesSection(run.devices)}
<h2 id="tests">All tests</h2><div class="card">${run.tests.map((test) => details(test, false)).join('')}</div>
</main></body></html>
`;
}

function headline({ totals, tests }: RunRecord): string {
  const bad = tests.filter(({ verdict }) => !GREEN.includes(verdict)).length;
  if (bad > 0) return `${bad} of ${tests.length} tests went wrong`;
  return totals.PASS ? `${totals.PASS} of ${tests.length} tests passed, none went wrong` : 'no test was run';
}

function header(run: RunRecord): string {
  const { startedAt, durationMs, host, totals, aborted, exitCode } = run;
  const facts = [
    `${startedAt.slice(0, 16).replace('T', ' ')} UTC`,
    duration(durationMs),
    `Linux ${host.kernel}`,
    host.causeway,
  ];
  const chips = VERDICTS.filter((verdict) => totals[verdict]).map(
    (verdict) =>
      `<span class="chip num"><i style="background:${colour(verdict)}"></i>${totals[verdict]} ${verdict}</span>`,
  );
  return `<h1>${escapeHtml(headline(run))}</h1><p class="soft">${facts.map(escapeHtml).join(' · ')} · exit code ${exitCode}</p>
${aborted === undefined ? '' : `<p class="bad">Ended early: ${escapeHtml(aborted)}</p>`}
<div style="margin-top:16px">${verdictBar(totals)}</div><div class="chips">${chips.join('')}</div>`;
}

/** A row for each test, a column for each device, and for what was done without any or with all. */
function matrixTable({ tests, devices }: RunRecord): string {
  const columns = new Set([
    ...(tests.some(({ device }) => device === undefined) ? [undefined] : []),
    ...devices.map(({ label }) => label),
    // All of them at once.
    ...tests.map(({ device }) => device),
  ]);
  const suites = new Map<string, Map<string, TestRecord[]>>();
  for (const test of tests) {
    const names = suites.get(test.suite) ?? new Map<string, TestRecord[]>();
    suites.set(test.suite, names.set(test.name, [...(names.get(test.name) ?? []), test]));
  }
  const head = `<tr><th></th>${[...columns].map((column) => `<th>${escapeHtml(column ?? 'no device')}</th>`).join('')}</tr>`;
  const rows = [...suites].map(([suite, names]) => {
    const lines = [...names].map(([name, all]) => {
      const cells = [...columns].map((column) => {
        const test = all.find(({ device }) => device === column);
        return `<td style="text-align:center">${test ? badge(test, true) : ''}</td>`;
      });
      return `<tr><td>${escapeHtml(name)}</td>${cells.join('')}</tr>`;
    });
    return `<tr><th class="suite" colspan="${columns.size + 1}">${escapeHtml(suite)}</th></tr>${lines.join('')}`;
  });
  return `<div class="card"><table class="matrix">${head}${rows.join('')}</table></div>`;
}

function badge(test: TestRecord, isLink: boolean): string {
  const style = `style="background:${colour(test.verdict)}"`;
  const title = test.reason === undefined ? '' : ` title="${escapeHtml(test.reason.split('\n')[0]!)}"`;
  return isLink
    ? `<a class="v" href="#${anchor(test)}" ${style}${title}>${test.verdict}</a>`
    : `<span class="v" ${style}${title}>${test.verdict}</span>`;
}

// ---- measurements -------------------------------------------------------------------------------------------------

interface Measured {
  readonly test: TestRecord;
  readonly metric: MetricRecord;
}

function metricsSection({ tests }: RunRecord): string {
  const all = tests.flatMap((test): Measured[] =>
    (test.attempts.at(-1)?.metrics ?? []).map((metric) => ({ test, metric })),
  );
  if (all.length === 0) return '';
  const spread = all.filter(({ metric }) => metric.histogram !== undefined);
  const single = new Map<string, Measured[]>();
  for (const each of all.filter(({ metric }) => metric.histogram === undefined)) {
    const key = `${each.metric.name} (${each.metric.unit})`;
    single.set(key, [...(single.get(key) ?? []), each]);
  }
  const histograms = spread.map(({ test, metric: raw }) => {
    const metric = inReadableUnit(raw);
    const { count, p50, p99, max, unit } = metric;
    const numbers = `p50 ${number(p50)} · p99 ${number(p99)} · max ${number(max)} ${unit} · ${number(count)} values`;
    return `<div class="card"><h3>${escapeHtml(metric.name)} <span class="soft small">${escapeHtml(where(test))}</span></h3>
<p class="small soft num">${escapeHtml(numbers)}</p>${histogramPlot(metric as MetricRecord & { histogram: readonly Bin[] })}</div>`;
  });
  const bars = [...single.values()].map((values) => {
    const title = values[0]!.metric.name;
    const rows = values.map(({ test, metric }): BarRow => {
      const { p50, unit } = inReadableUnit(metric);
      // Lengths compare in the unit of all.
      return { label: where(test), value: metric.p50, text: `${number(p50)} ${unit}` };
    });
    const better = values[0]!.metric.better;
    const hint = better ? ` <span class="soft small">${better} is better</span>` : '';
    return `<div class="card"><h3>${escapeHtml(title)}${hint}</h3>${barPlot(title, rows)}</div>`;
  });
  return `<h2 id="measurements">Measurements</h2><div class="grid">${[...histograms, ...bars].join('')}</div>`;
}

const TIME_UNITS = ['ns', 'µs', 'ms', 's'];

/** Times in the unit in which the median has at most three digits before the point. */
function inReadableUnit(metric: MetricRecord): MetricRecord {
  const from = TIME_UNITS.indexOf(metric.unit);
  if (from < 0) return metric;
  let to = from;
  while (to + 1 < TIME_UNITS.length && metric.p50 >= 1000 ** (to - from + 1)) to++;
  const scaled = (value: number): number => value / 1000 ** (to - from);
  const histogram = metric.histogram?.map((bin) => ({ ...bin, from: scaled(bin.from), to: scaled(bin.to) }));
  return {
    ...metric,
    unit: TIME_UNITS[to]!,
    ...{ min: scaled(metric.min), p50: scaled(metric.p50), p99: scaled(metric.p99), max: scaled(metric.max) },
    ...(histogram ? { histogram } : {}),
  };
}

function where({ suite, device }: TestRecord): string {
  return device ? `${suite} · ${device}` : suite;
}

// ---- one test -----------------------------------------------------------------------------------------------------

/** @param isOpen in the list of failures, where it stands open and has no anchor of its own */
function details(test: TestRecord, isOpen: boolean): string {
  const { suite, name, device, durationMs, reason, attempts } = test;
  const tries = attempts.map((attempt, i) => attemptBody(attempt, attempts.length > 1 ? i + 1 : undefined)).join('');
  const body = `${reason === undefined ? '' : `<p>${lines(reason)}</p>`}${tries}`;
  const title = `${escapeHtml(`${suite}/${name}`)}${device ? ` <span class="soft">${escapeHtml(device)}</span>` : ''}`;
  return `<div${isOpen ? '' : ` id="${anchor(test)}"`}><details${isOpen ? ' open' : ''}><summary>${badge(test, false)}<span class="name">${title}</span>
<span class="soft small num">${durationMs > 0 ? duration(durationMs) : ''}</span></summary><div class="body">${body || '<p class="soft small">nothing to tell</p>'}</div></details></div>`;
}

function attemptBody(attempt: AttemptRecord, number_: number | undefined): string {
  const { verdict, reason, subtests, invariants, log, artifacts, crash } = attempt;
  const title =
    number_ === undefined
      ? ''
      : `<h3>Try ${number_}: ${verdict} ${reason ? escapeHtml(reason.split('\n')[0]!) : ''}</h3>`;
  const steps = subtests.map(
    (
      step,
    ) => `<tr><td class="small" style="color:${colour(step.verdict)};font-weight:600">${step.verdict}</td><td class="small">${escapeHtml(step.name)}
<span class="soft">${step.reason ? lines(step.reason) : ''}</span></td><td class="r small soft num">${step.durationMs === undefined ? '' : duration(step.durationMs)}</td></tr>`,
  );
  const broken = invariants.filter(({ ok }) => !ok);
  const held = invariants.length - broken.length;
  const host =
    invariants.length === 0
      ? ''
      : `<p class="small soft">The host found ${held} of ${invariants.length} conditions to hold.${broken
          .map((each) => `<br><span class="bad">${escapeHtml(each.name)}: ${escapeHtml(each.detail ?? '')}</span>`)
          .join('')}</p>`;
  const shown = log.slice(-MOST_LINES);
  const left = log.length - shown.length;
  const said =
    log.length === 0 ? '' : `<pre>${left > 0 ? `(${left} lines before)\n` : ''}${escapeHtml(shown.join('\n'))}</pre>`;
  const links = artifacts.map(
    (file) => `<a href="${escapeHtml(encodeURI(file))}">${escapeHtml(file.split('/').at(-1)!)}</a>`,
  );
  return [
    title,
    steps.length > 0 ? `<table>${steps.join('')}</table>` : '',
    crash ? `<pre>${escapeHtml(crash.text)}</pre>` : '',
    host,
    said,
    links.length > 0 ? `<p class="small">${links.join(' · ')}</p>` : '',
  ].join('');
}

function lines(text: string): string {
  return escapeHtml(text).replaceAll('\n', '<br>');
}
