/** group.* and dev.*: what a device, its neighbours and the host's use of it mean for assigning it. */
import type { HostBdf, HostFiles } from '../../native/types.ts';
import { audit } from '../audit.ts';
import {
  groupMembers,
  type HostDevice,
  isBridge,
  PCI_DEVICES,
  readConfig,
  readDevice,
  readResources,
  readText,
} from '../host/sysfs.ts';
import { hostUses } from '../host/usage.ts';
import { isVfioDriver } from '../host/viability.ts';
import { type Evidence, type Finding, fix, type Severity } from './finding.ts';

/** Everything beside what would stop a start, which the preconditions tell. */
export function checkDeviceDetails(files: HostFiles, device: HostDevice, pageBytes: number): Finding[] {
  const check = new DeviceCheck(files, device);
  check.presence();
  check.use();
  check.group();
  check.driver();
  check.virtualFunctions();
  check.reset();
  check.power();
  check.link();
  check.behaviour(pageBytes);
  return check.findings;
}

class DeviceCheck {
  readonly findings: Finding[] = [];
  readonly #files: HostFiles;
  readonly #device: HostDevice;

  constructor(files: HostFiles, device: HostDevice) {
    this.#files = files;
    this.#device = device;
  }

  presence(): void {
    const config = readConfig(this.#files, this.#device.bdf);
    if (!config || config.length < 4 || config.subarray(0, 4).some((byte) => byte !== 0xff)) return;
    this.#add('dev.gone', 'fatal', 'the device fell off the bus: its config space reads all ones', {
      evidence: [this.#attribute('config', 'ff ff ff ff')],
      fix: [fix(`echo 1 | sudo tee ${this.#path('remove')}; echo 1 | sudo tee /sys/bus/pci/rescan`)],
    });
  }

  use(): void {
    for (const { kind, isCritical, what, evidence } of hostUses(this.#files, this.#device.bdf)) {
      const id = { net: 'dev.inuse.net', block: 'dev.inuse.blk', display: 'dev.inuse.gpu' }[kind];
      const severity: Severity = isCritical ? (kind === 'display' ? 'warning' : 'fatal') : 'info';
      this.#add(id, severity, what, { evidence: [{ path: evidence, value: what }] });
    }
  }

  group(): void {
    const { bdf, iommuGroup } = this.#device;
    if (iommuGroup === undefined) return;
    const others = groupMembers(this.#files, bdf)
      .filter((member) => member !== bdf)
      .flatMap((member) => readDevice(this.#files, member) ?? [])
      .filter((member) => !isBridge(member));
    if (others.length === 0) return;
    const role = ({ driver }: HostDevice): string =>
      driver === undefined
        ? 'no driver, fine'
        : isVfioDriver(driver)
          ? `${driver}, fine`
          : `${driver}: unbind or bind it`;
    this.#add('group.members', 'warning', `${others.length} more in IOMMU group ${iommuGroup}: they share its fate`, {
      evidence: others.map((member) => ({ path: `${PCI_DEVICES}/${member.bdf}/driver`, value: role(member) })),
      fix: others.some(({ driver }) => driver !== undefined && !isVfioDriver(driver))
        ? [fix(`sudo causeway bind --group ${bdf}`)]
        : [],
    });
    for (const member of others) this.#criticalNeighbour(member.bdf);
  }

  #criticalNeighbour(member: HostBdf): void {
    const critical = hostUses(this.#files, member).filter(({ isCritical }) => isCritical);
    if (critical.length === 0) return;
    this.#add(
      'group.critical',
      'fatal',
      `the host needs ${member} of the same group: ${critical.map(({ what }) => what).join('; ')}`,
      {
        evidence: critical.map(({ evidence, what }) => ({ path: evidence, value: what })),
        fix: [fix('choose a device in another group')],
      },
    );
  }

  driver(): void {
    const override = readText(this.#files, this.#path('driver_override')) ?? '';
    if (override === '' || override === '(null)' || this.#files.exists(`/sys/bus/pci/drivers/${override}`)) return;
    this.#add('dev.override.stale', 'warning', `driver_override names "${override}", and no such driver is loaded`, {
      evidence: [this.#attribute('driver_override', override)],
      fix: [fix(`echo | sudo tee ${this.#path('driver_override')}`)],
    });
  }

  virtualFunctions(): void {
    const count = Number(readText(this.#files, this.#path('sriov_numvfs')) ?? 0);
    if (!(count > 0) || isVfioDriver(this.#device.driver)) return;
    this.#add('dev.pf.vfs', 'fatal', `it has ${count} virtual functions, and vfio-pci does not take it with them`, {
      evidence: [this.#attribute('sriov_numvfs', String(count))],
      fix: [fix(`echo 0 | sudo tee ${this.#path('sriov_numvfs')}`)],
    });
  }

  reset(): void {
    const { resetMethods } = this.#device;
    const evidence = [this.#attribute('reset_method', resetMethods.join(' ') || 'absent or empty')];
    if (resetMethods.length === 0) {
      this.#add('dev.reset', 'warning', 'the kernel cannot reset it alone: its state may leak from guest to guest', {
        evidence,
        fix: [fix('assign every function of the slot, so that the slot can be reset')],
      });
    } else if (resetMethods.every((method) => method === 'bus' || method === 'pm')) {
      this.#add('dev.reset', 'info', `it is reset by ${resetMethods.join(' or ')}, having no reset of its own`, {
        evidence,
      });
    }
  }

  power(): void {
    const state = readText(this.#files, this.#path('power_state'));
    if (state !== 'D3cold' && state !== 'error') return;
    this.#add('dev.power', 'warning', `it is in ${state}: the first start is slow, and some devices do not come back`, {
      evidence: [this.#attribute('power_state', state)],
      fix: [
        fix(`echo 0 | sudo tee ${this.#path('d3cold_allowed')}; echo on | sudo tee ${this.#path('power/control')}`),
      ],
    });
  }

  link(): void {
    const read = (name: string): string | undefined => readText(this.#files, this.#path(name));
    const [width, maxWidth] = [Number(read('current_link_width')), Number(read('max_link_width'))];
    const [speed, maxSpeed] = [
      Number.parseFloat(read('current_link_speed') ?? ''),
      Number.parseFloat(read('max_link_speed') ?? ''),
    ];
    if (!(width > 0 && width < maxWidth) && !(speed < maxSpeed)) return;
    this.#add('dev.link', 'warning', `its link runs at x${width} of x${maxWidth}, ${speed} of ${maxSpeed} GT/s`, {
      evidence: [
        this.#attribute('current_link_width', String(width)),
        this.#attribute('current_link_speed', `${speed} GT/s`),
      ],
      fix: [fix('another slot; a device at rest may also have slowed its link down')],
    });
  }

  /** The four criteria of a well-behaved device. */
  behaviour(pageBytes: number): void {
    const { bdf } = this.#device;
    const { criteria } = audit({
      config: readConfig(this.#files, bdf) ?? new Uint8Array(0),
      resources: readResources(this.#files, bdf),
      pageBytes,
    });
    const ids = { C1: 'dev.bars', C2: 'dev.msix', C3: 'dev.intx', C4: 'dev.config' };
    for (const { id, title, verdict, evidence, action } of criteria) {
      if (verdict !== 'fail' && verdict !== 'warn') continue;
      const severity: Severity = id === 'C3' && verdict === 'fail' ? 'warning' : 'info';
      this.#add(ids[id], severity, `not so, or not quite: ${title}. Causeway ${action}`, {
        evidence: evidence.map((value) => ({ path: this.#path('config'), value })),
      });
    }
  }

  #path(name: string): string {
    return `${PCI_DEVICES}/${this.#device.bdf}/${name}`;
  }

  #attribute(name: string, value: string): Evidence {
    return { path: this.#path(name), value };
  }

  #add(
    id: string,
    severity: Severity,
    explanation: string,
    { evidence = [], fix: fixes = [] }: Partial<Pick<Finding, 'evidence' | 'fix'>>,
  ): void {
    this.findings.push({ id, severity, subject: this.#device.bdf, evidence, explanation, fix: fixes });
  }
}
