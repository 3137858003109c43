/** A VM's configuration as a message: the fourth dress of the one model, beside TypeScript object, script and JSON. */
import { CODEC, type MessageTypes, WireError } from '../../proto/index.ts';
import { CausewayError } from '../base/errors.ts';
import { parseFdRef } from '../config/fd-settings.ts';
import { IssueList } from '../config/issues.ts';
import type {
  DeviceConfig,
  FdRef,
  IommuMode,
  MsixRelocation,
  NormalDeviceConfig,
  NormalVmConfig,
  OnError,
  ResetMethod,
  RomConfig,
  VmConfig,
  WcMode,
  WcModesConfig,
} from '../config/model.ts';
import { given } from './wire-values.ts';

type ConfigMessage = MessageTypes['VmConfig'];
type DeviceMessage = MessageTypes['DeviceConfig'];
type PermitMessage = Pick<DeviceMessage, 'configPermitFile' | 'configPermitLines'>;
type ConfigPermit = NonNullable<DeviceConfig['configPermit']>;

const WC_MODE = {
  auto: 'WC_MODE_AUTO',
  require: 'WC_MODE_REQUIRE',
  deny: 'WC_MODE_DENY',
  host: 'WC_MODE_HOST',
} as const satisfies Record<WcMode, MessageTypes['BarWcMode']['mode']>;

const IOMMU_MODE = {
  auto: 'IOMMU_MODE_AUTO',
  container: 'IOMMU_MODE_CONTAINER',
  iommufd: 'IOMMU_MODE_IOMMUFD',
} as const satisfies Record<IommuMode, MessageTypes['IommuReport']['backend']>;

const HUGE_PAGES = new Map<bigint, NonNullable<VmConfig['hugePages']>>([
  [2n ** 21n, '2M'],
  [2n ** 30n, '1G'],
]);

/** A complete configuration as a message. */
export function vmConfigToMessage(config: NormalVmConfig): ConfigMessage {
  const { memoryBytes, hugePageBytes, rebootLimit, devices, control, iommu, fds, ...same } = config;
  return {
    ...same,
    iommu: IOMMU_MODE[iommu],
    fds: Object.keys(fds).length > 0 ? mapText(fds) : undefined,
    memoryBytes: BigInt(memoryBytes),
    hugePageBytes: BigInt(hugePageBytes),
    rebootLimit: Number.isFinite(rebootLimit) ? BigInt(rebootLimit) : undefined,
    devices: devices.map(deviceToMessage),
    control: control === true ? '' : control === false ? undefined : control,
  };
}

/**
 * The configuration that a message holds, defaults not yet filled in: `normaliseVmConfig` does that and checks it.
 * @throws CausewayError CONFIG_INVALID for numbers that the model cannot hold
 */
export function vmConfigFromMessage(message: ConfigMessage): VmConfig {
  const issues = new IssueList();
  const { memoryBytes, hugePageBytes, rebootLimit, devices, control, iommu, fds, ...same } = message;
  const config = {
    ...same,
    iommu: iommuMode(iommu),
    fds: fds && mapRefs(fds),
    memory: exactly('memory_bytes', memoryBytes, issues),
    hugePages: hugePagesOf(hugePageBytes, issues),
    rebootLimit: exactly('reboot_limit', rebootLimit, issues),
    devices: devices.map((device) => deviceFromMessage(device)),
    control: control === '' ? true : control,
  };
  issues.throwIfAny();
  return Object.fromEntries(
    Object.entries(config).filter(([, value]) => value !== undefined),
  ) as typeof config as VmConfig;
}

export function deviceToMessage(device: NormalDeviceConfig): DeviceMessage {
  const { bdf, configPermit, configPermitForce, wc, rom, ids, msixRelocation, reset, p2p, ...rest } = device;
  const { vfToken, deviceFd, groupFd, port, onError, ...none } = rest;
  none satisfies Record<string, never>;
  return {
    bdf,
    vfToken,
    ...mapText({ deviceFd, groupFd }),
    rom,
    ids,
    msixRelocation,
    reset,
    p2p,
    port,
    onError,
    ...permitToMessage(configPermit),
    configPermitForce,
    wc: wc && {
      default: WC_MODE[wc.default],
      bars: Object.entries(wc.bars).map(([bar, mode]) => ({ bar: Number(bar), mode: WC_MODE[mode] })),
    },
  };
}

export function deviceFromMessage(message: DeviceMessage): DeviceConfig {
  const { bdf, configPermitForce, wc, rom, ids, msixRelocation, reset, p2p, ...rest } = message;
  const { vfToken, deviceFd, groupFd, port, onError, ...permit } = rest;
  const configPermit = permitFromMessage(permit);
  return {
    // A device may be given by its file only.
    ...(bdf === '' && deviceFd !== undefined ? {} : { bdf }),
    ...(vfToken === undefined ? {} : { vfToken }),
    ...mapRefs({ deviceFd, groupFd }),
    // What is no setting of its kind is told by the check that follows.
    ...(p2p === undefined ? {} : { p2p }),
    ...(reset === undefined ? {} : { reset: reset as ResetMethod }),
    ...(msixRelocation === undefined ? {} : { msixRelocation: msixRelocation as MsixRelocation }),
    ...(rom === undefined ? {} : { rom: rom as RomConfig }),
    ...(ids === undefined ? {} : { ids: given(ids) }),
    ...(port === undefined ? {} : { port }),
    ...(onError === undefined ? {} : { onError: onError as OnError }),
    ...(configPermit === undefined ? {} : { configPermit }),
    ...(configPermitForce === undefined ? {} : { configPermitForce }),
    ...(wc === undefined ? {} : { wc: wcFromMessage(wc) }),
  };
}

/** The two forms of a permit: the path of a file, or lines. */
export function permitToMessage(permit: ConfigPermit | undefined): PermitMessage {
  if (permit === undefined) return {};
  return typeof permit === 'string' ? { configPermitFile: permit } : { configPermitLines: { lines: permit } };
}

export function permitFromMessage(message: PermitMessage): ConfigPermit | undefined {
  return message.configPermitFile ?? message.configPermitLines?.lines;
}

function wcFromMessage({ default: fallback, bars }: MessageTypes['WcModes']): WcModesConfig {
  const modes = bars.map(({ bar, mode }) => [bar, wcMode(mode)] as const);
  return { ...Object.fromEntries(modes), default: wcMode(fallback) };
}

/** What is unknown or left out is the default. */
function wcMode(message: MessageTypes['BarWcMode']['mode']): WcMode {
  const found = Object.entries(WC_MODE).find(([, wire]) => wire === message);
  return (found?.[0] as WcMode | undefined) ?? 'auto';
}

type TextFds<Key extends string> = { readonly [K in Key]?: string | undefined };

function mapText<Key extends string>(refs: { readonly [K in Key]?: FdRef | undefined }): TextFds<Key> {
  const entries = Object.entries<FdRef | undefined>(refs).filter(([, ref]) => ref !== undefined);
  return Object.fromEntries(entries.map(([key, ref]) => [key, String(ref)])) as TextFds<Key>;
}

function mapRefs<Key extends string>(texts: TextFds<Key>): { [K in Key]?: FdRef } {
  const entries = Object.entries<string | undefined>(texts).flatMap(([key, text]) =>
    text === undefined ? [] : [[key, parseFdRef(text)]],
  );
  return Object.fromEntries(entries) as { [K in Key]?: FdRef };
}

/** What is unknown or left out is the default. */
function iommuMode(message: ConfigMessage['iommu']): IommuMode | undefined {
  const found = Object.entries(IOMMU_MODE).find(([, wire]) => wire === message);
  return found?.[0] as IommuMode | undefined;
}

/** Bytes of a configuration, as for a `.binpb` file. */
export function encodeVmConfig(config: NormalVmConfig): Uint8Array {
  return CODEC.encode('VmConfig', vmConfigToMessage(config));
}

/** @throws CausewayError CONFIG_INVALID for what is no message, or holds what the model cannot */
export function decodeVmConfig(bytes: Uint8Array): VmConfig {
  try {
    return vmConfigFromMessage(CODEC.decode('VmConfig', bytes));
  } catch (cause) {
    if (!(cause instanceof WireError)) throw cause;
    throw new CausewayError('CONFIG_INVALID', `the message cannot be read: ${cause.message}`, { cause });
  }
}

function exactly(path: string, value: bigint | undefined, issues: IssueList): number | undefined {
  if (value === undefined) return undefined;
  if (value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value);
  return issues.add(path, `${value} is not below 2^53`);
}

function hugePagesOf(bytes: bigint | undefined, issues: IssueList): VmConfig['hugePages'] {
  if (bytes === undefined || bytes === 0n) return undefined;
  return HUGE_PAGES.get(bytes) ?? issues.add('huge_page_bytes', `${bytes} is neither 0 nor 2 MiB nor 1 GiB`);
}
