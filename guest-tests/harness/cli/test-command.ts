/** `causeway test`. */
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Writable } from 'node:stream';
import type { Native } from '../../../native/types.ts';
import { BindingJournal } from '../../../passthrough/host/binding-journal.ts';
import { type CausewayError, ERROR_CODES, isCausewayError } from '../../../vmm/base/errors.ts';
import { parseOptions, usageError } from '../../../vmm/cli/arguments.ts';
import { versionText } from '../../../vmm/cli/help.ts';
import { type SignalSource, StopRequest } from '../../../vmm/cli/stop-request.ts';
import type { DeviceWorld } from '../device/device-under-test.ts';
import { openKernelLog } from '../device/kernel-log.ts';
import { Lease } from '../device/lease.ts';
import { takeDevices } from '../device/take-devices.ts';
import type { GuestMaker } from '../guests.ts';
import { type RunRecord, TEST_EXIT } from '../model.ts';
import { compareRuns, describeComparison, readRun } from '../report/compare.ts';
import { KtapReporter } from '../report/ktap.ts';
import { ProgressReporter } from '../report/progress.ts';
import { LIMITS, type Limits } from '../run/attempt.ts';
import { planRun, type Suite } from '../run/plan.ts';
import { RunFolder } from '../run/run-folder.ts';
import { readJournal } from '../run/run-journal.ts';
import { runSuites } from '../run/runner.ts';
import { loadSuites } from './load-suites.ts';
import { writeResults } from './results.ts';
import { selectDevices } from './select-devices.ts';
import { COMPARE_OPTIONS, TEST_HELP, TEST_OPTIONS, type TestOptionValues } from './test-options.ts';

/** What the command touches; a test brings its own. */
export interface TestWorld {
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly process: SignalSource;
  /** The kernel seam; the addon when left out. */
  readonly native?: Native;
  readonly guests?: GuestMaker;
  /** Where bindings and leases are kept, in place of /run/causeway. */
  readonly stateDirectory?: string;
}

/**
 * @returns the exit code: {@link TEST_EXIT}
 * @throws CausewayError of the command line; everything later has its exit code
 */
export async function testCommand(args: readonly string[], world: TestWorld): Promise<number> {
  if (args.includes('--help') || args.includes('-h')) {
    world.stdout.write(TEST_HELP);
    return TEST_EXIT.green;
  }
  try {
    return args[0] === 'compare' ? compare(args.slice(1), world) : await test(args, world);
  } catch (error) {
    const code = exitCodeOfError(error);
    const hint = isCausewayError(error) && error.hint ? `\n  hint: ${error.hint.replaceAll('\n', '\n        ')}` : '';
    world.stderr.write(`causeway test: ${error instanceof Error ? error.message : String(error)}${hint}\n`);
    return code;
  }
}

/** Faults of the command line and of files are the caller's; what else goes wrong before a test is the host's. */
function exitCodeOfError(error: unknown): number {
  if (!isCausewayError(error)) return TEST_EXIT.infra;
  const { exit } = ERROR_CODES[(error as CausewayError).code];
  if (exit === 'usage' || exit === 'config') return TEST_EXIT.usage;
  return exit === 'interrupted' ? TEST_EXIT.interrupted : TEST_EXIT.infra;
}

async function test(args: readonly string[], world: TestWorld): Promise<number> {
  const words: string[] = [];
  const options = parseOptions('test', args, TEST_OPTIONS, words);
  const models = options.lab ?? [];
  if (models.length > 0 && (options.device || options.match)) {
    throw usageError('test', ['--lab brings its own devices: leave out --device and --match']);
  }
  if (options.resume !== undefined && !existsSync(join(options.resume, 'journal.jsonl'))) {
    throw usageError('test', [`--resume ${options.resume}: there is no journal.jsonl in it`]);
  }
  const suites = filtered(await loadSuites(words), options.filter);
  if (options.list) return list(suites, world);
  const folder = new RunFolder(resolve(options.resume ?? options.output ?? defaultFolder()));
  using stop = new StopRequest(world.process);
  const run =
    models.length > 0
      ? await inLab(models, words, options, folder, stop, world)
      : await onHost(suites, options, folder, stop, world);
  writeResults(run, folder, options, world.stdout);
  if (!options['no-html']) await writeReport(run, folder, world);
  return run.exitCode;
}

async function onHost(
  suites: readonly Suite[],
  options: TestOptionValues,
  folder: RunFolder,
  stop: StopRequest,
  world: TestWorld,
): Promise<RunRecord> {
  const native = world.native ?? (await import('../../../native/index.ts')).loadNative();
  const guests = world.guests ?? (await import('../real-guests.ts')).realGuests();
  const state = world.stateDirectory ?? '/run/causeway';
  const deviceWorld: DeviceWorld = {
    native,
    journal: new BindingJournal(join(state, 'bindings')),
    openKernelLog,
    lease: (bdf) => new Lease(bdf, folder.path, join(state, 'leases')),
  };
  const past = options.resume === undefined ? undefined : readJournal(folder.journal);
  const ktap = (text: string): void => {
    folder.append('results.ktap', text);
    if (options.json !== '-') world.stdout.write(text);
  };
  const wanted = selectDevices(native, options.device ?? [], options.match ?? []);
  const devices = takeDevices(deviceWorld, wanted, ({ bdf, leftBy }) => {
    if (leftBy !== undefined) world.stderr.write(`causeway test: ${epitaph(bdf, leftBy, folder.path)}\n`);
  });
  folder.write('results.ktap', '');
  return runSuites({
    suites,
    devices,
    guests,
    folder,
    limits: limitsOf(options),
    retries: options.retries ?? 0,
    ...(options['run-timeout'] === undefined ? {} : { runTimeoutMs: options['run-timeout'] * 1000 }),
    signal: withReason(stop),
    listeners: [
      new KtapReporter(ktap),
      new ProgressReporter((text) => world.stderr.write(text), options.verbose ?? false),
    ],
    ...(past ? { past } : {}),
    version: versionText(),
  });
}

async function inLab(
  models: readonly string[],
  words: readonly string[],
  options: TestOptionValues,
  folder: RunFolder,
  stop: StopRequest,
  world: TestWorld,
): Promise<RunRecord> {
  const { joinModels, runInLab } = await import('./lab-run.ts');
  return runInLab({ ...world, models: joinModels(models), words, options, folder, signal: withReason(stop) });
}

/** What a run that died with this device had been doing. */
function epitaph(bdf: string, left: string, folder: string): string {
  const { unfinished } = readJournal(join(left, 'journal.jsonl'));
  const [what] = unfinished.keys();
  const during = what === undefined ? '' : `, during ${what}`;
  const advice = left === folder ? '' : `; --resume ${left} would go on after it`;
  return `${bdf}: the run in ${left} was killed${during}; the device has been taken back${advice}`;
}

function limitsOf({ timeout, silence }: TestOptionValues): Limits {
  return {
    ...LIMITS,
    ...(timeout === undefined ? {} : { testMs: timeout * 1000 }),
    ...(silence === undefined ? {} : { silenceMs: silence * 1000 }),
  };
}

/** The signal with its reason in words. */
function withReason(stop: StopRequest): AbortSignal {
  const abort = new AbortController();
  void stop.requested.then(({ message }) => abort.abort(message?.split(':')[0] ?? 'interrupted'));
  return abort.signal;
}

function filtered(suites: readonly Suite[], pattern: string | undefined): Suite[] {
  if (pattern === undefined) return [...suites];
  let regex: RegExp;
  try {
    regex = new RegExp(pattern);
  } catch (error) {
    throw usageError('test', [`--filter: ${error instanceof Error ? error.message : String(error)}`]);
  }
  const left = suites
    .map(({ name, tests }) => ({ name, tests: tests.filter((each) => regex.test(`${name}/${each.name}`)) }))
    .filter(({ tests }) => tests.length > 0);
  if (left.length === 0) throw usageError('test', [`--filter ${pattern}: no test matches`]);
  return left;
}

/** By what a test says of its device. */
const HOW_OFTEN: Readonly<Record<string, string>> = { true: '  (per device)', all: '  (all devices)', false: '' };

function list(suites: readonly Suite[], world: TestWorld): number {
  for (const { tests } of planRun(suites, [])) {
    for (const { id, spec } of tests) world.stdout.write(`${id}${HOW_OFTEN[String(spec.options.device ?? true)]}\n`);
  }
  return TEST_EXIT.green;
}

async function writeReport(run: RunRecord, folder: RunFolder, world: TestWorld): Promise<void> {
  const { htmlReport } = await import('../report/html.ts');
  folder.write('report.html', htmlReport(run));
  world.stderr.write(`report: ${join(folder.path, 'report.html')}\n`);
}

function compare(args: readonly string[], world: TestWorld): number {
  const words: string[] = [];
  const { json } = parseOptions('test', args, COMPARE_OPTIONS, words);
  if (words.length !== 2)
    throw usageError('test', ['compare needs two files: causeway test compare OLD.json NEW.json']);
  const [before, after] = words.map((file) => {
    try {
      return readRun(readFileSync(file, 'utf8'));
    } catch (error) {
      throw usageError('test', [`${file}: ${error instanceof Error ? error.message : String(error)}`]);
    }
  });
  const comparison = compareRuns(before!, after!);
  world.stdout.write(json ? `${JSON.stringify(comparison)}\n` : describeComparison(comparison));
  return comparison.broken.length > 0 ? TEST_EXIT.failed : TEST_EXIT.green;
}

function defaultFolder(): string {
  return join('causeway-results', new Date().toISOString().slice(0, 19).replaceAll(':', '-'));
}
