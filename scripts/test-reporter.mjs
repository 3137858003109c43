/** A vitest reporter that writes counts, the reasons of skipped tests, and what passed only when tried again, to the file CAUSEWAY_TEST_REPORT. */
import { writeFileSync } from 'node:fs';

export default class CountingReporter {
  onTestRunEnd(modules, unhandledErrors) {
    const report = { passed: 0, failed: unhandledErrors.length, skipped: [], flaky: [] };
    for (const module of modules) {
      // A file that cannot be imported has no tests that could fail.
      report.failed += module.errors().length;
      for (const suite of module.children.allSuites()) report.failed += suite.errors().length;
      for (const test of module.children.allTests()) {
        const { state, note } = test.result();
        if (test.diagnostic()?.flaky) report.flaky.push(`${module.relativeModuleId}: ${test.fullName}`);
        if (state === 'passed') report.passed += 1;
        else if (state === 'skipped') {
          const reason = note ?? (test.options.mode === 'todo' ? 'not written yet' : 'no reason given');
          report.skipped.push({ name: `${module.relativeModuleId}: ${test.fullName}`, reason });
        } else report.failed += 1;
      }
    }
    const file = process.env.CAUSEWAY_TEST_REPORT;
    if (file) writeFileSync(file, JSON.stringify(report));
  }
}
