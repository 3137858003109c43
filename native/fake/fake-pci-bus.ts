/** The PCI bus in sysfs: device directories, drivers, and the driver core's answers to bind, unbind and probe. */

import { kernelError } from '../kernel-error.ts';
import type { FakeDevice } from './fake-device.ts';
import type { FakeFiles } from './fake-files.ts';
import { addSriov, type SriovBus } from './fake-sriov.ts';
import type { FakeVfio } from './fake-vfio.ts';
import type { OpenFile } from './open-file.ts';
import { capabilities, type FakePciSpec } from './pci-spec.ts';

const BUS = '/sys/bus/pci';
const hex = (value: number, digits: number) => `0x${value.toString(16).padStart(digits, '0')}`;

interface BusDevice {
  readonly device: FakeDevice;
  readonly path: string;
  readonly nativeDriver: string | undefined;
  override: string | undefined;
}

export class FakePciBus {
  private readonly devices = new Map<string, BusDevice>();
  private readonly drivers = new Map<string, Set<string>>();
  private readonly files: FakeFiles;
  private readonly vfio: FakeVfio;
  /** Number of each device's own file in /dev/vfio/devices. */
  private readonly cdevNumbers = new Map<BusDevice, number>();
  /** Makes a function of a spec; it then comes back through `add`. */
  createDevice: (spec: FakePciSpec) => FakeDevice = () => {
    throw new Error('fake kernel: no VFs without a kernel');
  };
  /** What opening a device's own file gives; undefined without VFIO_DEVICE_CDEV. */
  openCdev: ((device: FakeDevice) => OpenFile) | undefined;

  constructor(files: FakeFiles, vfio: FakeVfio) {
    this.files = files;
    this.vfio = vfio;
    files.addDir(`${BUS}/devices`);
    files.addDir('/sys/kernel/iommu_groups');
    files.addCommand(`${BUS}/drivers_probe`, (text) => {
      // Success says only that the device exists.
      this.probe(this.find(text.trim()));
    });
  }

  /** A loaded driver: without its module, writing to its directory is ENOENT and an override to it binds nothing. */
  addDriver(name: string): void {
    if (this.drivers.has(name)) return;
    const directory = `${BUS}/drivers/${name}`;
    const ids = new Set<string>();
    this.drivers.set(name, ids);
    this.files.addDir(directory);
    this.files.addLink(`${directory}/module`, `../../../../module/${name.replaceAll('-', '_')}`);
    this.files.addDir(`/sys/module/${name.replaceAll('-', '_')}`);
    this.files.addCommand(`${directory}/bind`, (text) => this.bind(name, text.trim()));
    this.files.addCommand(`${directory}/unbind`, (text) => this.unbind(name, text.trim()));
    this.files.addCommand(`${directory}/new_id`, (text) => {
      const id = text.trim();
      if (ids.has(id)) throw kernelError('write', 'EEXIST');
      ids.add(id);
      for (const each of this.devices.values()) if (each.device.driver === undefined) this.probe(each);
    });
    this.files.addCommand(`${directory}/remove_id`, (text) => {
      if (!ids.delete(text.trim())) throw kernelError('write', 'ENODEV');
    });
  }

  add(device: FakeDevice): void {
    const { spec } = device;
    const above = spec.parent === undefined ? undefined : this.devices.get(spec.parent)?.path;
    const path = `${above ?? '/sys/devices/pci0000:00'}/${spec.bdf}`;
    const nativeDriver = spec.nativeDriver ?? (spec.driver === 'vfio-pci' ? undefined : spec.driver);
    const entry: BusDevice = { device, path, nativeDriver, override: undefined };
    this.devices.set(spec.bdf, entry);
    this.writeAttributes(entry, spec);
    this.files.addLink(`${BUS}/devices/${spec.bdf}`, `../../..${path.slice('/sys'.length)}`);
    if (spec.group !== undefined) {
      const group = `/sys/kernel/iommu_groups/${spec.group}`;
      this.files.addLink(`${path}/iommu_group`, `${up(path)}kernel/iommu_groups/${spec.group}`);
      this.files.addLink(`${group}/devices/${spec.bdf}`, `../../../..${path.slice('/sys'.length)}`);
      if (!this.files.exists(`${group}/type`)) {
        this.files.addFile(`${group}/type`, 'DMA\n');
        this.files.addFile(`${group}/reserved_regions`, '0x00000000fee00000 0x00000000feefffff msi\n');
      }
      this.vfio.group(spec.group).devices.push(device);
    }
    const { driver } = spec;
    device.driver = undefined;
    if (driver !== undefined) {
      this.addDriver(driver);
      if (driver === 'vfio-pci') entry.override = driver;
      this.attach(entry, driver);
    }
    if (nativeDriver !== undefined) this.addDriver(nativeDriver);
    if (spec.sriov !== undefined) addSriov(this.files, this.sriovBus, path, device, spec.sriov);
  }

  private readonly sriovBus: SriovBus = {
    addVf: (spec, bindsDriver) => {
      const device = this.createDevice(spec);
      if (bindsDriver) this.probe(this.find(spec.bdf));
      return device;
    },
    removeVf: (device) => {
      const entry = this.find(device.bdf);
      if (device.driver !== undefined) this.unbind(device.driver, device.bdf);
      this.devices.delete(device.bdf);
      const { devices } = this.vfio.group(device.group);
      devices.splice(devices.indexOf(device), 1);
      this.files.remove(`${BUS}/devices/${device.bdf}`);
      this.files.remove(entry.path);
      this.files.remove(`/sys/kernel/iommu_groups/${device.group}/devices/${device.bdf}`);
    },
  };

  /** Files in /dev/vfio/devices for what is on vfio-pci now and later. */
  enableCdevs(open: (device: FakeDevice) => OpenFile): void {
    this.openCdev = open;
    for (const entry of this.devices.values()) this.refreshCdev(entry);
  }

  private refreshCdev(entry: BusDevice): void {
    const { openCdev } = this;
    if (openCdev === undefined || entry.device.spec.group === undefined) return;
    const number = this.cdevNumbers.get(entry) ?? this.cdevNumbers.size;
    this.cdevNumbers.set(entry, number);
    const [node, inSysfs] = [`/dev/vfio/devices/vfio${number}`, `${entry.path}/vfio-dev`];
    const isOnClass = `/sys/class/vfio-dev/vfio${number}`;
    if (entry.device.driver === 'vfio-pci') {
      this.files.addDevice(node, () => openCdev(entry.device));
      this.files.addLink(`${inSysfs}/vfio${number}/device`, `../../../${entry.device.bdf}`);
      this.files.addLink(isOnClass, `../..${inSysfs.slice('/sys'.length)}/vfio${number}`);
    } else for (const path of [node, inSysfs, isOnClass]) this.files.remove(path);
  }

  private writeAttributes(entry: BusDevice, spec: FakePciSpec): void {
    const { path, device } = entry;
    const { files } = this;
    const config = device.config.hardware;
    const attribute = (name: string, value: string) => files.addFile(`${path}/${name}`, `${value}\n`);
    attribute('vendor', hex(spec.vendor, 4));
    attribute('device', hex(spec.device, 4));
    attribute('subsystem_vendor', hex(spec.subsystemVendor ?? spec.vendor, 4));
    attribute('subsystem_device', hex(spec.subsystemDevice ?? 0, 4));
    attribute('class', hex(spec.class ?? 0x020000, 6));
    attribute('revision', hex(spec.revision ?? 1, 2));
    attribute('numa_node', String(spec.numaNode ?? -1));
    attribute('enable', '0');
    attribute('irq', '11');
    attribute('power_state', 'D0');
    attribute('d3cold_allowed', '1');
    attribute('power/control', 'auto');
    files.addFile(`${path}/config`, () => config);
    files.addFile(`${path}/resource`, resourceText(spec));
    if (spec.romBytes !== undefined) files.addFile(`${path}/rom`, '');
    files.addFile(
      `${path}/driver_override`,
      () => `${entry.override ?? '(null)'}\n`,
      (text) => {
        entry.override = text.trim() === '' ? undefined : text.trim();
      },
    );
    const resetMethod = spec.resetMethod ?? 'flr';
    if (resetMethod !== '') {
      attribute('reset_method', resetMethod);
      files.addCommand(`${path}/reset`, () => device.wasReset('function'));
    }
    if (capabilities(config).some(({ id }) => id === 16)) {
      attribute('current_link_speed', '8.0 GT/s PCIe');
      attribute('current_link_width', '4');
    }
    for (const [name, value] of Object.entries(spec.attributes ?? {})) files.addFile(`${path}/${name}`, value);
  }

  // ---- the driver core ----------------------------------------------------------------------------------------

  private find(bdf: string): BusDevice {
    const entry = this.devices.get(bdf);
    if (entry === undefined) throw kernelError('write', 'ENODEV');
    return entry;
  }

  private matches(entry: BusDevice, driver: string): boolean {
    if (entry.override !== undefined) return entry.override === driver;
    const { vendor, device } = entry.device.spec;
    const id = `${vendor.toString(16).padStart(4, '0')} ${device.toString(16).padStart(4, '0')}`;
    return entry.nativeDriver === driver || (this.drivers.get(driver)?.has(id) ?? false);
  }

  private probe(entry: BusDevice): void {
    if (entry.device.driver !== undefined) return;
    const driver = [...this.drivers.keys()].find((name) => this.matches(entry, name));
    // A probe that fails is a line in the kernel's log and nothing to the writer.
    if (driver !== undefined && this.probeError(entry, driver) === undefined) this.attach(entry, driver);
  }

  /** vfio-pci needs an IOMMU group. */
  private probeError(entry: BusDevice, driver: string): string | undefined {
    return driver === 'vfio-pci' && entry.device.spec.group === undefined ? 'EINVAL' : undefined;
  }

  private bind(driver: string, bdf: string): void {
    const entry = this.find(bdf);
    if (!this.matches(entry, driver)) throw kernelError('write', 'ENODEV');
    if (entry.device.driver !== undefined) throw kernelError('write', 'EBUSY');
    const error = this.probeError(entry, driver);
    if (error !== undefined) throw kernelError('write', error);
    this.attach(entry, driver);
  }

  private unbind(driver: string, bdf: string): void {
    const entry = this.find(bdf);
    if (entry.device.driver !== driver) throw kernelError('write', 'ENODEV');
    if (entry.device.isOpen) {
      entry.device.fireRequest();
      // The kernel would block here until the device is closed. A fake cannot.
      if (entry.device.isOpen) throw new Error(`fake kernel: unbind of ${bdf} blocks for ever, the device is open`);
    }
    entry.device.driver = undefined;
    this.files.remove(`${entry.path}/driver`);
    this.files.remove(`${BUS}/drivers/${driver}/${bdf}`);
    this.refreshGroupNode(entry);
    this.refreshCdev(entry);
  }

  private attach(entry: BusDevice, driver: string): void {
    entry.device.driver = driver;
    this.files.addLink(`${entry.path}/driver`, `${up(entry.path)}bus/pci/drivers/${driver}`);
    this.files.addLink(`${BUS}/drivers/${driver}/${entry.device.bdf}`, `../../../..${entry.path.slice('/sys'.length)}`);
    this.refreshGroupNode(entry);
    this.refreshCdev(entry);
  }

  /** /dev/vfio/N exists while any member of the group is on vfio-pci. */
  private refreshGroupNode(entry: BusDevice): void {
    const { group: number } = entry.device.spec;
    if (number === undefined) return;
    const group = this.vfio.group(number);
    const node = `/dev/vfio/${number}`;
    if (!group.devices.some(({ driver }) => driver === 'vfio-pci')) this.files.remove(node);
    else if (!this.files.exists(node)) this.files.addDevice(node, () => group.open());
  }
}

/** From inside a device directory back to /sys/. */
function up(path: string): string {
  return '../'.repeat(path.split('/').length - 2);
}

/** Lines of `resource`: start, end, flags; six BARs and the ROM. */
function resourceText(spec: FakePciSpec): string {
  const lines = Array.from({ length: 7 }, (_, index) => {
    const bar = spec.bars?.[index];
    if (index === 6 && spec.romBytes !== undefined) {
      return [spec.romShadow ? 0xc0000 : 0xfe000000, spec.romBytes, 0x46200 | (spec.romShadow ? 2 : 0)] as const;
    }
    if (bar === undefined || index > 5) return [0, 0, 0] as const;
    const memory = 0x40200 | (bar.prefetch ? 0x2000 : 0) | (bar.is64 ? 0x100000 : 0);
    return [bar.address ?? 0, bar.sizeBytes, bar.kind === 'io' ? 0x40101 : memory] as const;
  });
  return lines
    .map(([start, size, flags]) =>
      [start, size === 0 ? 0 : start + size - 1, flags].map((each) => hex(each, 16)).join(' '),
    )
    .map((line) => `${line}\n`)
    .join('');
}
