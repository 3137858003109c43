/** `causeway devices`: the PCI functions of the host. */
import { readPciNames } from '../../passthrough/host/pci-names.ts';
import { isBridge, listDevices, readDevice } from '../../passthrough/host/sysfs.ts';
import { isVfioDriver } from '../../passthrough/host/viability.ts';
import { EXIT_CODE } from '../base/errors.ts';
import { parseOptions } from './arguments.ts';
import { DEVICES_OPTIONS } from './host-options.ts';
import { type HostWorld, nativeOf, print } from './host-world.ts';

/** @throws CausewayError USAGE */
export async function devicesCommand(args: readonly string[], world: HostWorld): Promise<number> {
  const options = parseOptions('devices', args, DEVICES_OPTIONS);
  const native = await nativeOf(world);
  const names = readPciNames(native);
  const devices = listDevices(native).flatMap((bdf) => {
    const device = readDevice(native, bdf);
    if (!device || (isBridge(device) && !options.all)) return [];
    const { vendor, device: id, classCode, driver, iommuGroup, resetMethods } = device;
    return [
      {
        bdf,
        vendor,
        device: id,
        classCode,
        name: names.device(vendor, id) ?? names.deviceClass(classCode),
        driver,
        iommuGroup,
        resetMethods,
        isBridge: isBridge(device),
        isOnVfio: isVfioDriver(driver),
      },
    ];
  });
  print(world, options.json, { devices }, () =>
    devices.length === 0
      ? 'no PCI devices\n'
      : devices
          .map((device) => {
            const ids = [device.vendor, device.device].map((id) => id.toString(16).padStart(4, '0')).join(':');
            const group = device.iommuGroup === undefined ? 'no group' : `group ${device.iommuGroup}`;
            const reset = device.resetMethods.join(',') || 'no reset';
            const name = device.name ?? `class ${device.classCode.toString(16).padStart(6, '0')}`;
            return `${device.bdf}  ${ids}  ${group.padEnd(9)} ${(device.driver ?? '-').padEnd(12)} ${reset.padEnd(10)} ${name}\n`;
          })
          .join(''),
  );
  return EXIT_CODE.ok;
}
