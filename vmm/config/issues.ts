/** Collects the faults of a configuration, so that all are reported at once, each with its path. */
import { CausewayError, type ConfigIssue } from '../base/errors.ts';

export class IssueList {
  readonly #issues: ConfigIssue[] = [];
  readonly #hints = new Set<string>();

  /** @param hint what to write instead, when there is something general to say */
  add(path: string, message: string, hint?: string): undefined {
    this.#issues.push({ path, message });
    if (hint !== undefined) this.#hints.add(hint);
    return undefined;
  }

  /** @throws CausewayError CONFIG_INVALID when there is any issue */
  throwIfAny(): void {
    const lines = this.#issues.map(({ path, message }) => (path === '' ? message : `${path}: ${message}`));
    if (lines.length === 0) return;
    const message =
      lines.length === 1 ? lines[0]! : `the configuration has ${lines.length} faults:\n  ${lines.join('\n  ')}`;
    throw new CausewayError('CONFIG_INVALID', message, {
      issues: this.#issues,
      ...(this.#hints.size > 0 ? { hint: [...this.#hints].join('; ') } : {}),
    });
  }
}

/** ` (did you mean "memory"?)` when a known name is near, else nothing. */
export function didYouMean(word: string, known: readonly string[]): string {
  const limit = word.length <= 2 ? 1 : 2;
  let best: string | undefined;
  let bestDistance = limit + 1;
  for (const name of known) {
    const distance = editDistance(word.toLowerCase(), name.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [name, distance];
  }
  return best === undefined ? '' : ` (did you mean "${best}"?)`;
}

/** Levenshtein's distance; a swap of neighbours counts as two. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length]!;
}
