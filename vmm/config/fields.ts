/** Fields of an object that a user wrote, before anything about them is known. */
import { didYouMean, type IssueList } from './issues.ts';

export type Fields = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Reports every key that is not in `known`. */
export function checkKeys(fields: Fields, known: readonly string[], path: string, issues: IssueList): void {
  for (const key of Object.keys(fields)) {
    if (known.includes(key)) continue;
    const where = path === '' ? key : `${path}.${key}`;
    issues.add(where, `is not known${didYouMean(key, known)}`);
  }
}

/** A value as it stands in a message: short, on one line. */
export function describe(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (Array.isArray(value)) return 'a list';
  if (value === null || typeof value !== 'object') return typeof value === 'function' ? 'a function' : String(value);
  return 'an object';
}
