/** The holes that root has opened in one function's closed config space. */
import type { Native } from '../../native/types.ts';
import { type HostDevice, readConfig } from '../host/sysfs.ts';
import type { VfioDevice } from '../vfio/device.ts';
import { checkGrants } from './grant-danger.ts';
import { type ConfigGrant, checkForm, throwIssues } from './grants.ts';
import type { GuestRegisters } from './guest-registers.ts';

export interface GrantTarget {
  readonly native: Native;
  readonly host: HostDevice;
  readonly device: VfioDevice;
  readonly registers: GuestRegisters;
  /** Of the function, for messages. */
  readonly label: string;
}

export class GrantSet {
  readonly #target: GrantTarget;
  #grants: readonly ConfigGrant[] = [];

  constructor(target: GrantTarget) {
    this.#target = target;
  }

  get all(): readonly ConfigGrant[] {
    return this.#grants;
  }

  /**
   * Replaces all grants: added ones open and withdrawn ones close with the guest's next access, running or not.
   * @param options.force also opens what {@link checkGrants} guards
   * @throws CausewayError CONFIG_INVALID with every fault; the grants of before then stay
   */
  replace(grants: readonly ConfigGrant[], { force = false }: { readonly force?: boolean } = {}): void {
    const { label, registers } = this.#target;
    throwIssues(
      grants.flatMap((grant, i) => {
        const checked = checkForm(grant);
        return typeof checked === 'string' ? [{ path: `${label}: grant ${i + 1}`, message: checked }] : [];
      }),
    );
    checkGrants(grants, this.#hardwareConfig(), { label, force });
    registers.setGrants(grants);
    this.#grants = [...grants];
  }

  /** Config space past VFIO's chain, which leaves capabilities out. Without privilege sysfs shows 64 bytes of it. */
  #hardwareConfig(): Uint8Array {
    const { native, host, device } = this.#target;
    const whole = readConfig(native, host.bdf);
    const hasAll = whole !== undefined && whole.length >= device.configBytes;
    return (hasAll ? whole : device.snapshotConfig()).subarray(0, device.configBytes);
  }
}
