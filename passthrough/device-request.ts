/** What a user wants of one assigned device beside its address. */
import type { HostFiles } from '../native/types.ts';
import { CausewayError } from '../vmm/base/errors.ts';
import type { MsixRelocation, PciIds, ResetMethod, RomConfig, WcModes } from '../vmm/config/model.ts';
import type { GuestPlace } from './config-space/express-topology.ts';
import { type ConfigGrant, parseGrants } from './config-space/grants.ts';
import { grantsFor, readPermitFile } from './config-space/permit-file.ts';
import { effectiveUser } from './host/process.ts';
import type { HostDevice } from './host/sysfs.ts';

export interface DeviceRequest {
  /** Host address; the domain may be left out. */
  readonly bdf: string;
  /** UUID that a PF on vfio-pci shares with its VFs. */
  readonly vfToken?: string;
  /** File of the device that somebody else opened: of /dev/vfio/devices, or, with {@link groupFd}, out of its group. */
  readonly deviceFd?: number;
  /** File of the device's IOMMU group that somebody else opened. */
  readonly groupFd?: number;
  /** Path of a root-owned file of grants, or grants as lines, which only root may give. */
  readonly configPermit?: string | readonly string[];
  /** Also take grants on registers that guard the host. */
  readonly configPermitForce?: boolean;
  /** Default: `auto` for every BAR. */
  readonly wc?: WcModes;
  /** Default: off. */
  readonly rom?: RomConfig;
  /** Default: off. */
  readonly msixRelocation?: MsixRelocation;
  /** Default: auto. */
  readonly reset?: ResetMethod;
  /** Other devices of the VM may reach its BARs by DMA. */
  readonly p2p?: boolean;
  /** What the guest sees in place of the device's own. */
  readonly ids?: PciIds;
  /** Where the guest has it. Default: `root-bus`. */
  readonly place?: GuestPlace;
}

/**
 * The grants of a request, parsed and of trusted origin; whether they fit the device is not looked at yet.
 * @throws CausewayError CONFIG_INVALID
 */
export function grantsOf(files: HostFiles, { configPermit }: DeviceRequest, device: HostDevice): ConfigGrant[] {
  if (configPermit === undefined) return [];
  if (typeof configPermit === 'string') return grantsFor(readPermitFile(files, configPermit), device);
  if (configPermit.length > 0 && effectiveUser(files) !== 0) {
    throw new CausewayError('CONFIG_INVALID', `${device.bdf}: only root may give grants in the configuration`, {
      bdf: device.bdf,
      hint: 'put them into a file that belongs to root, and give its path as configPermit',
    });
  }
  return parseGrants(configPermit, `${device.bdf}: configPermit`);
}
