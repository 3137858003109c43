/** What may be set for an assigned device beside its address. */
import { isFdRef } from './fd-settings.ts';
import { checkKeys, describe, type Fields, isObject } from './fields.ts';
import type { IssueList } from './issues.ts';
import type {
  DeviceConfig,
  MsixRelocation,
  NormalDeviceConfig,
  OnError,
  PciIds,
  ResetMethod,
  RomConfig,
  WcMode,
  WcModes,
} from './model.ts';

/** `satisfies` keeps the list complete: a field added to the model must be added here. */
export const DEVICE_KEYS: readonly string[] = Object.keys({
  bdf: 0,
  vfToken: 0,
  deviceFd: 0,
  groupFd: 0,
  configPermit: 0,
  configPermitForce: 0,
  wc: 0,
  rom: 0,
  ids: 0,
  msixRelocation: 0,
  reset: 0,
  p2p: 0,
  port: 0,
  onError: 0,
} satisfies Record<keyof DeviceConfig, 0>);

export const WC_MODES: readonly WcMode[] = ['auto', 'require', 'deny', 'host'];

const MSIX_RELOCATIONS: readonly MsixRelocation[] = ['off', 'auto', 'bar0', 'bar1', 'bar2', 'bar3', 'bar4', 'bar5'];
const ON_ERROR: readonly OnError[] = ['report', 'pause', 'stop', 'reset'];

const RESET_METHODS: readonly ResetMethod[] = Object.keys({
  auto: 0,
  flr: 0,
  af_flr: 0,
  pm: 0,
  bus: 0,
  hot: 0,
  acpi: 0,
  cxl_bus: 0,
  device_specific: 0,
  none: 0,
} satisfies Record<ResetMethod, 0>) as ResetMethod[];

/** Largest value of each identifier. */
export const ID_LIMITS: Readonly<Record<keyof PciIds, number>> = {
  vendor: 0xffff,
  device: 0xffff,
  subsystemVendor: 0xffff,
  subsystemDevice: 0xffff,
  revision: 0xff,
};

type Settings = Omit<NormalDeviceConfig, 'bdf'>;

/** What was given is checked and kept; what was not stays away. */
export function readDeviceSettings(entry: Fields, path: string, issues: IssueList): Settings {
  const { configPermit, configPermitForce, wc, rom, ids, msixRelocation, reset, p2p, vfToken, deviceFd, groupFd } =
    entry;
  const { port, onError } = entry;
  const modes = wc === undefined ? undefined : readWc(wc, `${path}.wc`, issues);
  if (configPermitForce !== undefined && typeof configPermitForce !== 'boolean') {
    issues.add(`${path}.configPermitForce`, `must be true or false, not ${describe(configPermitForce)}`);
  }
  if (p2p !== undefined && typeof p2p !== 'boolean') {
    issues.add(`${path}.p2p`, `must be true or false, not ${describe(p2p)}`);
  }
  const guestIds = ids === undefined ? undefined : readIds(ids, `${path}.ids`, issues);
  return {
    ...(isToken(vfToken, `${path}.vfToken`, issues) ? { vfToken: vfToken.toLowerCase() } : {}),
    ...(isFdRef(deviceFd, `${path}.deviceFd`, issues) ? { deviceFd } : {}),
    ...(isFdRef(groupFd, `${path}.groupFd`, issues) ? { groupFd } : {}),
    ...(typeof p2p === 'boolean' ? { p2p } : {}),
    ...(isOneOf(RESET_METHODS, reset, `${path}.reset`, issues) ? { reset } : {}),
    ...(isOneOf(MSIX_RELOCATIONS, msixRelocation, `${path}.msixRelocation`, issues) ? { msixRelocation } : {}),
    ...(isRom(rom, `${path}.rom`, issues) ? { rom } : {}),
    ...(guestIds && Object.keys(guestIds).length > 0 ? { ids: guestIds } : {}),
    ...(isPermit(configPermit, `${path}.configPermit`, issues) ? { configPermit } : {}),
    ...(typeof configPermitForce === 'boolean' ? { configPermitForce } : {}),
    ...(modes ? { wc: modes } : {}),
    ...(isPort(port, `${path}.port`, issues) ? { port } : {}),
    ...(isOneOf(ON_ERROR, onError, `${path}.onError`, issues) ? { onError } : {}),
  };
}

function isToken(value: unknown, path: string, issues: IssueList): value is string {
  if (value === undefined) return false;
  if (typeof value === 'string' && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value)) return true;
  issues.add(path, `must be a UUID, not ${describe(value)}`, 'uuidgen makes one');
  return false;
}

function isPermit(value: unknown, path: string, issues: IssueList): value is string | readonly string[] {
  if (value === undefined) return false;
  if (typeof value === 'string' && value !== '' && !value.includes('\0')) return true;
  if (Array.isArray(value) && value.every((line) => typeof line === 'string')) return true;
  issues.add(path, `must be a path or a list of lines, not ${describe(value)}`);
  return false;
}

function isPort(value: unknown, path: string, issues: IssueList): value is string {
  if (value === undefined) return false;
  if (typeof value === 'string' && /^[a-z][a-z0-9_-]{0,31}$/i.test(value)) return true;
  issues.add(path, `must be a name of letters, digits, "-" and "_", not ${describe(value)}`);
  return false;
}

function isOneOf<T extends string>(words: readonly T[], value: unknown, path: string, issues: IssueList): value is T {
  if (value === undefined) return false;
  if ((words as readonly unknown[]).includes(value)) return true;
  issues.add(path, `must be ${listed(words)}, not ${describe(value)}`);
  return false;
}

function isRom(value: unknown, path: string, issues: IssueList): value is RomConfig {
  if (value === undefined) return false;
  if (value === 'off' || value === 'host') return true;
  if (typeof value === 'string' && /^file:[^\0]+$/.test(value)) return true;
  issues.add(path, `must be "off", "host" or "file:PATH", not ${describe(value)}`);
  return false;
}

function readIds(value: unknown, path: string, issues: IssueList): PciIds | undefined {
  if (!isObject(value)) return issues.add(path, `must be an object, not ${describe(value)}`);
  checkKeys(value, Object.keys(ID_LIMITS), path, issues);
  const ids: Partial<Record<keyof PciIds, number>> = {};
  for (const [key, limit] of Object.entries(ID_LIMITS) as [keyof PciIds, number][]) {
    const given = value[key];
    if (given === undefined) continue;
    const id = typeof given === 'string' && /^0x[0-9a-f]+$/i.test(given) ? Number(given) : given;
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > limit) {
      issues.add(`${path}.${key}`, `must be a number from 0 to 0x${limit.toString(16)}, not ${describe(given)}`);
    } else if (key === 'vendor' && (id === 0 || id === limit)) {
      // Guests take both for an empty slot.
      issues.add(`${path}.vendor`, 'must not be 0 or 0xffff: the guest would see no device');
    } else ids[key] = id;
  }
  return ids;
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
