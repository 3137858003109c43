/** KTAP version 1 (kernel: Documentation/dev-tools/ktap.rst), written while the run goes on: suites, tests, steps. */
import { GREEN, type SubtestRecord, type TestRecord, type Verdict } from '../model.ts';
import type { PlannedGroup } from '../run/plan.ts';
import type { RunListener } from '../run/runner.ts';

export class KtapReporter implements RunListener {
  readonly #write: (text: string) => void;
  #group = 0;
  #test = 0;

  constructor(write: (text: string) => void) {
    this.#write = write;
  }

  plan(groups: readonly PlannedGroup[]): void {
    this.#line(0, 'KTAP version 1');
    this.#line(0, `1..${groups.length}`);
  }

  groupBegins({ title, tests }: PlannedGroup): void {
    this.#group++;
    this.#test = 0;
    this.#line(1, 'KTAP version 1');
    this.#line(1, `# Subtest: ${clean(title)}`);
    this.#line(1, `1..${tests.length}`);
  }

  testEnds(record: TestRecord): void {
    const last = record.attempts.at(-1);
    if (last && last.subtests.length > 0) {
      this.#line(2, 'KTAP version 1');
      this.#line(2, `# Subtest: ${clean(record.name)}`);
      this.#line(2, `1..${last.subtests.length}`);
      last.subtests.forEach((subtest, i) => {
        this.#result(2, i + 1, subtest);
      });
    }
    for (const { name, unit, count, p50, p99, max } of last?.metrics ?? []) {
      this.#line(1, `# ${clean(name)}: p50 ${p50} p99 ${p99} max ${max} ${clean(unit)} (${count})`);
    }
    this.#result(1, ++this.#test, record);
  }

  groupEnds({ title }: PlannedGroup, records: readonly TestRecord[]): void {
    const bad = records.filter(({ verdict }) => !GREEN.includes(verdict));
    const isSkipped = records.length > 0 && records.every(({ verdict }) => verdict === 'SKIP');
    const verdict = bad.length > 0 ? 'FAIL' : isSkipped ? 'SKIP' : 'PASS';
    this.#result(0, this.#group, { name: title, verdict, ...(isSkipped ? { reason: 'all of them' } : {}) });
  }

  #result(
    level: number,
    number: number,
    { name, verdict, reason }: Pick<SubtestRecord, 'name' | 'reason'> & { verdict: Verdict },
  ): void {
    const ok = GREEN.includes(verdict) ? 'ok' : 'not ok';
    const plain = verdict === 'PASS' || (verdict === 'FAIL' && reason === undefined);
    const directive = plain ? '' : ` # ${verdict}${reason === undefined ? '' : ` ${clean(reason)}`}`;
    this.#line(level, `${ok} ${number} ${clean(name)}${directive}`);
  }

  #line(level: number, text: string): void {
    this.#write(`${'  '.repeat(level)}${text}\n`);
  }
}

/** On one line, and without what would begin a directive. */
function clean(text: string): string {
  return text
    .replaceAll(/\s*\n\s*/g, ' | ')
    .replaceAll('#', '\\#')
    .trim();
}
