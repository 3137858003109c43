/** Which bits of a guest's config space live where: the table's masks, and those with grants laid over them. */
import { readLe, writeLe } from '../../vmm/base/bits.ts';
import type { ConfigSpace } from '../../vmm/pci/config-space.ts';
import type { ConfigGrant } from './grants.ts';

/** One bit per bit of config space. */
export interface ConfigMasks {
  /** Read from the device. */
  readonly deviceBits: Uint8Array;
  /** The guest may change them. */
  readonly guestWrite: Uint8Array;
  /** Of those, the ones that are written to the device. */
  readonly deviceWrite: Uint8Array;
  /** A written 1 clears them in the image. */
  readonly clearOnOne: Uint8Array;
}

/** The masks as they are now; a copy. */
export function masksOf(space: ConfigSpace): ConfigMasks {
  return {
    deviceBits: space.window.deviceBits.slice(0, space.sizeBytes),
    guestWrite: space.guestWrite.slice(),
    deviceWrite: space.deviceWrite.slice(),
    clearOnOne: space.clearOnOne.slice(),
  };
}

/**
 * The masks of table and grants together. Pure: withdrawal is the same call with fewer grants. A grant adds to what the
 * table gives and takes nothing away.
 */
export function withGrants(table: ConfigMasks, grants: readonly ConfigGrant[]): ConfigMasks {
  const masks = {
    deviceBits: table.deviceBits.slice(),
    guestWrite: table.guestWrite.slice(),
    deviceWrite: table.deviceWrite.slice(),
    clearOnOne: table.clearOnOne.slice(),
  };
  for (const { offset, readBits, writeBits } of grants) {
    add(masks.deviceBits, offset, readBits);
    add(masks.guestWrite, offset, writeBits);
    add(masks.deviceWrite, offset, writeBits);
    // One home for each bit: what is written to the device is not cleared in the image.
    writeLe(masks.clearOnOne, offset, 4, (readLe(masks.clearOnOne, offset, 4) & ~writeBits) >>> 0);
  }
  return masks;
}

/** Effective for the next access: vCPU threads read `deviceBits` where it lies. */
export function installMasks(space: ConfigSpace, masks: ConfigMasks): void {
  space.guestWrite.set(masks.guestWrite);
  space.deviceWrite.set(masks.deviceWrite);
  space.clearOnOne.set(masks.clearOnOne);
  space.window.deviceBits.set(masks.deviceBits);
}

function add(mask: Uint8Array, offset: number, bits: number): void {
  writeLe(mask, offset, 4, (readLe(mask, offset, 4) | bits) >>> 0);
}
