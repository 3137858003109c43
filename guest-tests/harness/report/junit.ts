/** JUnit XML as CI systems read it: a suite for each suite and device, the worst try of each test. */
import { GREEN, type RunRecord, type TestRecord } from '../model.ts';

export function junitXml(run: RunRecord): string {
  const groups = new Map<string, TestRecord[]>();
  for (const test of run.tests) {
    const name = test.device ? `${test.suite} on ${test.device}` : test.suite;
    groups.set(name, [...(groups.get(name) ?? []), test]);
  }
  const suites = [...groups].map(([name, tests]) => {
    const attributes = `name="${escapeXml(name)}" ${counts(tests)} time="${seconds(tests)}" timestamp="${escapeXml(run.startedAt)}"`;
    return `  <testsuite ${attributes}>\n${tests.map(testcase).join('')}  </testsuite>\n`;
  });
  const total = `name="causeway test" ${counts(run.tests)} time="${(run.durationMs / 1000).toFixed(3)}"`;
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites ${total}>\n${suites.join('')}</testsuites>\n`;
}

/** `error` is what JUnit calls a test that could not tell: here INFRA. */
function counts(tests: readonly TestRecord[]): string {
  const count = (matches: (test: TestRecord) => boolean): number => tests.filter(matches).length;
  const errors = count(({ verdict }) => verdict === 'INFRA');
  const failures = count(({ verdict }) => !GREEN.includes(verdict)) - errors;
  const skipped = count(({ verdict }) => verdict === 'SKIP' || verdict === 'XFAIL');
  return `tests="${tests.length}" failures="${failures}" errors="${errors}" skipped="${skipped}"`;
}

function seconds(tests: readonly TestRecord[]): string {
  return (tests.reduce((sum, { durationMs }) => sum + durationMs, 0) / 1000).toFixed(3);
}

function testcase({ suite, name, device, verdict, reason = '', durationMs, attempts }: TestRecord): string {
  const classname = device ? `${suite}.${device}` : suite;
  const open = `    <testcase classname="${escapeXml(classname)}" name="${escapeXml(name)}" time="${(durationMs / 1000).toFixed(3)}">`;
  const log = attempts.flatMap((attempt) => attempt.log).join('\n');
  const output = log ? `\n      <system-out>${escapeXml(log)}</system-out>` : '';
  const message = `message="${escapeXml(reason)}"`;
  const body =
    verdict === 'SKIP' || verdict === 'XFAIL'
      ? `<skipped ${message}/>`
      : verdict === 'INFRA'
        ? `<error type="INFRA" ${message}/>`
        : GREEN.includes(verdict)
          ? ''
          : `<failure type="${verdict}" ${message}>${escapeXml(attempts.at(-1)?.crash?.text ?? '')}</failure>`;
  return `${open}${body ? `\n      ${body}` : ''}${output}\n    </testcase>\n`;
}

/** Control characters are not allowed in XML 1.0 at all, not even escaped. */
function escapeXml(text: string): string {
  return text
    .replaceAll(/[^\t\n\r\x20-\ud7ff\ue000-\ufffd]/g, '?')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
