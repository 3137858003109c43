/** From `--device` and `--match` to addresses with names. */
import type { HostBdf, HostFiles } from '../../../native/types.ts';
import { normaliseBdf } from '../../../passthrough/host/bdf.ts';
import { isBridge, listDevices, readDevice } from '../../../passthrough/host/sysfs.ts';
import { usageError } from '../../../vmm/cli/arguments.ts';
import type { WantedDevice } from '../device/take-devices.ts';

/** @throws CausewayError USAGE for what names no device, CONFIG_INVALID for what is no address */
export function selectDevices(
  files: HostFiles,
  devices: readonly string[],
  matches: readonly string[],
): WantedDevice[] {
  const faults: string[] = [];
  const found = new Map<HostBdf, string>();
  for (const text of devices) {
    const [address = '', ...name] = text.split('=');
    const bdf = normaliseBdf(address);
    if (!readDevice(files, bdf)) faults.push(`--device ${text}: there is no such device`);
    else found.set(bdf, name.join('=') || bdf);
  }
  for (const text of matches) {
    const ids = /^([0-9a-f]{4}):([0-9a-f]{4})$/i.exec(text);
    if (!ids) {
      faults.push(`--match ${text}: write it as lspci -n prints it: 8086:10d3`);
      continue;
    }
    const [vendor, device] = [Number.parseInt(ids[1]!, 16), Number.parseInt(ids[2]!, 16)];
    const matching = listDevices(files).filter((bdf) => {
      const each = readDevice(files, bdf);
      return each !== undefined && each.vendor === vendor && each.device === device && !isBridge(each);
    });
    if (matching.length === 0) faults.push(`--match ${text}: no device has these ids`);
    for (const bdf of matching) if (!found.has(bdf)) found.set(bdf, bdf);
  }
  if (faults.length > 0) throw usageError('test', faults);
  const labels = uniqueNames([...found.values()]);
  return [...found.keys()].map((bdf, i) => ({ bdf, label: labels[i]! }));
}

/** `e1000e`, `e1000e-2`: two of a kind are told apart. */
export function uniqueNames(names: readonly string[]): string[] {
  const counts = new Map<string, number>();
  return names.map((name) => {
    const count = (counts.get(name) ?? 0) + 1;
    counts.set(name, count);
    return count === 1 ? name : `${name}-${count}`;
  });
}
