/** What the bare-metal payloads are told of a device. */
import type { DeviceFacts, DeviceFixture } from '../../harness/index.ts';

const ETHERNET = 0x02_0000;
const INTEL = 0x8086;
const CAPABILITIES_POINTER = 0x34;
/** More would be a loop. */
const MOST_CAPABILITIES = 48;

/** Offset in the first memory BAR of a dword that reads the same each time and is harmless to read. */
export function steadyRegister({ classCode, vendor }: DeviceFacts): number {
  // CTRL of Intel's network cards changes with the link; STATUS, once it is down, does not.
  return classCode === ETHERNET && vendor === INTEL ? 8 : 0;
}

/** IDs of the capabilities that the guest is shown, in the order of the hardware's list. */
export function shownCapabilities(device: DeviceFixture): string {
  const shown = device.facts.capabilities.filter(({ kind, shown }) => kind === 'standard' && shown);
  const config = device.config();
  const ids: string[] = [];
  let at = config[CAPABILITIES_POINTER]!;
  for (let i = 0; at >= 0x40 && i < MOST_CAPABILITIES; i++) {
    const { [at]: id, [at + 1]: next = 0 } = config;
    if (shown.some(({ offset }) => offset === at)) ids.push(id!.toString(16).padStart(2, '0'));
    at = next & 0xfc;
  }
  return ids.join(',');
}
