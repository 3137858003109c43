/** SR-IOV of a fake PF in sysfs: the kernel's answers to sriov_numvfs, and the VFs that come and go with it. */

import { kernelError } from '../kernel-error.ts';
import type { FakeDevice } from './fake-device.ts';
import type { FakeFiles } from './fake-files.ts';
import type { FakePciSpec } from './pci-spec.ts';

/** How VFs of a PF look, and where they appear. */
export interface FakeSriovSpec {
  readonly totalVfs: number;
  /** What all VFs have in common; address and group are given to each. */
  readonly vf: Omit<FakePciSpec, 'bdf' | 'group' | 'driver'>;
  /** Group of the first VF; the next ones follow. */
  readonly firstGroup: number;
  /** Makes the write of this count fail half way, as when a driver runs out of something. */
  readonly failsAt?: { readonly count: number; readonly errno: string };
}

export interface SriovBus {
  addVf(spec: FakePciSpec, bindsDriver: boolean): FakeDevice;
  removeVf(device: FakeDevice): void;
}

/** vfio-pci lets its PFs have VFs only with this on. */
const ENABLE = '/sys/module/vfio_pci/parameters/enable_sriov';

export function addSriov(files: FakeFiles, bus: SriovBus, path: string, pf: FakeDevice, sriov: FakeSriovSpec): void {
  let autoprobe = true;
  files.addFile(`${path}/sriov_totalvfs`, `${sriov.totalVfs}\n`);
  files.addFile(
    `${path}/sriov_drivers_autoprobe`,
    () => `${autoprobe ? 1 : 0}\n`,
    (text) => {
      autoprobe = text.trim() === '1';
    },
  );
  files.addFile(
    `${path}/sriov_numvfs`,
    () => `${pf.virtualFunctions.length}\n`,
    (text) => {
      const count = Number(text);
      if (!Number.isInteger(count) || count < 0) throw kernelError('write', 'EINVAL');
      if (count > sriov.totalVfs) throw kernelError('write', 'ERANGE');
      if (count === pf.virtualFunctions.length) return;
      const canSriov = pf.driver !== undefined && (pf.driver !== 'vfio-pci' || isOn(files));
      if (!canSriov) throw kernelError('write', 'ENOENT');
      if (count === 0) return removeAll();
      if (pf.virtualFunctions.length > 0) throw kernelError('write', 'EBUSY');
      if (sriov.failsAt?.count === count) throw kernelError('write', sriov.failsAt.errno);
      for (let i = 0; i < count; i++) create(i);
    },
  );

  function create(index: number): void {
    const [domain, bus1] = pf.bdf.split(':');
    const device = 0x10 + (index >> 3);
    const bdf = `${domain}:${bus1}:${device.toString(16)}.${index & 7}`;
    const vf = bus.addVf({ ...sriov.vf, bdf, group: sriov.firstGroup + index }, autoprobe && pf.driver !== 'vfio-pci');
    vf.physicalFunction = pf;
    pf.virtualFunctions.push(vf);
    files.addLink(`${path}/virtfn${index}`, `../${bdf}`);
    files.addLink(`/sys/bus/pci/devices/${bdf}/physfn`, `../${pf.bdf}`);
    // The kernel hands VFs of a PF on vfio-pci to vfio-pci too.
    if (pf.driver === 'vfio-pci') files.writeFile(`/sys/bus/pci/devices/${bdf}/driver_override`, 'vfio-pci\n');
    if (pf.driver === 'vfio-pci' && autoprobe) files.writeFile('/sys/bus/pci/drivers_probe', bdf);
  }

  function removeAll(): void {
    pf.virtualFunctions.forEach((vf, index) => {
      if (vf.isOpen) throw new Error(`fake kernel: removal of ${vf.bdf} blocks for ever, the device is open`);
      files.remove(`${path}/virtfn${index}`);
      bus.removeVf(vf);
    });
    pf.virtualFunctions.length = 0;
  }
}

function isOn(files: FakeFiles): boolean {
  if (!files.exists(ENABLE)) return false;
  return /^[Y1]/.test(new TextDecoder().decode(files.readFile(ENABLE)));
}
