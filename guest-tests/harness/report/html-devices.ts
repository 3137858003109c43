/** The part of the report about devices: what each is, its reset report card, its config space before and after. */
import type { DeviceRecord, ResetRecord } from '../model.ts';
import { duration, escapeHtml } from './escape.ts';
import { dotStrip } from './plots.ts';

const ROW_BYTES = 16;

export function devicesSection(devices: readonly DeviceRecord[]): string {
  if (devices.length === 0) return '';
  return `<h2 id="devices">Devices</h2>${devices.map((device) => deviceCard(device)).join('')}`;
}

function deviceCard(device: DeviceRecord): string {
  const { label, bdf, key, name, driver, quarantine, givenBack } = device;
  const facts = [key, bdf === label ? '' : bdf, name ?? '', driver ? `host driver ${driver}` : 'no host driver'].filter(
    Boolean,
  );
  const state = quarantine
    ? `<span class="bad">${escapeHtml(quarantine)}</span>`
    : givenBack === false
      ? '<span class="bad">not given back</span>'
      : '<span class="good">given back as it was found</span>';
  return `<div class="card"><h3>${escapeHtml(label)} <span class="soft small">${escapeHtml(facts.join(' · '))}</span></h3>
<p class="small">${state}</p>${resetCard(device)}${beforeAfter(device)}</div>`;
}

/** Methods in the order of their first use, with how they went. */
function resetCard({ resets, resetMethods }: DeviceRecord): string {
  const offered = `<p class="small soft">The kernel offers: ${escapeHtml(resetMethods.join(', ') || 'none')}</p>`;
  if (resets.length === 0) return offered;
  const methods = new Map<string, ResetRecord[]>();
  for (const reset of resets) methods.set(reset.method, [...(methods.get(reset.method) ?? []), reset]);
  const rows = [...methods].map(([method, all]) => {
    const bad = all.filter(({ ok }) => !ok).length;
    const dirty = all.filter(({ ok, changed }) => ok && changed.length > 0);
    const sorted = all.map(({ durationMs }) => durationMs).sort((a, b) => a - b);
    const dots = all.map(({ durationMs, ok, when }) => ({
      ms: durationMs,
      ok,
      title: `${when}: ${duration(durationMs)}`,
    }));
    const after =
      dirty.length === 0
        ? '<span class="good">as before</span>'
        : `<span class="bad">${escapeHtml(dirty[0]!.changed.slice(0, 3).join(', '))}</span>`;
    return `<tr><td>${escapeHtml(method)}</td><td class="r num">${all.length}</td><td class="r num ${bad ? 'bad' : 'soft'}">${bad}</td>
<td class="r num">${duration(sorted[Math.floor(sorted.length / 2)]!)}</td><td class="small">${bad === all.length ? '' : after}</td><td>${dotStrip(`Durations of ${method}`, dots)}</td></tr>`;
  });
  return `<h3>Reset report card</h3>${offered}<table><tr><th>method</th><th class="r">resets</th><th class="r">failed</th>
<th class="r">median</th><th>config space after</th><th>durations</th></tr>${rows.join('')}</table>`;
}

/** Lines of config space that differ, and all of it for who wants it. */
function beforeAfter({ configBefore = '', configAfter = '' }: DeviceRecord): string {
  if (configBefore === '' || configAfter === '') return '';
  const [before, after] = [configBefore.match(/../g) ?? [], configAfter.match(/../g) ?? []];
  const rows = Array.from(
    { length: Math.ceil(Math.max(before.length, after.length) / ROW_BYTES) },
    (_, i) => i * ROW_BYTES,
  );
  const changed = rows.filter(
    (at) => before.slice(at, at + ROW_BYTES).join() !== after.slice(at, at + ROW_BYTES).join(),
  );
  const line = (bytes: readonly string[], other: readonly string[], at: number): string =>
    bytes
      .slice(at, at + ROW_BYTES)
      .map((byte, i) => (byte === other[at + i] ? byte : `<mark>${byte}</mark>`))
      .join(' ');
  const offset = (at: number): string => at.toString(16).padStart(3, '0');
  const difference =
    changed.length === 0
      ? `<p class="small good">Config space after the run is the same, byte for byte (${before.length} bytes).</p>`
      : `<pre>${changed.map((at) => `${offset(at)} before  ${line(before, after, at)}\n${offset(at)} after   ${line(after, before, at)}`).join('\n')}</pre>`;
  // What is all zero says nothing.
  const shown = rows.filter((at) => before.slice(at, at + ROW_BYTES).some((byte) => byte !== '00'));
  const whole = shown.map((at) => `${offset(at)}  ${before.slice(at, at + ROW_BYTES).join(' ')}`).join('\n');
  return `<h3 style="margin-top:14px">Before and after</h3>${difference}
<details><summary class="small soft">config space before the run</summary><pre>${whole}</pre></details>`;
}
