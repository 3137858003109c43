/** Runs vitest projects one after the other and ends with one line that counts everything. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT, runProgram, say } from './host.mjs';

/** A test that loops cannot be stopped by vitest; beyond these times nothing but a defect can be the reason. */
const LIMIT_MINUTES = { unit: 5, lab: 45 };

/**
 * @param projects names of projects in vitest.config.ts, in the order to run them
 * @param args for vitest: file filters, `-t NAME`
 * @returns exit code: 0 only when tests ran and none failed
 */
export async function runTests(projects, args) {
  const folder = mkdtempSync(join(tmpdir(), 'causeway-test-'));
  const total = { passed: 0, failed: 0, skipped: [], flaky: [] };
  let status = 0;
  try {
    for (const project of projects) {
      const report = await runProject(project, args, join(folder, `${project}.json`));
      total.passed += report.passed;
      total.failed += report.failed;
      total.skipped.push(...report.skipped);
      total.flaky.push(...report.flaky);
      if (report.status !== 0) status = report.status;
      if (report.status >= 128) break;
      // Nothing run is no success: a filter that matches in one project only is the one good reason.
      if (report.passed + report.failed === 0 && args.length === 0) {
        console.log(`no test of the project ${project} ran`);
        status ||= 1;
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  if (total.failed > 0 || total.passed === 0) status ||= 1;
  if (total.flaky.length > 0) console.log('passed only when tried again:');
  for (const name of total.flaky) console.log(`  ${name}`);
  if (total.skipped.length > 0) console.log('skipped:');
  for (const { name, reason } of total.skipped) console.log(`  ${name}: ${reason}`);
  console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped.length} skipped`);
  return status;
}

async function runProject(project, args, reportFile) {
  const vitest = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs');
  const reporter = join(ROOT, 'scripts', 'test-reporter.mjs');
  const status = await runProgram(
    process.execPath,
    [vitest, 'run', '--project', project, '--passWithNoTests', '--reporter=default', `--reporter=${reporter}`, ...args],
    { env: { ...process.env, CAUSEWAY_TEST_REPORT: reportFile }, limitMs: LIMIT_MINUTES[project] * 60_000 },
  );
  if (status === 124) say(`the ${project} tests did not end within ${LIMIT_MINUTES[project]} minutes`);
  if (!existsSync(reportFile)) return { passed: 0, failed: 0, skipped: [], flaky: [], status: status || 1 };
  return { ...JSON.parse(readFileSync(reportFile, 'utf8')), status };
}
