/** Registers: that each access arrives once, in its width and order, and how long it takes. */
import { hasCapability, isDevice, test } from '../harness/index.ts';
import { steadyRegister } from './support/registers.ts';

const EDU = '1234:11e8';
/** QEMU's display and shared memory: what is written to their BAR does nothing but stay there. */
const PLAIN_MEMORY = ['1234:1111', '1af4:1110'];

test('edu: widths, order, memory types, latency', { needs: isDevice(EDU) }, async (fixtures) => {
  const { metrics, exits } = await fixtures.payload('edu-mmio', { args: { loops: 2000 }, timeoutMs: 60_000 });
  await fixtures.step('a BAR that is mapped costs no exit', () => {
    const accesses = metrics['bar-accesses']?.value ?? 0;
    if (accesses < 1000 || exits?.mmio !== 0) throw new Error(`${exits?.mmio} exits for ${accesses} accesses`);
  });
});

test('latency: accesses that trap, and one that does not', { needs: hasCapability('MSI-X') }, async (fixtures) => {
  const probe = steadyRegister(fixtures.device.facts);
  await fixtures.payload('access-latency', { args: { loops: 200, probe }, timeoutMs: 60_000 });
});

test('throughput: uncached against write-combining', { needs: isDevice(...PLAIN_MEMORY) }, async ({ payload }) => {
  await payload('bar-throughput', { timeoutMs: 60_000 });
});
