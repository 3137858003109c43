/** Everything that can be said of a host PCI function without binding, opening or writing to it. Plain data. */
import type { HostBdf, HostFiles } from '../native/types.ts';
import { CAP } from '../vmm/pci/capabilities.ts';
import type { BarRequest, WriteCombining } from '../vmm/pci/function.ts';
import { parseMsix } from '../vmm/pci/msix.ts';
import { type AuditReport, audit } from './audit.ts';
import { splitBar } from './bars/desired-mapping.ts';
import { readWcFacts, reportWc } from './bars/write-combining.ts';
import { knownCapabilities } from './config-space/capability-info.ts';
import { type ConfigRange, configMap } from './config-space/config-map.ts';
import type { ConfigGrant } from './config-space/grants.ts';
import { CAPABILITY_RULES, EXTENDED_CAPABILITY_RULES } from './config-space/permission-table.ts';
import { type BackendChoice, chooseBackend } from './host/backend-choice.ts';
import { readBinding } from './host/binding.ts';
import { readPciNames } from './host/pci-names.ts';
import { deviceNotFound } from './host/preconditions.ts';
import {
  groupMembers,
  isBridge,
  PCI_DEVICES,
  RESOURCE,
  readConfig,
  readDevice,
  readResources,
  readRomResource,
  readText,
} from './host/sysfs.ts';
import { blockingMembers } from './host/viability.ts';

export interface InspectReport {
  readonly bdf: HostBdf;
  readonly vendor: number;
  readonly device: number;
  readonly subsystemVendor: number;
  readonly subsystemDevice: number;
  readonly classCode: number;
  readonly name?: string;
  readonly className?: string;
  readonly driver?: string;
  /** What is to bind it, whatever its ids are; absent when nothing is set. */
  readonly driverOverride?: string;
  readonly physicalFunction?: HostBdf;
  readonly group?: {
    readonly number: number;
    /** `DMA`, `DMA-FQ` or `identity`: how the host uses the IOMMU for it. */
    readonly type?: string;
    readonly members: readonly GroupMember[];
    /** Lines of `reserved_regions`. */
    readonly reservedRegions: readonly string[];
    /** Members on a host driver: they keep the group from being assigned. */
    readonly blocking: readonly HostBdf[];
  };
  /** The expansion ROM as sysfs lists it; absent when there is none. */
  readonly rom?: RomInspection;
  /** What a start would open it through. */
  readonly iommu: BackendChoice;
  /** What a physical function says of its virtual ones. */
  readonly sriov?: { readonly totalVfs: number; readonly numVfs: number };
  /** In the kernel's order of preference. */
  readonly resetMethods: readonly string[];
  /** Absent where the host has no nodes, or does not know. */
  readonly numaNode?: number;
  readonly powerState?: string;
  /** Bytes of config space that could be read: 64 without privilege. */
  readonly configBytes: number;
  readonly capabilities: readonly CapabilityReport[];
  readonly audit: Omit<AuditReport, 'capabilities'>;
  /** What a start would find of write-combining, by BAR. */
  readonly writeCombining: readonly (WriteCombining & { readonly bar: number })[];
  /** Only when asked for, and readable. */
  readonly config?: readonly ConfigRange[];
}

/** Whether its content is a ROM cannot be known without turning it on. */
export interface RomInspection {
  readonly sizeBytes: number;
  /** Only a copy in RAM is there, made by the host's firmware. */
  readonly isShadowed: boolean;
  /** The kernel offers to read it. */
  readonly isReadable: boolean;
}

export interface GroupMember {
  readonly bdf: HostBdf;
  readonly classCode: number;
  readonly driver?: string;
  readonly isBridge: boolean;
}

export interface CapabilityReport {
  readonly offset: number;
  readonly id: number;
  readonly kind: 'standard' | 'extended';
  readonly name: string;
  readonly sizeBytes: number;
  /** Whether the guest's chain has it. */
  readonly shown: boolean;
}

export interface InspectOptions {
  /** Also map config space range by range. */
  readonly config?: boolean;
  /** Lay these over the map. */
  readonly grants?: readonly ConfigGrant[];
  readonly pageBytes: number;
}

/**
 * Reads sysfs only.
 * @throws CausewayError DEVICE_NOT_FOUND
 */
export function inspectDevice(files: HostFiles, bdf: HostBdf, options: InspectOptions): InspectReport {
  const device = readDevice(files, bdf);
  if (!device) throw deviceNotFound(files, bdf);
  const config = readConfig(files, bdf) ?? new Uint8Array(0);
  const resources = readResources(files, bdf);
  const nointxmask = readText(files, '/sys/module/vfio_pci/parameters/nointxmask');
  const { capabilities, ...rest } = audit({
    config,
    resources,
    pageBytes: options.pageBytes,
    intxMaskingOff: nointxmask === 'Y' || nointxmask === '1',
  });
  const names = readPciNames(files);
  const numaNode = Number(readText(files, `${PCI_DEVICES}/${bdf}/numa_node`) ?? -1);
  const isWhole = config.length >= 256;
  return {
    bdf,
    vendor: device.vendor,
    device: device.device,
    subsystemVendor: device.subsystemVendor,
    subsystemDevice: device.subsystemDevice,
    classCode: device.classCode,
    ...given('name', names.device(device.vendor, device.device)),
    ...given('className', names.deviceClass(device.classCode)),
    ...given('driver', device.driver),
    ...given('driverOverride', readBinding(files, bdf).driverOverride || undefined),
    ...given('physicalFunction', device.physicalFunction),
    ...given('rom', romOf(files, bdf)),
    ...given('group', device.iommuGroup === undefined ? undefined : groupOf(files, bdf, device.iommuGroup)),
    iommu: chooseBackend(files, [{ bdf }]),
    ...given('sriov', sriovOf(files, bdf)),
    resetMethods: device.resetMethods,
    ...given('numaNode', numaNode >= 0 ? numaNode : undefined),
    ...given('powerState', readText(files, `${PCI_DEVICES}/${bdf}/power_state`)),
    configBytes: config.length,
    capabilities: capabilities.map(({ offset, id, kind, name, sizeBytes }) => {
      const rules = kind === 'standard' ? CAPABILITY_RULES : EXTENDED_CAPABILITY_RULES;
      return { offset, id, kind, name, sizeBytes, shown: rules.some((rule) => rule.id === id) };
    }),
    audit: rest,
    writeCombining: predictWc(files, rest, config, options.pageBytes),
    ...(options.config && isWhole
      ? {
          config: configMap({
            config,
            resources,
            canReset: device.resetMethods.length > 0,
            grants: options.grants ?? [],
          }),
        }
      : {}),
  };
}

function romOf(files: HostFiles, bdf: HostBdf): RomInspection | undefined {
  const resource = readRomResource(files, bdf);
  if (!resource) return undefined;
  return {
    sizeBytes: resource.sizeBytes,
    isShadowed: (resource.flags & RESOURCE.ROM_SHADOW) !== 0,
    isReadable: files.exists(`${PCI_DEVICES}/${bdf}/rom`),
  };
}

/** With the areas that VFIO may be expected to offer, and the processor's own flag for PAT, which KVM hands on. */
function predictWc(
  files: HostFiles,
  { bars }: Pick<AuditReport, 'bars'>,
  config: Uint8Array,
  pageBytes: number,
): InspectReport['writeCombining'] {
  const msixAt = knownCapabilities(config).capabilities.find(({ kind, id }) => kind === 'standard' && id === CAP.MSIX);
  const msix = msixAt && parseMsix(config, msixAt.offset);
  const unmoved = msix && { guest: msix, hardware: msix, isRelocated: false };
  const flags = /^flags\s*:.*$/m.exec(readText(files, '/proc/cpuinfo') ?? '')?.[0].split(/\s+/) ?? [];
  const facts = { ...readWcFacts(files, undefined), guestHasPat: flags.includes('pat') };
  return bars.flatMap((audited) => {
    if (audited.kind === 'port') return [];
    const { bar: index, sizeBytes, is64, prefetchable, hostAddress, verdict } = audited;
    const mmapAreas = verdict === 'trap' ? [] : [{ start: 0, size: sizeBytes }];
    const bar: BarRequest = { index, sizeBytes: Math.max(sizeBytes, pageBytes), kind: 'memory', is64, prefetchable };
    const areas = splitBar(bar, { index, sizeBytes, fdOffset: 0, flags: 0, mmapAreas }, unmoved, pageBytes);
    return [{ bar: index, ...reportWc(files, { bar, mode: 'auto', areas, hostAddress, sizeBytes }, facts) }];
  });
}

function sriovOf(files: HostFiles, bdf: HostBdf): InspectReport['sriov'] {
  const read = (name: string): number => Number(readText(files, `${PCI_DEVICES}/${bdf}/${name}`) ?? 0);
  const totalVfs = read('sriov_totalvfs');
  return totalVfs > 0 ? { totalVfs, numVfs: read('sriov_numvfs') } : undefined;
}

function groupOf(files: HostFiles, bdf: HostBdf, number: number): NonNullable<InspectReport['group']> {
  const directory = `/sys/kernel/iommu_groups/${number}`;
  const members = groupMembers(files, bdf).flatMap((member): GroupMember[] => {
    const device = readDevice(files, member);
    if (!device) return [];
    return [
      { bdf: member, classCode: device.classCode, ...given('driver', device.driver), isBridge: isBridge(device) },
    ];
  });
  return {
    number,
    ...given('type', readText(files, `${directory}/type`)),
    members,
    reservedRegions: (readText(files, `${directory}/reserved_regions`) ?? '').split('\n').filter(Boolean),
    blocking: blockingMembers(files, bdf)
      .map((member) => member.bdf)
      .filter((member) => member !== bdf),
  };
}

/** A property that is there only when it has a value. */
function given<K extends string, T>(key: K, value: T | undefined): { readonly [P in K]?: T } {
  return value === undefined ? {} : ({ [key]: value } as { readonly [P in K]?: T });
}
