/**
 * What a run has done, line by line, on disk before it goes on: `attempted` before a test begins, `result` after it. A run
 * that was killed is known by an attempt without a result.
 */
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs';
import type { TestRecord } from '../model.ts';

export type JournalLine =
  | { readonly type: 'run'; readonly startedAt: string; readonly pid: number }
  | { readonly type: 'attempted'; readonly id: string; readonly attempt: number }
  | { readonly type: 'result'; readonly record: TestRecord }
  /** A signal ended the run in this test: it is to be run again. */
  | { readonly type: 'interrupted'; readonly id: string }
  | { readonly type: 'end'; readonly exitCode: number };

/** What an earlier process left. */
export interface Past {
  readonly startedAt: string | undefined;
  readonly results: readonly TestRecord[];
  /** Tests that were running when it died; how often it had tried. */
  readonly unfinished: ReadonlyMap<string, number>;
  readonly hasEnded: boolean;
}

export class RunJournal implements Disposable {
  readonly #fd: number;

  /** Appends; a line that was cut off when its process died is ended first. */
  constructor(path: string) {
    const isTorn = existsSync(path) && !/(^|\n)$/.test(readFileSync(path, 'utf8'));
    this.#fd = openSync(path, 'a', 0o644);
    if (isTorn) writeSync(this.#fd, '\n');
  }

  /** On disk when this returns. */
  write(line: JournalLine): void {
    writeSync(this.#fd, `${JSON.stringify(line)}\n`);
    fsyncSync(this.#fd);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

/** Lines that are no JSON are skipped: the last one can be torn. */
export function readJournal(path: string): Past {
  const results = new Map<string, TestRecord>();
  const unfinished = new Map<string, number>();
  let startedAt: string | undefined;
  let hasEnded = false;
  const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
  for (const line of text.split('\n')) {
    const entry = parse(line);
    if (entry?.type === 'run') {
      startedAt ??= entry.startedAt;
      hasEnded = false;
    } else if (entry?.type === 'attempted') unfinished.set(entry.id, entry.attempt);
    else if (entry?.type === 'result') {
      results.set(entry.record.id, entry.record);
      unfinished.delete(entry.record.id);
    } else if (entry?.type === 'interrupted') unfinished.delete(entry.id);
    else if (entry?.type === 'end') hasEnded = true;
  }
  return { startedAt, results: [...results.values()], unfinished, hasEnded };
}

function parse(line: string): JournalLine | undefined {
  try {
    return JSON.parse(line) as JournalLine;
  } catch {
    return undefined;
  }
}
