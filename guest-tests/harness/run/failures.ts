/** From what a test function threw to what it means. */
import { type CausewayError, ERROR_CODES, isCausewayError } from '../../../vmm/base/errors.ts';
import type { CrashRecord } from '../model.ts';

/** Thrown by `skip`. */
export class Skipped extends Error {
  override readonly name = 'Skipped';
}

/** How an attempt went, before the host's conditions are looked at. */
export interface Ending {
  readonly kind: 'pass' | 'fail' | 'skip' | 'timeout' | 'crash' | 'hang' | 'infra' | 'aborted';
  readonly reason?: string;
  readonly crash?: CrashRecord;
}

/** Errors of Causeway that are the test's own fault: it asked for something that does not exist. */
const TEST_FAULTS = ['usage', 'config', 'debugExit', 'interrupted'];

export function endingOf(thrown: unknown): Ending {
  if (thrown instanceof Skipped) return { kind: 'skip', reason: thrown.message };
  const reason = describe(thrown);
  if (!isCausewayError(thrown)) return { kind: 'fail', reason };
  const { exit } = ERROR_CODES[(thrown as CausewayError).code];
  if (exit === 'timeout') return { kind: 'timeout', reason };
  if (exit === 'guest') return { kind: 'crash', reason };
  return { kind: TEST_FAULTS.includes(exit) || thrown.code === 'STATE' ? 'fail' : 'infra', reason };
}

/** The message, its hint, and the line of the test file. */
export function describe(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  const hint = isCausewayError(thrown) && thrown.hint ? `\n${thrown.hint}` : '';
  const at = whereInTest(thrown);
  return `${thrown.message}${hint}${at ? `\n    ${at}` : ''}`;
}

/** First frame that is neither Node's nor the harness's. */
function whereInTest(error: Error): string | undefined {
  const frames = (error.stack ?? '').split('\n').map((line) => line.trim());
  return frames.find(
    (line) =>
      line.startsWith('at ') &&
      !/node:|node_modules|[\\/]guest-tests[\\/](?:harness|guest|bare)[\\/](?!.*\.test\.)/.test(line),
  );
}
