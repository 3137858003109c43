/** The device's report card: what each reset that it has leaves behind, and whether a guest can use it afterwards. */
import { hasReset, test } from '../harness/index.ts';
import { steadyRegister } from './support/registers.ts';

test('each reset method leaves the device as it was', { needs: hasReset() }, async ({
  device,
  step,
  measure,
  payload,
}) => {
  const before = Buffer.from(device.config());
  for (const method of device.facts.resetMethods) {
    await step(method, async () => {
      const { ok, durationMs, changed } = device.reset({ method });
      measure(`reset by ${method}`, durationMs, { unit: 'ms', better: 'lower' });
      if (!ok) throw new Error('the kernel says that it failed');
      if (!device.isAlive()) throw new Error('the device does not answer after it');
      if (changed.length > 0) throw new Error(`config space differs: ${changed.join(', ')}`);
      const now = device.config();
      if (Buffer.compare(before.subarray(0, 4), now.subarray(0, 4)) !== 0) throw new Error('it is another device now');
    });
  }
  await step('what a VM does between owners', () => {
    const { ok, method } = device.reset();
    if (!ok) throw new Error(`${method} failed`);
  });
  await payload('pci', { describe: true, timeoutMs: 60_000 });
  await payload('pci-bars', { describe: true, args: { probe: steadyRegister(device.facts) }, timeoutMs: 60_000 });
});
