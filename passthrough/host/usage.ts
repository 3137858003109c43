/** What the host would lose with a device: a default route, a mounted disk, the boot display. */
import type { HostBdf, HostFiles } from '../../native/types.ts';
import { linkName, PCI_DEVICES, readText } from './sysfs.ts';

export interface HostUse {
  readonly kind: 'net' | 'block' | 'display';
  /** The host depends on it: not to be taken without force. */
  readonly isCritical: boolean;
  /** `eth0 carries the default route` */
  readonly what: string;
  /** The file that says so. */
  readonly evidence: string;
}

/** Uses of a function, critical ones first. Empty for a device that nobody would miss. */
export function hostUses(files: HostFiles, bdf: HostBdf): HostUse[] {
  const uses = [...netUses(files, bdf), ...blockUses(files, bdf), ...displayUses(files, bdf)];
  return uses.sort((a, b) => Number(b.isCritical) - Number(a.isCritical));
}

function netUses(files: HostFiles, bdf: HostBdf): HostUse[] {
  const defaults = defaultRoutes(files);
  return interfacesOf(files, bdf).map((name) => {
    const master = linkName(files, `/sys/class/net/${name}/master`);
    const routed = [name, master].find((each) => each !== undefined && defaults.has(each));
    const state = readText(files, `/sys/class/net/${name}/operstate`) ?? 'unknown';
    const through = master === undefined ? '' : ` through ${master}`;
    return routed === undefined
      ? { kind: 'net', isCritical: false, what: `${name} is ${state}`, evidence: `/sys/class/net/${name}/operstate` }
      : {
          kind: 'net',
          isCritical: true,
          what: `${name} carries the default route${through}`,
          evidence: defaults.get(routed)!,
        };
  });
}

/** Network interfaces of the function; those of virtio devices lie one folder deeper. */
function interfacesOf(files: HostFiles, bdf: HostBdf): string[] {
  const device = `${PCI_DEVICES}/${bdf}`;
  const below = list(files, device)
    .filter((name) => /^virtio\d+$/.test(name))
    .flatMap((name) => list(files, `${device}/${name}/net`));
  return [...list(files, `${device}/net`), ...below];
}

/** Interfaces with a default route, and the file that lists it. */
function defaultRoutes(files: HostFiles): Map<string, string> {
  const found = new Map<string, string>();
  for (const line of (readText(files, '/proc/net/route') ?? '').split('\n').slice(1)) {
    const [name, destination, , , , , , mask] = line.trim().split(/\s+/);
    if (name && destination === '00000000' && mask === '00000000') found.set(name, '/proc/net/route');
  }
  for (const line of (readText(files, '/proc/net/ipv6_route') ?? '').split('\n')) {
    const fields = line.trim().split(/\s+/);
    const [destination, prefix] = fields;
    const name = fields.at(-1);
    // The kernel's own unreachable default route is on lo.
    if (name && name !== 'lo' && prefix === '00' && /^0{32}$/.test(destination ?? '')) {
      if (!found.has(name)) found.set(name, '/proc/net/ipv6_route');
    }
  }
  return found;
}

function blockUses(files: HostFiles, bdf: HostBdf): HostUse[] {
  const own = list(files, '/sys/class/block').filter((name) => {
    try {
      return files.readLink(`/sys/class/block/${name}`).split('/').includes(bdf);
    } catch {
      return false;
    }
  });
  const mounts = mountedDevices(files);
  const swaps = (readText(files, '/proc/swaps') ?? '')
    .split('\n')
    .slice(1)
    .map((line) => line.split(/\s+/)[0]);
  return own.flatMap((name): HostUse[] => {
    const number = readText(files, `/sys/class/block/${name}/dev`) ?? '';
    const at = mounts.get(number) ?? mounts.get(`/dev/${name}`);
    const use = (what: string, evidence: string): HostUse => ({ kind: 'block', isCritical: true, what, evidence });
    const holders = list(files, `/sys/class/block/${name}/holders`);
    return [
      ...(at === undefined ? [] : [use(`${name} is mounted on ${at}`, '/proc/self/mountinfo')]),
      ...(swaps.includes(`/dev/${name}`) ? [use(`${name} is swap`, '/proc/swaps')] : []),
      ...(holders.length === 0
        ? []
        : [use(`${name} is part of ${holders.join(', ')}`, `/sys/class/block/${name}/holders`)]),
    ];
  });
}

/** Mount points by `major:minor` and by source: file systems with devices of their own (btrfs) give only the latter. */
function mountedDevices(files: HostFiles): Map<string, string> {
  const found = new Map<string, string>();
  for (const line of (readText(files, '/proc/self/mountinfo') ?? '').split('\n')) {
    const [before = '', after = ''] = line.split(' - ');
    const [, , number, , where] = before.split(' ');
    const [, source] = after.split(' ');
    if (where === undefined) continue;
    for (const key of [number, source]) if (key !== undefined && !found.has(key)) found.set(key, where);
  }
  return found;
}

function displayUses(files: HostFiles, bdf: HostBdf): HostUse[] {
  const path = `${PCI_DEVICES}/${bdf}/boot_vga`;
  if (readText(files, path) !== '1') return [];
  return [{ kind: 'display', isCritical: true, what: 'it is the display that the host booted with', evidence: path }];
}

function list(files: HostFiles, path: string): string[] {
  try {
    return files.readDir(path);
  } catch {
    return [];
  }
}
