/** Tables for the help and for docs/errors.md, made from the source of the errors. */
import { ERROR_CODES, EXIT_CODE, type ExitCodeName } from '../base/errors.ts';

const EXIT_MEANING: Readonly<Record<ExitCodeName, string>> = {
  ok: 'The guest powered off, or wrote 0 to the debug-exit port.',
  internal: 'Causeway itself failed: a defect, or an unexpected error of the kernel.',
  usage: 'The command line is wrong.',
  host: 'This host cannot do it: no KVM, no IOMMU, no permission, a limit too low.',
  config: 'The configuration, or a file that it names, is wrong.',
  guest: 'The guest died of something that KVM cannot carry on from.',
  rebootLimit: 'The guest rebooted more often than allowed.',
  device: 'The assigned device cannot be used, or was lost.',
  debugExit: 'The guest wrote a value other than 0 to the debug-exit port; stderr and --json tell the value.',
  timeout: 'The time allowed ran out.',
  interrupted: 'The run was interrupted: Ctrl-C, or the escape key.',
};

/** Codes that are not constants of their own: 128 plus the number of the signal. */
const SIGNAL_EXITS: readonly (readonly [number, string])[] = [
  [129, 'SIGHUP; the devices were given back.'],
  [143, 'SIGTERM; the devices were given back.'],
];

/** Exit codes in ascending order with what they mean. */
export function exitCodes(): readonly (readonly [number, string])[] {
  const named = (Object.entries(EXIT_CODE) as [ExitCodeName, number][]).map(
    ([name, code]) => [code, EXIT_MEANING[name]] as const,
  );
  return [...named, ...SIGNAL_EXITS].sort(([a], [b]) => a - b);
}

/** The text of docs/errors.md. */
export function errorsDocument(): string {
  const codes = Object.entries(ERROR_CODES).map(
    ([code, { exit, meaning }]) => `| \`${code}\` | ${EXIT_CODE[exit]} | ${meaning} |`,
  );
  const exits = exitCodes().map(([code, meaning]) => `| ${code} | ${meaning} |`);
  return `# Errors

<!-- Made from vmm/base/errors.ts by scripts/generate-docs.mjs. Do not edit. -->

Every error that Causeway throws is a \`CausewayError\` with a stable \`code\`, a message, and mostly a \`hint\` that says what
to do next. An error of the kernel brings its \`errno\`, \`syscall\` and \`path\`. With \`--json\` the command line prints
\`{ code, message, hint, … }\` to stdout.

## Error codes

| code | exit code | meaning |
| --- | --- | --- |
${codes.join('\n')}

## Exit codes of the command line

| code | meaning |
| --- | --- |
${exits.join('\n')}
`;
}
