/**
 * `test()`: what a test file calls. Tests are kept in a list of the process, not of the module: a file that is loaded by
 * another loader has its own copy of this module, and must still be found.
 */
import type { DeviceFacts, Fixtures } from './fixtures.ts';

/** Undefined when a device will do, else why it does not: the reason of the SKIP. */
export type Need = (device: DeviceFacts) => string | undefined;

/** What the host looks at after a test, and a test may take upon itself to cause. */
export type Tolerance = 'iommu-faults' | 'aer' | 'config' | 'link' | 'host-log' | 'guest-crash';

export interface TestOptions {
  /** What the device must have; with `device: 'all'` each of them. */
  readonly needs?: Need | readonly Need[];
  /** true (default): run for each device of the run. `all`: run once, with all of them. false: run once, with none. */
  readonly device?: boolean | 'all';
  /** Time for the whole test, in ms. Default 120 000. */
  readonly timeoutMs?: number;
  /** The test is given up when guest, log and steps are silent for so long, in ms. Default: no limit. */
  readonly silenceMs?: number;
  /** Why the test is known to fail: it is then XFAIL, and XPASS should it pass. A function decides by device, if it is one. */
  readonly expectFailure?: string | ((device: DeviceFacts | undefined) => string | undefined);
  /** What this test provokes on purpose. */
  readonly tolerates?: readonly Tolerance[];
  /** How often it is repeated after a failure; default: what the run says. */
  readonly retries?: number;
}

export type TestFunction = (fixtures: Fixtures) => void | Promise<void>;

export interface TestSpec {
  readonly name: string;
  readonly options: TestOptions;
  readonly run: TestFunction;
}

const KEY = Symbol.for('causeway.harness.registry');

/** Where `test()` goes: the runner collects, the adapter for vitest declares. */
export interface Registry {
  add(spec: TestSpec): void;
}

type Holder = { [KEY]?: Registry | undefined };

/** Declares a test. The file is the suite. */
export function test(name: string, run: TestFunction): void;
export function test(name: string, options: TestOptions, run: TestFunction): void;
export function test(name: string, second: TestOptions | TestFunction, third?: TestFunction): void {
  const registry = (globalThis as Holder)[KEY];
  const [options, run] = typeof second === 'function' ? [{}, second] : [second, third];
  if (!run) throw new TypeError(`test "${name}" has no function`);
  if (!registry)
    throw new Error(`test "${name}": run this file with "causeway test FILE", or under vitest with its adapter`);
  registry.add({ name, options, run });
}

/** Sends the tests that are declared from now on to `registry`. @returns what ends that */
export function install(registry: Registry): () => void {
  const holder = globalThis as Holder;
  const before = holder[KEY];
  holder[KEY] = registry;
  return () => {
    holder[KEY] = before;
  };
}

/** Runs `load` and gives the tests that it declared. @throws what `load` throws, and Error for a name that is used twice */
export async function collect(load: () => Promise<unknown>): Promise<TestSpec[]> {
  const specs: TestSpec[] = [];
  const uninstall = install({
    add: (spec) => {
      if (specs.some(({ name }) => name === spec.name)) throw new Error(`two tests are called "${spec.name}"`);
      specs.push(spec);
    },
  });
  try {
    await load();
  } finally {
    uninstall();
  }
  return specs;
}
