/** dev.rom, dev.aer, dev.numa, dev.denylist: facts of a device that sysfs tells. */
import type { HostFiles } from '../../native/types.ts';
import { formatSize } from '../../vmm/base/units.ts';
import { type HostDevice, PCI_DEVICES, RESOURCE, readRomResource, readText } from '../host/sysfs.ts';
import { isVfioDriver } from '../host/viability.ts';
import { type Evidence, type Finding, fix, type Severity } from './finding.ts';

/** Devices that vfio-pci refuses unless told otherwise, by vendor and device (drivers/vfio/pci/vfio_pci.c): QAT, DSA, IAX. */
const DENYLIST: ReadonlySet<string> = new Set([
  '8086:0435',
  '8086:0443',
  '8086:0b25',
  '8086:0cfe',
  '8086:19e2',
  '8086:19e3',
  '8086:37c8',
  '8086:37c9',
]);
const DENYLIST_OFF = '/sys/module/vfio_pci/parameters/disable_denylist';
const NODES = '/sys/devices/system/node/online';

export function checkFacts(files: HostFiles, device: HostDevice): Finding[] {
  return [...rom(files, device), ...errors(files, device), ...numa(files, device), ...denylist(files, device)];
}

function rom(files: HostFiles, { bdf }: HostDevice): Finding[] {
  const resource = readRomResource(files, bdf);
  if (!resource) return [];
  const isShadow = (resource.flags & RESOURCE.ROM_SHADOW) !== 0;
  const isReadable = files.exists(`${PCI_DEVICES}/${bdf}/rom`);
  const evidence = [
    {
      path: `${PCI_DEVICES}/${bdf}/resource`,
      value: `${formatSize(resource.sizeBytes)}${isShadow ? ', a copy in RAM' : ''}`,
    },
    { path: `${PCI_DEVICES}/${bdf}/rom`, value: isReadable ? 'there' : 'absent' },
  ];
  if (!isShadow && isReadable) {
    return [finding(bdf, 'dev.rom', 'info', 'it has an expansion ROM, which the guest gets with rom "host"', evidence)];
  }
  const why = isShadow
    ? 'of its expansion ROM the host has only the copy that firmware made and may have changed'
    : 'the kernel does not offer to read its expansion ROM';
  return [
    finding(bdf, 'dev.rom', 'info', why, evidence, [
      fix('give the guest rom "file:PATH", dumped while the device is not the primary display'),
    ]),
  ];
}

/** Totals since boot: what was there before tells what is new later. */
function errors(files: HostFiles, { bdf }: HostDevice): Finding[] {
  const kinds = ['correctable', 'nonfatal', 'fatal'].flatMap((kind) => {
    const path = `${PCI_DEVICES}/${bdf}/aer_dev_${kind}`;
    const total = /^TOTAL_ERR_\w+\s+(\d+)$/m.exec(readText(files, path) ?? '')?.[1];
    return total === undefined || total === '0' ? [] : [{ kind, path, value: `${total} since boot` }];
  });
  if (kinds.length === 0) return [];
  const isOnlyCorrectable = kinds.every(({ kind }) => kind === 'correctable');
  return [
    finding(
      bdf,
      'dev.aer',
      isOnlyCorrectable ? 'info' : 'warning',
      `its link has had errors: ${kinds.map(({ kind }) => kind).join(', ')}`,
      kinds.map(({ path, value }) => ({ path, value })),
      isOnlyCorrectable ? [] : [fix('reseat the card or try another slot; errors under a guest reach it as events')],
    ),
  ];
}

/** Only where the host has more nodes than one. */
function numa(files: HostFiles, { bdf }: HostDevice): Finding[] {
  const online = readText(files, NODES) ?? '0';
  const path = `${PCI_DEVICES}/${bdf}/numa_node`;
  const node = Number(readText(files, path) ?? -1);
  if (online === '0' || !(node >= 0)) return [];
  const cpus = readText(files, `${PCI_DEVICES}/${bdf}/local_cpulist`);
  const evidence = [
    { path, value: String(node) },
    { path: NODES, value: online },
    ...(cpus === undefined ? [] : [{ path: `${PCI_DEVICES}/${bdf}/local_cpulist`, value: cpus }]),
  ];
  const near = cpus === undefined ? '' : `, near CPUs ${cpus}`;
  return [
    finding(bdf, 'dev.numa', 'info', `it is on node ${node}${near}: a VM there reaches it soonest`, evidence, [
      fix(`numactl --cpunodebind=${node} --membind=${node} causeway run …`),
    ]),
  ];
}

function denylist(files: HostFiles, { bdf, vendor, device, driver }: HostDevice): Finding[] {
  const id = [vendor, device].map((part) => part.toString(16).padStart(4, '0')).join(':');
  if (!DENYLIST.has(id) || isVfioDriver(driver)) return [];
  const isOff = ['Y', '1'].includes(readText(files, DENYLIST_OFF) ?? '');
  if (isOff) return [];
  const evidence = [{ path: `${PCI_DEVICES}/${bdf}/device`, value: id }];
  return [
    finding(
      bdf,
      'dev.denylist',
      'fatal',
      'vfio-pci refuses it: an unprivileged user of it can do harm to the host',
      evidence,
      [fix('if you trust the guest: sudo modprobe -r vfio-pci && sudo modprobe vfio-pci disable_denylist=1')],
    ),
  ];
}

function finding(
  subject: string,
  id: string,
  severity: Severity,
  explanation: string,
  evidence: readonly Evidence[],
  fixes: Finding['fix'] = [],
): Finding {
  return { id, severity, subject, evidence, explanation, fix: fixes };
}
