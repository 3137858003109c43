/** Reads a command line against a table of options and reports every fault at once. */
import { parseArgs } from 'node:util';
import { CausewayError } from '../base/errors.ts';
import { didYouMean } from '../config/issues.ts';

/** One option of a command. The help text is made from the same table. */
export interface OptionSpec {
  /** `list` is repeatable and splits at commas, `items` is repeatable and does not. */
  readonly type: 'flag' | 'text' | 'list' | 'items' | 'whole' | 'seconds';
  /** How the value is called in the help, for example `FILE`. */
  readonly value?: string;
  readonly help: string;
  /** The value may be empty or look like an option. */
  readonly anyText?: boolean;
}

export type OptionTable = Readonly<Record<string, OptionSpec>>;

type ValueOf<S extends OptionSpec> = S['type'] extends 'flag'
  ? boolean
  : S['type'] extends 'text'
    ? string
    : S['type'] extends 'list' | 'items'
      ? readonly string[]
      : number;

/** What was given, by option name; what was not given is absent. */
export type OptionValues<T extends OptionTable> = { readonly [K in keyof T]?: ValueOf<T[K]> };

/**
 * Parses the arguments of one command.
 * @param command for the hint, for example `run`
 * @param words takes the words that are no options, such as an address; without it they are faults
 * @throws CausewayError USAGE listing every unknown option, missing value, bad number and stray word
 */
export function parseOptions<T extends OptionTable>(
  command: string,
  args: readonly string[],
  table: T,
  words?: string[],
): OptionValues<T> {
  const faults: string[] = [];
  const values: Record<string, boolean | string | number | string[]> = {};
  const options = Object.fromEntries(
    Object.entries(table).map(([name, spec]) => [name, { type: spec.type === 'flag' ? 'boolean' : 'string' } as const]),
  );
  const { tokens } = parseArgs({ args: [...args], options, strict: false, allowPositionals: true, tokens: true });
  for (const token of tokens) {
    if (token.kind === 'positional') {
      if (words) words.push(token.value);
      else faults.push(`unexpected word "${token.value}"`);
    }
    if (token.kind !== 'option') continue;
    const spec = Object.hasOwn(table, token.name) ? table[token.name] : undefined;
    if (!spec) faults.push(`unknown option ${token.rawName}${didYouMean(token.name, Object.keys(table))}`);
    else readOption(token.name, spec, token.value, values, faults);
  }
  if (faults.length > 0) throw usageError(command, faults);
  return values as OptionValues<T>;
}

export function usageError(command: string, faults: readonly string[]): CausewayError {
  return new CausewayError('USAGE', faults.join('\n'), { hint: `causeway help ${command}`.trim() });
}

function readOption(
  name: string,
  spec: OptionSpec,
  text: string | undefined,
  values: Record<string, boolean | string | number | string[]>,
  faults: string[],
): void {
  const before = values[name];
  if (before !== undefined && !['list', 'items', 'flag'].includes(spec.type)) faults.push(`--${name} is given twice`);
  if (spec.type === 'flag') {
    if (text === undefined) values[name] = true;
    else faults.push(`--${name} takes no value`);
    return;
  }
  // An option where a value should be means that the value was forgotten.
  if (text === undefined || (!spec.anyText && (text === '' || text.startsWith('--')))) {
    faults.push(`--${name} needs a value: ${spec.value ?? 'VALUE'}`);
    return;
  }
  if (spec.type === 'text') values[name] = text;
  else if (spec.type === 'list' || spec.type === 'items') {
    values[name] = [...(Array.isArray(before) ? before : []), ...(spec.type === 'list' ? text.split(',') : [text])];
  } else {
    const pattern = spec.type === 'whole' ? /^\d+$/ : /^\d+(\.\d+)?$/;
    const number = pattern.test(text) ? Number(text) : Number.NaN;
    if (Number.isFinite(number)) values[name] = number;
    else faults.push(`--${name}: "${text}" is not ${spec.type === 'whole' ? 'a whole number' : 'a number of seconds'}`);
  }
}
