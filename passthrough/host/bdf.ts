/** Addresses of PCI functions on the host, as sysfs writes them. */
import type { HostBdf } from '../../native/types.ts';
import { CausewayError } from '../../vmm/base/errors.ts';

const BDF = /^(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$/i;
const MAX_DEVICE = 0x1f;

/** Full form of `01:00.0` or `0000:01:00.0`; undefined for what is no address. */
export function parseBdf(text: string): HostBdf | undefined {
  const match = BDF.exec(text.trim());
  if (!match) return undefined;
  const [, domain = '0', bus, device, fn] = match;
  if (Number.parseInt(device!, 16) > MAX_DEVICE) return undefined;
  const hex = (digits: string, width: number): string => Number.parseInt(digits, 16).toString(16).padStart(width, '0');
  return `${hex(domain, 4)}:${hex(bus!, 2)}:${hex(device!, 2)}.${fn}` as HostBdf;
}

/** As {@link parseBdf}. @throws CausewayError CONFIG_INVALID */
export function normaliseBdf(text: string): HostBdf {
  const bdf = parseBdf(text);
  if (bdf) return bdf;
  throw new CausewayError('CONFIG_INVALID', `"${text}" is not a PCI address`, {
    hint: 'write it as lspci -D prints it: 0000:01:00.0',
  });
}

/** `0000:01:00` of `0000:01:00.0`: the device that a function is part of. */
export function slotOf(bdf: HostBdf): string {
  return bdf.slice(0, -2);
}

/**
 * Addresses of `present` that the user may have meant, best first: the same device with another function or in another
 * domain, then those that differ in one digit.
 */
export function nearMatches(wanted: HostBdf, present: readonly HostBdf[], limit = 3): HostBdf[] {
  const score = (bdf: HostBdf): number => {
    if (bdf === wanted) return 0;
    if (slotOf(bdf) === slotOf(wanted)) return 1;
    if (bdf.slice(-7) === wanted.slice(-7)) return 2;
    const differing = [...bdf].filter((digit, i) => digit !== wanted[i]).length;
    return bdf.length === wanted.length && differing === 1 ? 3 : 4;
  };
  return present
    .filter((bdf) => score(bdf) < 4)
    .sort((a, b) => score(a) - score(b) || (a < b ? -1 : 1))
    .slice(0, limit);
}
