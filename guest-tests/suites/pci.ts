/** A device's config space and BARs, from inside a guest without an operating system, against what the host says of it. */
import { test } from '../harness/index.ts';
import { shownCapabilities, steadyRegister } from './support/registers.ts';

test('config space and BARs are those of the hardware', async ({ device, payload }) => {
  const args = { caps: shownCapabilities(device), probe: steadyRegister(device.facts) };
  await payload('pci', { describe: true, args, timeoutMs: 60_000 });
});

test('random accesses of two processors change nothing', async ({ payload }) => {
  await payload('pci-stress', { cpus: 2, args: { cpus: 2, operations: 300 }, timeoutMs: 90_000 });
});
