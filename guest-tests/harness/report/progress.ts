/** What a person at the terminal sees: a line when a test ends, and one now and then while a long one runs. */
import { GREEN, type RunRecord, type TestRecord, VERDICTS } from '../model.ts';
import type { PlannedGroup, PlannedTest } from '../run/plan.ts';
import type { RunListener } from '../run/runner.ts';

const STILL_RUNNING_MS = 30_000;

export class ProgressReporter implements RunListener {
  readonly #write: (text: string) => void;
  readonly #isVerbose: boolean;
  readonly #began = Date.now();
  #total = 0;
  #done = 0;
  #ticker: NodeJS.Timeout | undefined;

  constructor(write: (text: string) => void, isVerbose: boolean) {
    this.#write = write;
    this.#isVerbose = isVerbose;
  }

  plan(groups: readonly PlannedGroup[]): void {
    this.#total = groups.reduce((sum, { tests }) => sum + tests.length, 0);
  }

  testBegins({ suite, spec, device }: PlannedTest, attempt: number): void {
    const name = `${suite}/${spec.name}${device ? ` on ${device}` : ''}`;
    if (attempt > 1) this.#line(`${name}: try ${attempt}`);
    const began = Date.now();
    clearInterval(this.#ticker);
    this.#ticker = setInterval(() => {
      this.#line(`${name}: running for ${Math.round((Date.now() - began) / 1000)} s`);
    }, STILL_RUNNING_MS);
    this.#ticker.unref();
  }

  log({ suite, spec }: PlannedTest, line: string): void {
    if (this.#isVerbose) this.#line(`  ${suite}/${spec.name}: ${line}`);
  }

  testEnds({ suite, name, device, verdict, reason, durationMs }: TestRecord): void {
    clearInterval(this.#ticker);
    this.#done++;
    const where = device ? ` on ${device}` : '';
    const took = durationMs > 0 ? ` ${(durationMs / 1000).toFixed(1)} s` : '';
    const why = reason === undefined ? '' : `: ${GREEN.includes(verdict) ? reason.split('\n')[0] : reason}`;
    this.#line(`[${this.#done}/${this.#total}] ${verdict.padEnd(7)} ${suite}/${name}${where}${took}${why}`);
  }

  ends({ totals, durationMs, aborted, devices }: RunRecord): void {
    clearInterval(this.#ticker);
    const counts = VERDICTS.flatMap((verdict) => (totals[verdict] ? [`${totals[verdict]} ${verdict}`] : []));
    this.#line(`${counts.join(', ') || 'no tests'} in ${(durationMs / 1000).toFixed(1)} s`);
    if (aborted !== undefined) this.#line(`ended early: ${aborted}`);
    for (const { label, givenBack, quarantine } of devices) {
      if (givenBack === false || quarantine) this.#line(`${label}: ${quarantine ?? 'not given back'}`);
    }
  }

  #line(text: string): void {
    const elapsed = Math.round((Date.now() - this.#began) / 1000);
    const clock = `${String(Math.floor(elapsed / 60)).padStart(2, '0')}:${String(elapsed % 60).padStart(2, '0')}`;
    this.#write(`${clock} ${text}\n`);
  }
}
