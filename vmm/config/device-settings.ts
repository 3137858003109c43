/** What may be set for an assigned device beside its address. */
import { describe, type Fields, isObject } from './fields.ts';
import type { IssueList } from './issues.ts';
import type { DeviceConfig, NormalDeviceConfig, WcMode, WcModes } from './model.ts';

/** `satisfies` keeps the list complete: a field added to the model must be added here. */
export const DEVICE_KEYS: readonly string[] = Object.keys({
  bdf: 0,
  configPermit: 0,
  configPermitForce: 0,
  wc: 0,
} satisfies Record<keyof DeviceConfig, 0>);

export const WC_MODES: readonly WcMode[] = ['auto', 'require', 'deny', 'host'];

type Settings = Omit<NormalDeviceConfig, 'bdf'>;

/** What was given is checked and kept; what was not stays away. */
export function readDeviceSettings(entry: Fields, path: string, issues: IssueList): Settings {
  const { configPermit, configPermitForce, wc } = entry;
  const modes = wc === undefined ? undefined : readWc(wc, `${path}.wc`, issues);
  if (configPermitForce !== undefined && typeof configPermitForce !== 'boolean') {
    issues.add(`${path}.configPermitForce`, `must be true or false, not ${describe(configPermitForce)}`);
  }
  return {
    ...(isPermit(configPermit, `${path}.configPermit`, issues) ? { configPermit } : {}),
    ...(typeof configPermitForce === 'boolean' ? { configPermitForce } : {}),
    ...(modes ? { wc: modes } : {}),
  };
}

function isPermit(value: unknown, path: string, issues: IssueList): value is string | readonly string[] {
  if (value === undefined) return false;
  if (typeof value === 'string' && value !== '' && !value.includes('\0')) return true;
  if (Array.isArray(value) && value.every((line) => typeof line === 'string')) return true;
  issues.add(path, `must be a path or a list of lines, not ${describe(value)}`);
  return false;
}

function readWc(value: unknown, path: string, issues: IssueList): WcModes | undefined {
  if (isMode(value)) return { default: value, bars: {} };
  if (!isObject(value)) return issues.add(path, `must be ${listed(WC_MODES)}, or an object, not ${describe(value)}`);
  const bars: Record<number, WcMode> = {};
  for (const [key, mode] of Object.entries(value)) {
    if (key !== 'default' && !/^[0-5]$/.test(key))
      issues.add(`${path}.${key}`, 'is neither "default" nor a BAR, 0 to 5');
    else if (!isMode(mode)) issues.add(`${path}.${key}`, `must be ${listed(WC_MODES)}, not ${describe(mode)}`);
    else if (key !== 'default') bars[Number(key)] = mode;
  }
  return { default: isMode(value.default) ? value.default : 'auto', bars };
}

function isMode(value: unknown): value is WcMode {
  return (WC_MODES as readonly unknown[]).includes(value);
}

function listed(words: readonly string[]): string {
  return words.map((word) => `"${word}"`).join(', ');
}
