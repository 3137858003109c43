/** How a test describes a PCI function, and the configuration space that such a function has. */

import type { FakeSriovSpec } from './fake-sriov.ts';

/** One BAR, or the 64-bit pair that starts at its index. */
export interface FakeBarSpec {
  /** Power of two. */
  readonly sizeBytes: number;
  readonly kind?: 'memory' | 'io';
  readonly is64?: boolean;
  readonly prefetch?: boolean;
  /** Whether VFIO offers mmap; by default memory BARs of a page and more. */
  readonly mmap?: boolean;
  /** Host address, in `resource` and in the hardware's BAR register. */
  readonly address?: number;
}

/** MSI-X with its tables. */
export interface FakeMsixSpec {
  readonly vectors: number;
  readonly tableBar: number;
  readonly tableOffset: number;
  readonly pbaBar: number;
  readonly pbaOffset: number;
}

/** What VFIO shall do with the function. */
export interface FakeVfioSpec {
  /** VFIO_DEVICE_RESET works; default true. */
  readonly reset?: boolean;
  /** Hot reset works; default true. */
  readonly hotReset?: boolean;
  /** The kernel can add MSI-X vectors later (no NORESIZE); default true. */
  readonly dynamicMsix?: boolean;
  /** More MSI or MSI-X vectors than this are refused with this positive number. */
  readonly availableVectors?: number;
  /** Supported device features; default 3, 4, 5 (low power) and 11 (dma-buf). */
  readonly features?: readonly number[];
  /** A VF of a PF that is itself on vfio-pci: the token that opening needs. */
  readonly vfToken?: string;
  /** Exact bytes of VFIO_DEVICE_GET_INFO. */
  readonly rawDeviceInfo?: Uint8Array;
  /** Exact bytes of VFIO_DEVICE_GET_REGION_INFO by index, malformed ones too; null makes that index EINVAL. */
  readonly rawRegionInfo?: Readonly<Record<number, Uint8Array | null>>;
}

export interface FakePciSpec {
  /** `0000:01:00.0` */
  readonly bdf: string;
  readonly vendor: number;
  readonly device: number;
  /** 24 bits, for example 0x020000; default that of an Ethernet controller. */
  readonly class?: number;
  readonly revision?: number;
  readonly subsystemVendor?: number;
  readonly subsystemDevice?: number;
  /** IOMMU group; undefined means no IOMMU. */
  readonly group?: number;
  /** Driver bound at the start. */
  readonly driver?: string;
  /** Driver that the device gets without an override; default `driver`, unless that is vfio-pci. */
  readonly nativeDriver?: string;
  /** BDF of the bridge above; default none. */
  readonly parent?: string;
  readonly numaNode?: number;
  /** Content of reset_method; the empty text removes the file. Default `flr`. */
  readonly resetMethod?: string;
  readonly bars?: readonly (FakeBarSpec | undefined)[];
  readonly romBytes?: number;
  /** Content of the ROM, from its start; default zeros. */
  readonly rom?: Uint8Array;
  /** The host's firmware keeps a copy in RAM. */
  readonly romShadow?: boolean;
  /** 1 to 4 for INTA to INTD, 0 for none; default 1. */
  readonly interruptPin?: number;
  /** A virtual function: no memory enable in its silicon. */
  readonly isVf?: boolean;
  /** MSI messages, a power of two. */
  readonly msi?: number;
  readonly msix?: FakeMsixSpec;
  /** Adds a PCI Express capability with FLR, and 4096 bytes; default true. */
  readonly express?: boolean;
  /** The hardware's configuration space, 256 or 4096 bytes, in place of what {@link pciConfig} makes of the rest. */
  readonly config?: Uint8Array;
  /** More sysfs attributes. */
  readonly attributes?: Readonly<Record<string, string>>;
  readonly vfio?: FakeVfioSpec;
  /** Makes it a PF. */
  readonly sriov?: FakeSriovSpec;
}

const BAR_IO = 1;
const BAR_64 = 4;
const BAR_PREFETCH = 8;

/** Low bits of a BAR register. */
export function barFlags(bar: FakeBarSpec): number {
  if (bar.kind === 'io') return BAR_IO;
  return (bar.is64 ? BAR_64 : 0) | (bar.prefetch ? BAR_PREFETCH : 0);
}

/** The configuration space of a plain function: PM at 0x40, MSI at 0x50, MSI-X at 0x70, Express at 0x80, DSN at 0x100. */
export function pciConfig(spec: FakePciSpec): Uint8Array {
  if (spec.config !== undefined) return spec.config.slice();
  const express = spec.express ?? true;
  const bytes = new Uint8Array(express ? 4096 : 256);
  const view = new DataView(bytes.buffer);
  const u16 = (at: number, value: number) => view.setUint16(at, value, true);
  const u32 = (at: number, value: number) => view.setUint32(at, value >>> 0, true);
  u16(0x00, spec.vendor);
  u16(0x02, spec.device);
  u16(0x04, 0x0003); // the kernel enables decoding before a driver sees the device
  u16(0x06, 0x0010);
  u32(0x08, (((spec.class ?? 0x020000) << 8) | (spec.revision ?? 1)) >>> 0);
  u16(0x2c, spec.subsystemVendor ?? spec.vendor);
  u16(0x2e, spec.subsystemDevice ?? 0);
  bytes[0x3c] = 0xb;
  bytes[0x3d] = spec.interruptPin ?? 1;
  spec.bars?.forEach((bar, index) => {
    if (bar === undefined) return;
    const address = BigInt(bar.address ?? 0) | BigInt(barFlags(bar));
    u32(0x10 + index * 4, Number(address & 0xffffffffn));
    if (bar.is64) u32(0x14 + index * 4, Number(address >> 32n));
  });
  const chain: { at: number; id: number }[] = [{ at: 0x40, id: 0x01 }];
  u16(0x42, 0x0003);
  if (spec.msi !== undefined) {
    chain.push({ at: 0x50, id: 0x05 });
    u16(0x52, 0x0080 | (Math.log2(spec.msi) << 1));
  }
  if (spec.msix !== undefined) {
    chain.push({ at: 0x70, id: 0x11 });
    u16(0x72, spec.msix.vectors - 1);
    u32(0x74, spec.msix.tableOffset | spec.msix.tableBar);
    u32(0x78, spec.msix.pbaOffset | spec.msix.pbaBar);
  }
  if (express) {
    chain.push({ at: 0x80, id: 0x10 });
    u16(0x82, 0x0002);
    u32(0x84, 1 << 28);
    u32(0x100, 0x00010003);
    u32(0x104, 0x12345678);
  }
  bytes[0x34] = chain[0]!.at;
  chain.forEach(({ at, id }, index) => {
    bytes[at] = id;
    bytes[at + 1] = chain[index + 1]?.at ?? 0;
  });
  return bytes;
}

/** The MSI-X tables as the capability in `config` tells them. */
export function msixOf(config: Uint8Array): FakeMsixSpec | undefined {
  const at = findCapability(config, 0x11);
  if (at === undefined) return undefined;
  const view = new DataView(config.buffer, config.byteOffset, config.length);
  const [table, pba] = [view.getUint32(at + 4, true), view.getUint32(at + 8, true)];
  return {
    vectors: (view.getUint16(at + 2, true) & 0x7ff) + 1,
    tableBar: table & 7,
    tableOffset: (table & ~7) >>> 0,
    pbaBar: pba & 7,
    pbaOffset: (pba & ~7) >>> 0,
  };
}

/** Capabilities of the standard chain in order; stops at a loop. */
export function capabilities(config: Uint8Array): { id: number; at: number }[] {
  const found: { id: number; at: number }[] = [];
  if ((config[0x06]! & 0x10) === 0) return found;
  for (let at = config[0x34]! & ~3; at >= 0x40 && found.every((each) => each.at !== at); at = config[at + 1]! & ~3) {
    found.push({ id: config[at]!, at });
  }
  return found;
}

export function findCapability(config: Uint8Array, id: number): number | undefined {
  return capabilities(config).find((each) => each.id === id)?.at;
}
