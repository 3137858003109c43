/**
 * The expansion ROM that a guest gets: always a copy, so that neither a guest's accesses nor its resets ever reach the
 * device's own. What is not there, or is no ROM, is not offered, and the report says why.
 */
import type { HostBdf, HostFiles } from '../../native/types.ts';
import { VFIO_PCI_REGION } from '../../native/vfio-abi.ts';
import { alignUp, PAGE_SIZE } from '../../vmm/base/bits.ts';
import { CausewayError, isKernelError } from '../../vmm/base/errors.ts';
import { formatSize } from '../../vmm/base/units.ts';
import type { RomConfig } from '../../vmm/config/model.ts';
import type { RomReport } from '../../vmm/pci/function.ts';
import { COMMAND, HEADER } from '../config-space/permission-table.ts';
import { type HostDevice, RESOURCE, readRomResource } from '../host/sysfs.ts';
import type { VfioDevice } from '../vfio/device.ts';
import { describeImage, hasRomSignature, idFaults, MAX_ROM_BYTES, parseRom } from './rom-image.ts';

const SHADOW =
  "the host's kernel has only the copy in RAM that firmware made and may have changed; rom file:PATH takes another";

/** Identifiers as the guest sees them: firmware compares them with those in the ROM. */
export interface ShownIds {
  readonly vendor: number;
  readonly device: number;
}

export interface Rom {
  readonly report: RomReport;
  /** Present when the guest has it: a power of two of bytes, all ones behind the ROM's own. */
  readonly bytes?: Uint8Array;
}

/**
 * A ROM file, before anything is opened.
 * @throws CausewayError CONFIG_INVALID for what cannot be read or is no expansion ROM
 */
export function readRomFile(files: HostFiles, rom: RomConfig | undefined, bdf: HostBdf): Uint8Array | undefined {
  if (!rom?.startsWith('file:')) return undefined;
  const path = rom.slice('file:'.length);
  const refuse = (what: string, cause?: unknown): CausewayError =>
    new CausewayError('CONFIG_INVALID', `${bdf}: rom: ${path} ${what}`, {
      bdf,
      path,
      hint: 'give a dump of an expansion ROM, as it is read from sysfs (rom) of a device that is not the primary display',
      ...(cause === undefined ? {} : { cause }),
    });
  let bytes: Uint8Array;
  try {
    bytes = files.readFile(path);
  } catch (cause) {
    throw refuse(`cannot be read${isKernelError(cause) ? ` (${cause.code})` : ''}`, cause);
  }
  if (bytes.length > MAX_ROM_BYTES) throw refuse(`has more than ${formatSize(MAX_ROM_BYTES)}`);
  if (!hasRomSignature(bytes)) throw refuse('is no expansion ROM: it does not begin with 55 aa');
  return bytes;
}

/**
 * Reads or takes over the ROM of an open device. The device must be quiet.
 * @param file what {@link readRomFile} gave
 */
export function loadRom(
  source: RomConfig | undefined,
  file: Uint8Array | undefined,
  ids: ShownIds,
  host: { readonly files: HostFiles; readonly device: VfioDevice; readonly facts: HostDevice },
): Rom | undefined {
  if (source === undefined || source === 'off') return undefined;
  const found = file ?? readHostRom(host.device);
  const shadow = !file && isShadow(host.files, host.facts) ? [SHADOW] : [];
  if (typeof found === 'string') {
    return { report: { source, sizeBytes: 0, offered: false, images: [], faults: [found, ...shadow] } };
  }
  const { images, faults } = parseRom(found);
  const report: RomReport = {
    source,
    sizeBytes: found.length,
    offered: true,
    images: images.map(describeImage),
    faults: [...shadow, ...faults, ...idFaults(images, ids.vendor, ids.device)],
  };
  return { report, bytes: padded(found) };
}

/** Why there is none, or its bytes. The kernel reads a ROM only while the function decodes memory. */
function readHostRom(device: VfioDevice): Uint8Array | string {
  const { sizeBytes } = device.regions[VFIO_PCI_REGION.ROM]!;
  if (sizeBytes === 0) return 'the device has no ROM';
  if (sizeBytes > MAX_ROM_BYTES) return `a ROM of ${formatSize(sizeBytes)} is not possible`;
  const command = device.read(HEADER.COMMAND, 2);
  device.write(HEADER.COMMAND, 2, command | COMMAND.MEMORY);
  const bytes = device.readRegion(VFIO_PCI_REGION.ROM);
  device.write(HEADER.COMMAND, 2, command);
  if (!bytes) return 'the kernel cannot read the ROM';
  return hasRomSignature(bytes) ? bytes : 'the ROM has no content that is valid: it does not begin with 55 aa';
}

function isShadow(files: HostFiles, { bdf }: HostDevice): boolean {
  return ((readRomResource(files, bdf)?.flags ?? 0) & RESOURCE.ROM_SHADOW) !== 0;
}

function padded(bytes: Uint8Array): Uint8Array {
  const size = 2 ** Math.ceil(Math.log2(alignUp(bytes.length, PAGE_SIZE)));
  const whole = new Uint8Array(size).fill(0xff);
  whole.set(bytes);
  return whole;
}
