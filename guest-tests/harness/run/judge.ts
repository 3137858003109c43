/** From how an attempt ended, and what the host saw after it, to a verdict. Pure. */
import type { Invariant, Verdict } from '../model.ts';
import type { Ending } from './failures.ts';

export interface Judgement {
  readonly verdict: Verdict;
  readonly reason?: string;
}

/** Verdicts of a test that went wrong by itself. */
const WRONG = { fail: 'FAIL', timeout: 'TIMEOUT', crash: 'CRASH', hang: 'HANG' } as const;
/** Worth another try: INFRA is not, for nothing of the test is known then. */
export const REPEATABLE: readonly Verdict[] = ['FAIL', 'TIMEOUT', 'CRASH', 'HANG'];

/**
 * @param expected why the test is known to fail, if it is
 */
export function judge(ending: Ending, invariants: readonly Invariant[], expected?: string): Judgement {
  const broken = invariants.filter(({ ok }) => !ok);
  const fatal = broken.filter(({ isFatal }) => isFatal);
  if (ending.kind === 'infra') return { verdict: 'INFRA', reason: join(ending.reason, tell(broken)) };
  if (fatal.length > 0) return { verdict: 'INFRA', reason: join(tell(broken), whatTestSaid(ending)) };
  switch (ending.kind) {
    case 'pass':
      if (broken.length > 0) return { verdict: 'INFRA', reason: tell(broken)! };
      return expected === undefined ? { verdict: 'PASS' } : { verdict: 'XPASS', reason: `known to fail: ${expected}` };
    case 'skip':
      return broken.length > 0
        ? { verdict: 'INFRA', reason: tell(broken)! }
        : { verdict: 'SKIP', reason: ending.reason ?? 'no reason given' };
    case 'aborted':
      return { verdict: 'TIMEOUT', reason: ending.reason ?? 'the run was ended' };
    default: {
      const reason = join(ending.reason, broken.length > 0 ? `also: ${tell(broken)}` : undefined);
      if (expected !== undefined)
        return { verdict: 'XFAIL', reason: `${expected} (${ending.kind}: ${reason.split('\n')[0]})` };
      return { verdict: WRONG[ending.kind], reason };
    }
  }
}

/** One verdict for all tries. */
export function overTries(tries: readonly Judgement[]): Judgement {
  const [first, last] = [tries[0]!, tries.at(-1)!];
  if (tries.length === 1) return first;
  const [count, reason] = [tries.length, first.reason ?? ''];
  if (last.verdict === 'PASS')
    return { verdict: 'FLAKY', reason: `${first.verdict} first, PASS at try ${count}: ${reason}` };
  if (last.verdict === 'INFRA') return last;
  return { verdict: first.verdict, reason: `in ${count} tries: ${reason}` };
}

function tell(broken: readonly Invariant[]): string | undefined {
  return broken.length === 0 ? undefined : broken.map(({ name, detail }) => `${name}: ${detail ?? 'no'}`).join('; ');
}

function whatTestSaid({ kind, reason }: Ending): string | undefined {
  return kind === 'pass' ? undefined : `the test itself: ${kind}${reason ? `, ${reason}` : ''}`;
}

function join(...parts: readonly (string | undefined)[]): string {
  return parts.filter(Boolean).join('; ');
}
