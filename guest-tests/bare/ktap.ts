/**
 * Reads what a payload prints: KTAP (kernel: Documentation/dev-tools/ktap.rst), flat, with three kinds of diagnostic line of
 * its own: `# took N us` after a test that was slow, `# metric name value unit`, and `# distribution name unit count` with
 * 101 values.
 */

/** One test of a payload. */
export interface TestResult {
  readonly name: string;
  readonly verdict: 'pass' | 'fail' | 'skip';
  /** Why it failed or was skipped. */
  readonly reason?: string;
  /** By the guest's own clock, where it is worth telling. */
  readonly tookUs?: number;
}

/** A number that a payload measured. */
export interface Metric {
  readonly value: number;
  readonly unit: string;
}

/** Many numbers of one kind, as a payload measured them. */
export interface Distribution {
  readonly unit: string;
  /** How many there were. */
  readonly count: number;
  /** The least, every percentile, the most: 101 values. */
  readonly percentiles: readonly number[];
}

export interface KtapReport {
  /** How many tests were announced; undefined without a plan. */
  readonly planned: number | undefined;
  readonly results: readonly TestResult[];
  readonly metrics: Readonly<Record<string, Metric>>;
  readonly distributions: Readonly<Record<string, Distribution>>;
  /** Why the payload gave up as a whole. */
  readonly bailOut: string | undefined;
}

/** Never throws: lines that mean nothing are console output like any other. */
export function parseKtap(console: string): KtapReport {
  let planned: number | undefined;
  let bailOut: string | undefined;
  const results: TestResult[] = [];
  const metrics: Record<string, Metric> = {};
  const distributions: Record<string, Distribution> = {};
  for (const line of console.split(/\r?\n/)) {
    const plan = /^1\.\.(\d+)$/.exec(line);
    const result = /^(not )?ok \d+(?: -)? (.*)$/.exec(line);
    const took = /^# took (\d+) us$/.exec(line);
    const metric = /^# metric (\S+) (\d+) (\S+)$/.exec(line);
    const many = /^# distribution (\S+) (\S+) (\d+)((?: \d+){101})$/.exec(line);
    if (plan) planned = Number(plan[1]);
    else if (metric) metrics[metric[1]!] = { value: Number(metric[2]), unit: metric[3]! };
    else if (many) {
      const percentiles = many[4]!.trim().split(' ').map(Number);
      distributions[many[1]!] = { unit: many[2]!, count: Number(many[3]), percentiles };
    } else if (took && results.length > 0) results.push({ ...results.pop()!, tookUs: Number(took[1]) });
    else if (line.startsWith('Bail out!')) bailOut = line.slice('Bail out!'.length).trim();
    else if (result) results.push(readResult(result[1] !== undefined, result[2]!));
  }
  return { planned, results, metrics, distributions, bailOut };
}

/** `name`, `name # reason`, `name # SKIP reason`. */
function readResult(failed: boolean, text: string): TestResult {
  const [, name = text, remark] = /^(.*?)(?: # (.*))?$/.exec(text) ?? [];
  const skip = /^SKIP\b\s*(.*)$/i.exec(remark ?? '');
  if (failed) return { name, verdict: 'fail', reason: remark ?? 'no reason given' };
  if (skip) return { name, verdict: 'skip', reason: skip[1]! };
  return { name, verdict: 'pass' };
}
