/** Ready-made needs: what a test asks of a device, with the sentence for its SKIP. */
import type { DeviceFacts } from './fixtures.ts';
import type { Need } from './registry.ts';

/** PCI classes by the name under which a test may ask for them. */
const CLASSES: Readonly<Record<string, number>> = {
  nvme: 0x010802,
  ethernet: 0x020000,
  display: 0x030000,
  xhci: 0x0c0330,
};

/** @param name as `causeway inspect` shows it: `MSI-X`, `power management`, `advanced error reporting` */
export function hasCapability(name: string): Need {
  return ({ capabilities }: DeviceFacts) =>
    capabilities.some((capability) => capability.name.toLowerCase() === name.toLowerCase())
      ? undefined
      : `the device has no ${name} capability`;
}

/** @param method of the kernel's: `flr`, `pm`, `bus` ... Without one: any */
export function hasReset(method?: string): Need {
  return ({ resetMethods }) => {
    if (method === undefined) return resetMethods.length > 0 ? undefined : 'the device has no reset';
    return resetMethods.includes(method)
      ? undefined
      : `the device has no ${method} reset, only: ${resetMethods.join(', ') || 'none'}`;
  };
}

/** @param what `nvme`, `ethernet`, `display`, `xhci`, or a 24-bit class code */
export function isClass(what: string | number): Need {
  const wanted = typeof what === 'number' ? what : CLASSES[what];
  if (wanted === undefined)
    throw new TypeError(`no class is called "${what}"; there are: ${Object.keys(CLASSES).join(', ')}`);
  return ({ classCode }) =>
    classCode === wanted ? undefined : `the device is of class ${hex(classCode, 6)}, not ${hex(wanted, 6)} (${what})`;
}

/** @param ids `8086:10d3`, as lspci -n prints them */
export function isDevice(...ids: string[]): Need {
  return ({ vendor, device }) => {
    const own = `${hex(vendor, 4)}:${hex(device, 4)}`;
    return ids.includes(own) ? undefined : `the device is ${own}, not ${ids.join(' or ')}`;
  };
}

/** Any of these will do. */
export function oneOf(...needs: Need[]): Need {
  return (facts) => {
    const reasons = needs.map((need) => need(facts));
    return reasons.includes(undefined) ? undefined : reasons.join(', and ');
  };
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}
