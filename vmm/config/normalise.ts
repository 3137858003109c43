/** From what a user wrote to a complete configuration. Looks at the value only, never at the host. */
import { GIB, MIB, PAGE_SIZE } from '../base/bits.ts';
import { formatSize, parseSize } from '../base/units.ts';
import { DEVICE_KEYS, readDeviceSettings } from './device-settings.ts';
import { checkFdUse, readHostFds, readIommuMode } from './fd-settings.ts';
import { checkKeys, describe, type Fields, isObject } from './fields.ts';
import { IssueList } from './issues.ts';
import type { NormalDeviceConfig, NormalVmConfig, VmConfig } from './model.ts';

export const MIN_MEMORY_BYTES: number = 16 * MIB;
export const MAX_CPUS = 64;
export const MAX_HOTPLUG_PORTS = 16;

const DEFAULT_MEMORY_BYTES = 512 * MIB;
const DEFAULT_CMDLINE = 'console=ttyS0';
const HUGE_PAGE_BYTES: Readonly<Record<string, number>> = { '2M': 2 * MIB, '1G': GIB };

/** `satisfies` keeps the lists complete: a field added to the model must be added here. */
const VM_KEYS = Object.keys({
  name: 0,
  kernel: 0,
  initrd: 0,
  cmdline: 0,
  memory: 0,
  cpus: 0,
  hugePages: 0,
  devices: 0,
  iommu: 0,
  fds: 0,
  hotplugPorts: 0,
  rebootLimit: 0,
  unpackKernel: 0,
  channel: 0,
  control: 0,
} satisfies Record<keyof VmConfig, 0>);

/**
 * Fills in defaults, turns sizes into bytes and addresses into full form.
 * @param config a {@link VmConfig}; unknown, because most callers have it from a file
 * @throws CausewayError CONFIG_INVALID with every fault in `issues`
 */
export function normaliseVmConfig(config: unknown): NormalVmConfig {
  const issues = new IssueList();
  const fields = isObject(config) ? config : {};
  if (!isObject(config)) issues.add('', `the configuration must be an object, not ${describe(config)}`);
  else checkKeys(fields, VM_KEYS, '', issues);

  const reader = new FieldReader(fields, issues);
  const memoryBytes = readMemory(fields, issues);
  const normal: NormalVmConfig = {
    name: reader.text('name') ?? 'vm',
    kernel: (isObject(config) ? reader.requiredText('kernel') : undefined) ?? '',
    initrd: reader.text('initrd'),
    cmdline: reader.text('cmdline', { mayBeEmpty: true }) ?? DEFAULT_CMDLINE,
    memoryBytes,
    cpus: reader.integer('cpus', 1, MAX_CPUS) ?? 1,
    hugePageBytes: readHugePages(fields, memoryBytes, issues),
    devices: readDevices(fields.devices, issues),
    iommu: readIommuMode(fields.iommu, issues),
    fds: readHostFds(fields, issues),
    hotplugPorts: reader.integer('hotplugPorts', 0, MAX_HOTPLUG_PORTS) ?? 0,
    rebootLimit: reader.integer('rebootLimit', 0, Number.MAX_SAFE_INTEGER) ?? Number.POSITIVE_INFINITY,
    unpackKernel: reader.boolean('unpackKernel') ?? true,
    channel: reader.boolean('channel') ?? false,
    control:
      typeof fields.control === 'string' ? (reader.text('control') ?? false) : (reader.boolean('control') ?? false),
  };
  checkFdUse(normal.iommu, normal.fds, normal.devices, issues);
  issues.throwIfAny();
  return normal;
}

/**
 * Devices as {@link normaliseVmConfig} has them, for one that comes later.
 * @throws CausewayError CONFIG_INVALID with every fault in `issues`
 */
export function normaliseDevices(devices: unknown): NormalDeviceConfig[] {
  const issues = new IssueList();
  const normal = readDevices(devices, issues);
  issues.throwIfAny();
  return normal;
}

/** `0000:01:00.0` from `01:00.0` or `0000:01:00.0`, in lower case; undefined for what is no PCI address. */
export function normaliseBdf(text: string): string | undefined {
  const match = /^(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([01][0-9a-f])\.([0-7])$/.exec(text.trim().toLowerCase());
  return match ? `${match[1] ?? '0000'}:${match[2]}:${match[3]}.${match[4]}` : undefined;
}

class FieldReader {
  readonly #fields: Fields;
  readonly #issues: IssueList;

  constructor(fields: Fields, issues: IssueList) {
    this.#fields = fields;
    this.#issues = issues;
  }

  text(key: string, options: { readonly mayBeEmpty?: boolean } = {}): string | undefined {
    const value = this.#fields[key];
    if (value === undefined) return undefined;
    if (typeof value !== 'string') return this.#issues.add(key, `must be a string, not ${describe(value)}`);
    if (value === '' && !options.mayBeEmpty) return this.#issues.add(key, 'must not be empty');
    // A NUL would end a path or the kernel's command line early, without a word.
    if (value.includes('\0')) return this.#issues.add(key, 'must not contain a NUL character');
    return value;
  }

  requiredText(key: string): string | undefined {
    if (this.#fields[key] === undefined) return this.#issues.add(key, 'is missing', `give ${key} a path`);
    return this.text(key);
  }

  integer(key: string, min: number, max: number): number | undefined {
    const value = this.#fields[key];
    if (value === undefined) return undefined;
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max) return value;
    const range = max === Number.MAX_SAFE_INTEGER ? `${min} or more` : `from ${min} to ${max}`;
    return this.#issues.add(key, `must be a whole number ${range}, not ${describe(value)}`);
  }

  boolean(key: string): boolean | undefined {
    const value = this.#fields[key];
    if (value === undefined || typeof value === 'boolean') return value;
    return this.#issues.add(key, `must be true or false, not ${describe(value)}`);
  }
}

function readMemory(fields: Fields, issues: IssueList): number {
  const value = fields.memory;
  if (value === undefined) return DEFAULT_MEMORY_BYTES;
  const bytes = typeof value === 'string' ? parseSize(value) : value;
  const hint = 'write memory as "512M", "6GiB" or a number of bytes';
  if (typeof bytes !== 'number' || !Number.isSafeInteger(bytes)) {
    issues.add('memory', `${describe(value)} is not a size`, hint);
    return DEFAULT_MEMORY_BYTES;
  }
  if (bytes < MIN_MEMORY_BYTES) {
    issues.add('memory', `${describe(value)} is less than ${formatSize(MIN_MEMORY_BYTES)}`, hint);
  } else if (bytes % PAGE_SIZE !== 0) {
    issues.add('memory', `${describe(value)} is not a multiple of ${formatSize(PAGE_SIZE)}`, hint);
  }
  return bytes;
}

function readHugePages(fields: Fields, memoryBytes: number, issues: IssueList): number {
  const value = fields.hugePages;
  if (value === undefined) return 0;
  const bytes = typeof value === 'string' && Object.hasOwn(HUGE_PAGE_BYTES, value) ? HUGE_PAGE_BYTES[value] : undefined;
  if (bytes === undefined) {
    issues.add('hugePages', `must be "2M" or "1G", not ${describe(value)}`);
    return 0;
  }
  if (memoryBytes % bytes !== 0) {
    issues.add('hugePages', `memory of ${formatSize(memoryBytes)} is not a multiple of ${formatSize(bytes)} pages`);
  }
  return bytes;
}

function readDevices(value: unknown, issues: IssueList): NormalDeviceConfig[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) {
    issues.add('devices', `must be a list, not ${describe(value)}`);
    return [];
  }
  const firstAt = new Map<string, number>();
  return value.flatMap((entry: unknown, index) => {
    const path = `devices[${index}]`;
    const bdf = readDevice(entry, path, issues);
    if (bdf === undefined) return [];
    const first = firstAt.get(bdf);
    if (first !== undefined && bdf !== '') {
      issues.add(path, `${bdf} is listed already, as devices[${first}]`);
      return [];
    }
    firstAt.set(bdf, index);
    return [{ bdf, ...(isObject(entry) ? readDeviceSettings(entry, path, issues) : {}) }];
  });
}

function readDevice(entry: unknown, path: string, issues: IssueList): string | undefined {
  if (isObject(entry)) checkKeys(entry, DEVICE_KEYS, path, issues);
  else if (typeof entry !== 'string') {
    return issues.add(path, `must be a PCI address or an object, not ${describe(entry)}`);
  }
  const address = isObject(entry) ? entry.bdf : entry;
  const where = isObject(entry) ? `${path}.bdf` : path;
  const hint = 'a PCI address looks like 0000:01:00.0; lspci -D lists them';
  // Its file tells which one it is.
  if (address === undefined && isObject(entry) && entry.deviceFd !== undefined) return '';
  if (address === undefined) return issues.add(where, 'is missing', hint);
  const bdf = typeof address === 'string' ? normaliseBdf(address) : undefined;
  return bdf ?? issues.add(where, `${describe(address)} is not a PCI address`, hint);
}
