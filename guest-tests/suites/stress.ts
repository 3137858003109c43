/** The same again and again: what is lost a little at a time shows here. */
import { test } from '../harness/index.ts';

const BOOTS = 3;

test(`${BOOTS} guests one after the other leave nothing behind`, { timeoutMs: 240_000 }, async ({
  device,
  payload,
  measure,
  step,
}) => {
  const bootMs: number[] = [];
  for (let round = 1; round <= BOOTS; round++) {
    const began = performance.now();
    await payload('pci-stress', { args: { cpus: 1, operations: 50, seed: round } });
    bootMs.push(performance.now() - began);
    if (!device.isAlive()) throw new Error(`the device does not answer after guest ${round}`);
  }
  measure('guest from start to end', bootMs, { unit: 'ms', better: 'lower' });
  await step('no file of the device is open any more', () => {
    if (device.driver() !== 'vfio-pci') throw new Error(`the device is on ${device.driver() ?? 'no driver'}`);
  });
});
