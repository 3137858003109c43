/** All devices of a run at once: functions of one IOMMU group can be used only when none of them is with its host driver. */
import type { HostBdf } from '../../../native/types.ts';
import { DeviceUnderTest, type DeviceWorld } from './device-under-test.ts';

export interface WantedDevice {
  readonly bdf: HostBdf;
  readonly label: string;
}

/**
 * @param onTaken is told of each device when it is reserved and bound
 * @throws CausewayError for the first that cannot be had; those taken before it have been given back
 */
export function takeDevices(
  world: DeviceWorld,
  wanted: readonly WantedDevice[],
  onTaken: (device: DeviceUnderTest) => void = () => {},
): DeviceUnderTest[] {
  const taken: DeviceUnderTest[] = [];
  try {
    for (const { bdf, label } of wanted) {
      const device = new DeviceUnderTest(world, bdf, label);
      taken.push(device);
      onTaken(device);
    }
    for (const device of taken) device.makeReady();
    return taken;
  } catch (error) {
    for (const device of taken) device.release();
    throw error;
  }
}
