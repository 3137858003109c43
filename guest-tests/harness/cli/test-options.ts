/** Options of `causeway test`, and its help. */
import type { OptionTable, OptionValues } from '../../../vmm/cli/arguments.ts';

export const TEST_OPTIONS = {
  device: { type: 'list', value: 'BDF[=NAME]', help: 'test this device of the host; repeatable' },
  match: { type: 'list', value: 'VVVV:DDDD', help: 'test every device with these ids; repeatable' },
  lab: { type: 'list', value: 'MODEL', help: 'test this device in an emulated host, all of them in one; repeatable' },
  'lab-kernel': { type: 'text', value: 'KERNEL', help: "the emulated host's kernel: 6.1, 6.12, a path (6.1)" },
  'lab-cpus': { type: 'whole', value: 'N', help: "the emulated host's processors (2)" },
  'lab-memory': { type: 'text', value: 'SIZE', help: "the emulated host's memory (4G, or what devices need)" },
  filter: { type: 'text', value: 'REGEX', help: 'only tests whose suite/name matches' },
  list: { type: 'flag', help: 'tell what would be run, and run nothing' },
  output: { type: 'text', value: 'DIR', help: 'the run folder (causeway-results/TIME)' },
  junit: { type: 'text', value: 'FILE', help: 'also write JUnit XML' },
  json: {
    type: 'text',
    value: 'FILE|-',
    help: 'also write the results as JSON; "-" is stdout, without KTAP then',
    anyText: true,
  },
  'no-html': { type: 'flag', help: 'no report.html in the run folder' },
  retries: { type: 'whole', value: 'N', help: 'repeat a test that failed; PASS then counts as FLAKY (0)' },
  timeout: { type: 'seconds', value: 'S', help: 'for tests that name none (120)' },
  silence: { type: 'seconds', value: 'S', help: 'give a test up that is silent for so long (no limit)' },
  'run-timeout': { type: 'seconds', value: 'S', help: 'for the whole run (no limit)' },
  resume: { type: 'text', value: 'DIR', help: 'go on with a run that was killed, after the test that killed it' },
  verbose: { type: 'flag', help: "tests' logs on stderr" },
} as const satisfies OptionTable;

export type TestOptionValues = OptionValues<typeof TEST_OPTIONS>;

export const COMPARE_OPTIONS = { json: { type: 'flag', help: 'print one JSON object' } } as const satisfies OptionTable;

export const TEST_HELP = `usage: causeway test [SUITE|FILE...] [options]
       causeway test compare OLD.json NEW.json [--json]

Runs tests against real devices, inside guests that have the device assigned. A SUITE is one of those that come with
Causeway, a FILE is TypeScript (docs/testing.md); without any, all suites. Results are KTAP on stdout, progress is on
stderr, everything else is in the run folder: run.json, report.html, consoles, dumps.

${optionList(TEST_OPTIONS)}

Exit codes: 0 green (PASS, SKIP, XFAIL, FLAKY), 1 failed, 2 usage, 3 infrastructure, 124 timeout or hang,
130 interrupted, 255 a guest crashed. "compare" exits with 1 when something is broken that was green.
`;

function optionList(table: OptionTable): string {
  const rows = Object.entries(table).map(([name, { value, help }]) => [`--${name}${value ? ` ${value}` : ''}`, help]);
  const width = Math.max(...rows.map(([option]) => option!.length));
  return rows.map(([option, help]) => `  ${option!.padEnd(width)}  ${help}`).join('\n');
}
