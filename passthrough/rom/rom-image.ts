/** What is in an expansion ROM (PCI Firmware 3.3 §5.1): its images and what is wrong with them. Pure; any bytes will do. */
import { readLe } from '../../vmm/base/bits.ts';
import { formatSize, hex } from '../../vmm/base/units.ts';

/** Expansion ROMs are no larger (PCI 3.0 §6.2.5.2). */
export const MAX_ROM_BYTES: number = 16 * 1024 * 1024;

const BLOCK_BYTES = 512;
const SIGNATURE = 0xaa55;
const DATA_POINTER = 0x18;
const DATA_SIGNATURE = 0x5249_4350; // "PCIR"
const DATA_BYTES = 0x18;
const LAST_IMAGE = 0x80;
const CODE_X86 = 0;
const CODE_TYPES: Readonly<Record<number, string>> = { 0: 'x86', 1: 'Open Firmware', 2: 'HP PA-RISC', 3: 'EFI' };
/** More than any ROM has; each image has at least a block. */
const MAX_IMAGES = 64;

export interface RomImage {
  readonly offset: number;
  readonly sizeBytes: number;
  readonly codeType: number;
  readonly vendor: number;
  /** The first is the image's own; the others are in its device list. */
  readonly devices: readonly number[];
}

export interface RomContent {
  readonly images: readonly RomImage[];
  /** For people; empty for a ROM in order. */
  readonly faults: readonly string[];
}

/** Whether the bytes begin as every expansion ROM does. */
export function hasRomSignature(bytes: Uint8Array): boolean {
  return bytes.length >= BLOCK_BYTES && readLe(bytes, 0, 2) === SIGNATURE;
}

/** Walks the images. No length or pointer of the ROM is trusted. */
export function parseRom(bytes: Uint8Array): RomContent {
  const images: RomImage[] = [];
  const faults: string[] = [];
  for (let at = 0; images.length < MAX_IMAGES; ) {
    if (at + BLOCK_BYTES > bytes.length || readLe(bytes, at, 2) !== SIGNATURE) {
      faults.push(`no image at ${hex(at)}: the signature 55 aa is missing`);
      break;
    }
    const data = at + readLe(bytes, at + DATA_POINTER, 2);
    if (data + DATA_BYTES > bytes.length || readLe(bytes, data, 4) !== DATA_SIGNATURE) {
      faults.push(`the image at ${hex(at)} has no PCI data structure`);
      break;
    }
    const sizeBytes = readLe(bytes, data + 0x10, 2) * BLOCK_BYTES;
    const codeType = bytes[data + 0x14]!;
    const vendor = readLe(bytes, data + 4, 2);
    const devices = [readLe(bytes, data + 6, 2), ...deviceList(bytes, data)];
    images.push({ offset: at, sizeBytes, codeType, vendor, devices });
    if (sizeBytes === 0 || at + sizeBytes > bytes.length) {
      faults.push(`the image at ${hex(at)} says that it has ${formatSize(sizeBytes)}, which the ROM has not`);
      break;
    }
    if (codeType === CODE_X86 && !sumsToZero(bytes, at, bytes[at + 2]! * BLOCK_BYTES)) {
      faults.push(`the checksum of the x86 image at ${hex(at)} is wrong: firmware will not run it`);
    }
    if ((bytes[data + 0x15]! & LAST_IMAGE) !== 0) break;
    at += sizeBytes;
  }
  return { images, faults };
}

/** `x86 8086:10d3, 64 KiB` */
export function describeImage({ codeType, vendor, devices, sizeBytes }: RomImage): string {
  const type = CODE_TYPES[codeType] ?? `code type ${codeType}`;
  return `${type} ${id(vendor)}:${devices.map(id).join('/')}, ${formatSize(sizeBytes)}`;
}

/** What firmware would find wrong with a ROM on a function with these identifiers. */
export function idFaults(images: readonly RomImage[], vendor: number, device: number): string[] {
  return images
    .filter((image) => image.vendor !== vendor || !image.devices.includes(device))
    .map((image) => `${describeImage(image)} is not for ${id(vendor)}:${id(device)}: firmware will not run it`);
}

/** Further device ids, from revision 3 of the structure on: 16 bits each, 0 ends the list. */
function deviceList(bytes: Uint8Array, data: number): number[] {
  const pointer = readLe(bytes, data + 8, 2);
  if (bytes[data + 0x0c]! < 3 || pointer === 0) return [];
  const ids: number[] = [];
  for (let at = data + pointer; at + 2 <= bytes.length && ids.length < 256; at += 2) {
    const next = readLe(bytes, at, 2);
    if (next === 0) break;
    ids.push(next);
  }
  return ids;
}

function sumsToZero(bytes: Uint8Array, start: number, size: number): boolean {
  const end = Math.min(bytes.length, start + size);
  let sum = 0;
  for (let at = start; at < end; at++) sum = (sum + bytes[at]!) & 0xff;
  return size > 0 && sum === 0;
}

function id(value: number): string {
  return value.toString(16).padStart(4, '0');
}
