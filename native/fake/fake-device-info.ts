/** What vfio-pci tells of a function, as the structs of its ioctls (include/uapi/linux/vfio.h). */
import { kernelError } from '../kernel-error.ts';
import {
  VFIO_DEVICE_FLAGS,
  VFIO_DEVICE_INFO,
  VFIO_DEVID_NOT_OWNED,
  VFIO_HOT_RESET_FLAGS,
  VFIO_HOT_RESET_INFO,
  VFIO_PCI_IRQ,
  VFIO_PCI_REGION,
  VFIO_REGION_CAP,
  VFIO_REGION_FLAGS,
  VFIO_REGION_INFO,
} from '../vfio-abi.ts';
import { type FakeDevice, REGION_STRIDE } from './fake-device.ts';
import { msixOf } from './pci-spec.ts';

export function deviceInfo({ spec }: FakeDevice): Uint8Array {
  if (spec.vfio?.rawDeviceInfo !== undefined) return spec.vfio.rawDeviceInfo.slice();
  const view = new DataView(new ArrayBuffer(24));
  const reset = spec.vfio?.reset === false ? 0 : VFIO_DEVICE_FLAGS.RESET;
  view.setUint32(VFIO_DEVICE_INFO.argsz, 24, true);
  view.setUint32(VFIO_DEVICE_INFO.flags, VFIO_DEVICE_FLAGS.PCI | reset, true);
  view.setUint32(VFIO_DEVICE_INFO.numRegions, VFIO_PCI_REGION.COUNT, true);
  view.setUint32(VFIO_DEVICE_INFO.numIrqs, VFIO_PCI_IRQ.COUNT, true);
  return new Uint8Array(view.buffer);
}

export function regionInfo(device: FakeDevice, index: number): Uint8Array {
  const raw = device.spec.vfio?.rawRegionInfo?.[index];
  if (raw === null || index > VFIO_PCI_REGION.VGA || (index === VFIO_PCI_REGION.VGA && raw === undefined)) {
    throw kernelError('VFIO_DEVICE_GET_REGION_INFO', 'EINVAL');
  }
  if (raw !== undefined) return raw.slice();
  const hasMsix = msixOf(device.config.hardware)?.tableBar === index && device.isMappable(index);
  const bytes = new Uint8Array(VFIO_REGION_INFO.bytes + (hasMsix ? 8 : 0));
  const view = new DataView(bytes.buffer);
  const size = device.regionSize(index);
  const { READ, WRITE, MMAP, CAPS } = VFIO_REGION_FLAGS;
  const access = size === 0 ? 0 : index === VFIO_PCI_REGION.ROM ? READ : READ | WRITE;
  const flags = access | (device.isMappable(index) ? MMAP : 0) | (hasMsix ? CAPS : 0);
  view.setUint32(VFIO_REGION_INFO.argsz, bytes.length, true);
  view.setUint32(VFIO_REGION_INFO.flags, flags, true);
  view.setUint32(VFIO_REGION_INFO.index, index, true);
  view.setBigUint64(VFIO_REGION_INFO.size, BigInt(size), true);
  view.setBigUint64(VFIO_REGION_INFO.offset, BigInt(index) * BigInt(REGION_STRIDE), true);
  if (hasMsix) {
    view.setUint32(VFIO_REGION_INFO.capOffset, VFIO_REGION_INFO.bytes, true);
    view.setUint16(VFIO_REGION_INFO.bytes, VFIO_REGION_CAP.MSIX_MAPPABLE, true);
    view.setUint16(VFIO_REGION_INFO.bytes + 2, 1, true);
  }
  return bytes;
}

/** @param ids ids of the devices in place of their groups, for a device that was opened by its own file */
export function hotResetInfo(target: FakeDevice, affected: readonly FakeDevice[], ids?: readonly number[]): Uint8Array {
  if (!target.canHotReset) throw kernelError('VFIO_DEVICE_GET_PCI_HOT_RESET_INFO', 'ENODEV');
  const { count, devices, deviceBytes, device } = VFIO_HOT_RESET_INFO;
  const view = new DataView(new ArrayBuffer(devices + affected.length * deviceBytes));
  view.setUint32(0, view.byteLength, true);
  if (ids !== undefined) {
    const { DEV_ID, DEV_ID_OWNED } = VFIO_HOT_RESET_FLAGS;
    const owned = ids.every((id) => id !== VFIO_DEVID_NOT_OWNED);
    view.setUint32(VFIO_HOT_RESET_INFO.flags, owned ? DEV_ID | DEV_ID_OWNED : DEV_ID, true);
  }
  view.setUint32(count, affected.length, true);
  affected.forEach((each, index) => {
    const at = devices + index * deviceBytes;
    const [segment, bus, slot, fn] = each.bdf.split(/[:.]/).map((part) => Number.parseInt(part, 16));
    view.setUint32(at + device.groupId, ids?.[index] ?? each.group, true);
    view.setUint16(at + device.segment, segment!, true);
    view.setUint8(at + device.bus, bus!);
    view.setUint8(at + device.devfn, (slot! << 3) | fn!);
  });
  return new Uint8Array(view.buffer);
}
