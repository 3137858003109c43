/** What an assigned function is made of. */
import type { Native } from '../native/types.ts';
import type { MsixRelocation, PciIds, ResetMethod, WcModes } from '../vmm/config/model.ts';
import type { ConfigWindow } from '../vmm/pci/config-window.ts';
import type { PciServices } from '../vmm/pci/function.ts';
import type { WcFacts } from './bars/write-combining.ts';
import type { GuestPlace } from './config-space/express-topology.ts';
import type { HostDevice, HostResource } from './host/sysfs.ts';
import type { Resetter } from './reset/reset.ts';
import type { Rom } from './rom/rom.ts';
import type { VfioDevice } from './vfio/device.ts';
import type { DmaTarget } from './vfio/ram-map.ts';

export interface AssignedFunctionOptions {
  readonly native: Native;
  readonly host: HostDevice;
  readonly resources: readonly HostResource[];
  readonly device: VfioDevice;
  readonly window: ConfigWindow;
  /** Where the guest has it. Default: `root-bus`. */
  readonly place?: GuestPlace;
  readonly resetter: Resetter;
  /** Default: `auto` for every BAR. */
  readonly wc?: WcModes;
  readonly wcFacts: WcFacts;
  /** Only where one was asked for. */
  readonly rom?: Rom | undefined;
  /** Shown to the guest in place of the device's own. */
  readonly ids?: PciIds;
  /** Default: off. */
  readonly msixRelocation?: MsixRelocation | undefined;
  /** Default: auto. */
  readonly reset?: ResetMethod | undefined;
  /** Where other devices shall reach the BARs; absent: nowhere. */
  readonly peerDma?: DmaTarget | undefined;
  /** For the rate of accesses to trapped pages. Default: the time since the process started, in ms. */
  readonly nowMs?: (() => number) | undefined;
  /** Tells a VM's KVM of the device's group, and takes that back. */
  readonly joinVm: (services: PciServices) => void;
  readonly leaveVm: (services: PciServices) => void;
  /** This function gave up guest addresses: another one's BAR may have been waiting for them. */
  readonly addressesFreed?: () => void;
  readonly warn: (message: string) => void;
}
