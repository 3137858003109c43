/** A device's config space and BARs, from inside a guest without an operating system, against what the host says of it. */
import { test } from '../harness/index.ts';
import { protectedChanges } from './support/protected-changes.ts';
import { shownCapabilities, steadyRegister } from './support/registers.ts';

test('config space is that of the hardware', async ({ device, payload }) => {
  await payload('pci', { describe: true, args: { caps: shownCapabilities(device) }, timeoutMs: 60_000 });
});

test('BARs are those of the hardware, and follow decode, address and power', async ({ device, payload }) => {
  await payload('pci-bars', { describe: true, args: { probe: steadyRegister(device.facts) }, timeoutMs: 60_000 });
});

test('random accesses of two processors change nothing', async ({ device, payload, step }) => {
  const before = device.config();
  let after = before;
  const onExit = (): void => {
    after = device.config();
  };
  await payload('pci-stress', { cpus: 2, args: { cpus: 2, operations: 2000 }, timeoutMs: 90_000, onExit });
  await step('no bit of the hardware changed that is not the guest’s', () => {
    const changes = protectedChanges(before, after);
    if (changes.length > 0) throw new Error(changes.join('\n'));
  });
});
