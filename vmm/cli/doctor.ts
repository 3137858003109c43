/** `causeway doctor`: what keeps this host, or a device, from being used, and what cures it. */

import { examine } from '../../passthrough/doctor/doctor.ts';
import { doctorExitCode, type Finding } from '../../passthrough/doctor/finding.ts';
import { normaliseBdf } from '../../passthrough/host/bdf.ts';
import { MIB } from '../base/bits.ts';
import { parseSize } from '../base/units.ts';
import { parseOptions, usageError } from './arguments.ts';
import { DOCTOR_OPTIONS } from './host-options.ts';
import { type HostWorld, nativeOf, print } from './host-world.ts';

const DEFAULT_RAM_BYTES: number = 512 * MIB;

/** @returns 0 in order, 1 warnings, 2 something is fatal. @throws CausewayError USAGE, CONFIG_INVALID */
export async function doctorCommand(args: readonly string[], world: HostWorld): Promise<number> {
  const words: string[] = [];
  const options = parseOptions('doctor', args, DOCTOR_OPTIONS, words);
  const ramBytes = options.memory === undefined ? DEFAULT_RAM_BYTES : parseSize(options.memory);
  if (ramBytes === undefined) throw usageError('doctor', [`--memory: "${options.memory}" is not a size`]);
  const bdfs = words.map(normaliseBdf);
  const findings = examine(await nativeOf(world), { bdfs, ramBytes });
  const exitCode = doctorExitCode(findings);
  print(
    world,
    options.json,
    { exitCode, findings },
    () => `${findings.map(formatFinding).join('\n')}\n${verdict(findings)}\n`,
  );
  return exitCode;
}

function formatFinding({ id, severity, subject, evidence, explanation, fix }: Finding): string {
  return [
    `${severity.padEnd(8)} ${id} (${subject}): ${explanation}`,
    ...evidence.map(({ path, value }) => `         ${path}: ${value}`),
    ...fix.map(({ command, reboot }) => `         fix: ${command}${reboot ? ' (then reboot)' : ''}`),
  ].join('\n');
}

function verdict(findings: readonly Finding[]): string {
  const count = (severity: Finding['severity']): number => findings.filter((each) => each.severity === severity).length;
  const [fatal, warnings] = [count('fatal'), count('warning')];
  return fatal + warnings === 0 ? 'nothing to remark' : `${fatal} fatal, ${warnings} warnings`;
}
