/** The fake keeps the rules of iommufd and of devices opened by their own files. */

import { beforeEach, describe, expect, it } from 'vitest';
import type { Fd, Hva, Iova } from '../types.ts';
import { FakeKernel } from './fake-kernel.ts';
import { nicSpec, openDevice } from './fixtures.ts';

const code = (name: string) => expect.objectContaining({ name: 'KernelError', code: name });
const CDEV = '/dev/vfio/devices/vfio0';

let kernel: FakeKernel;
let iommufd: Fd;

beforeEach(() => {
  kernel = new FakeKernel();
  kernel.addPciDevice(nicSpec());
  kernel.enableIommufd();
  iommufd = kernel.open('/dev/iommu', 'rw');
});

describe('binding', () => {
  it('opens nothing before it', () => {
    const device = kernel.open(CDEV, 'rw');
    expect(() => kernel.vfioDeviceInfo(device)).toThrow(code('EINVAL'));
    expect(() => kernel.map(device, 0, 4096)).toThrow(code('EINVAL'));
    expect(kernel.pread(device, 7 * 2 ** 40, new Uint8Array(4), 0, 4)).toBe(-22);
    expect(kernel.devices.get('0000:01:00.0')!.openCount).toBe(0);
    kernel.vfioBindIommufd(device, iommufd);
    expect(kernel.pread(device, 7 * 2 ** 40, new Uint8Array(4), 0, 4)).toBe(0);
  });

  it('is done once, and excludes the group', () => {
    const device = kernel.open(CDEV, 'rw');
    kernel.vfioBindIommufd(device, iommufd);
    expect(() => kernel.vfioBindIommufd(device, iommufd)).toThrow(code('EINVAL'));
    expect(() => kernel.vfioBindIommufd(kernel.open(CDEV, 'rw'), iommufd)).toThrow(code('EINVAL'));
    expect(() => kernel.open('/dev/vfio/7', 'rw')).toThrow(code('EBUSY'));
    for (const { fd } of kernel.openFds()) kernel.close(fd);
    openDevice(kernel);
    expect(() => kernel.vfioBindIommufd(kernel.open(CDEV, 'rw'), kernel.open('/dev/iommu', 'rw'))).toThrow(
      code('EBUSY'),
    );
  });

  it('holds the iommufd until the device is closed', () => {
    const device = kernel.open(CDEV, 'rw');
    kernel.vfioBindIommufd(device, iommufd);
    kernel.close(iommufd);
    expect(kernel.iommufd.opened[0]!.isReleased).toBe(false);
    kernel.close(device);
    expect(kernel.iommufd.opened[0]!.isReleased).toBe(true);
  });
});

describe('address spaces', () => {
  let device: Fd;
  let ioas: number;
  let hva: Hva;

  beforeEach(() => {
    device = kernel.open(CDEV, 'rw');
    ioas = kernel.iommufdAllocIoas(iommufd);
    hva = kernel.mapAnonymous(0x4000);
    kernel.vfioBindIommufd(device, iommufd);
  });

  it('lose ranges to a device that is attached', () => {
    expect(kernel.iommufdIovaRanges(iommufd, ioas).ranges).toHaveLength(16);
    kernel.vfioAttachIoas(device, ioas);
    expect(kernel.iommufdIovaRanges(iommufd, ioas).ranges).toHaveLength(32);
    expect(() => kernel.iommufdMap(iommufd, ioas, hva, 0xfee00000 as Iova, 0x1000)).toThrow(code('EINVAL'));
  });

  it('map and unmap whole pieces', () => {
    kernel.vfioAttachIoas(device, ioas);
    kernel.iommufdMap(iommufd, ioas, hva, 0x1000 as Iova, 0x2000);
    expect(() => kernel.iommufdMap(iommufd, ioas, hva, 0x2000 as Iova, 0x1000)).toThrow(code('EEXIST'));
    expect(kernel.iommufd.translate('0000:01:00.0', 0x1800)).toBe(hva + 0x800);
    expect(kernel.iommufd.translate('0000:01:00.0', 0x3000)).toBeUndefined();
    expect(() => kernel.iommufdUnmap(iommufd, ioas, 0x1000 as Iova, 0x1000)).toThrow(code('ENOENT'));
    expect(kernel.iommufdUnmap(iommufd, ioas, 0x1000 as Iova, 0x2000)).toBe(0x2000);
    expect(() => kernel.iommufdUnmap(iommufd, ioas, 0x1000 as Iova, 0x2000)).toThrow(code('ENOENT'));
  });

  it('stay while a device is attached; a detached one reaches nothing', () => {
    kernel.vfioAttachIoas(device, ioas);
    kernel.iommufdMap(iommufd, ioas, hva, 0 as Iova, 0x1000);
    expect(() => kernel.iommufdDestroy(iommufd, ioas)).toThrow(code('EBUSY'));
    kernel.vfioDetachIoas(device);
    expect(kernel.iommufd.translate('0000:01:00.0', 0)).toBeUndefined();
    kernel.iommufdDestroy(iommufd, ioas);
    expect(() => kernel.vfioAttachIoas(device, ioas)).toThrow(code('ENOENT'));
  });
});

describe('virtual functions', () => {
  const PF = '0000:02:00.0';
  const uuid = 'bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3';
  const write = (name: string, text: string) => kernel.writeFile(`/sys/bus/pci/devices/${PF}/${name}`, text);

  beforeEach(() => {
    kernel.addPciDevice(
      nicSpec({
        bdf: PF,
        group: 20,
        driver: 'igb',
        sriov: { totalVfs: 7, firstGroup: 21, vf: { vendor: 0x8086, device: 0x10ca, nativeDriver: 'igbvf' } },
      }),
    );
  });

  it('come and go with sriov_numvfs', () => {
    expect(() => write('sriov_numvfs', '8')).toThrow(code('ERANGE'));
    write('sriov_numvfs', '2');
    expect(kernel.devices.get('0000:02:10.1')).toMatchObject({ driver: 'igbvf', group: 22 });
    expect(kernel.readLink(`/sys/bus/pci/devices/${PF}/virtfn1`)).toBe('../0000:02:10.1');
    expect(() => write('sriov_numvfs', '3')).toThrow(code('EBUSY'));
    write('sriov_numvfs', '0');
    expect(kernel.exists('/sys/bus/pci/devices/0000:02:10.1')).toBe(false);
    write('sriov_drivers_autoprobe', '0');
    write('sriov_numvfs', '1');
    expect(kernel.devices.get('0000:02:10.0')!.driver).toBeUndefined();
  });

  it('of a PF on vfio-pci open with the token of the PF only', () => {
    kernel.files.addFile('/sys/module/vfio_pci/parameters/enable_sriov', 'Y\n');
    write('driver_override', 'vfio-pci\n');
    write('driver/unbind', PF);
    kernel.writeFile('/sys/bus/pci/drivers_probe', PF);
    write('sriov_numvfs', '1');
    openDevice(kernel, `${PF} vf_token=${uuid}`, 20);
    expect(() => openDevice(kernel, '0000:02:10.0', 21)).toThrow(code('EACCES'));
    for (const { fd, label } of kernel.openFds()) if (label.includes('group 21')) kernel.close(fd);
    const cdev = kernel.open('/dev/vfio/devices/vfio2', 'rw');
    const other = Buffer.from(uuid.replaceAll('-', '').replace('b', 'c'), 'hex');
    expect(() => kernel.vfioBindIommufd(cdev, iommufd)).toThrow(code('EACCES'));
    expect(() => kernel.vfioBindIommufd(cdev, iommufd, other)).toThrow(code('EACCES'));
    kernel.vfioBindIommufd(cdev, iommufd, Buffer.from(uuid.replaceAll('-', ''), 'hex'));
  });
});
