/** Interrupts: that each comes, once, at the right time, and none is lost. */
import { hasCapability, isClass, isDevice, test } from '../harness/index.ts';
import { leaseAddress, netInterface, ROUTER } from './support/network.ts';

/** QEMU's edu raises an interrupt whenever it is told to. */
const EDU = '1234:11e8';
const E1000E = '8086:10d3';
const FLOOD = 100_000;
/** On a slow host it ends earlier. */
const FLOOD_MS = 120_000;
const PINGS = 20;

test(`edu: INTx and MSI, masks, latency, ${FLOOD} MSIs without a loss`, {
  needs: isDevice(EDU),
  timeoutMs: 240_000,
  silenceMs: 200_000,
}, async ({ payload, log, step }) => {
  const args = { loops: 1000, flood: FLOOD, flood_ms: FLOOD_MS };
  const { metrics, exits } = await payload('edu-irq', { args, timeoutMs: 200_000 });
  await step('none of them costs an exit', () => {
    if (exits?.mmio !== 0) throw new Error(`${exits?.mmio} exits`);
  });
  const sent = metrics['msi-flood']?.value ?? 0;
  if (sent < FLOOD) log(`this host had time for ${sent} in ${FLOOD_MS / 1000} s`);
});

test('NVMe: MSI-X vectors, masks, pending bits, latency', {
  needs: [isClass('nvme'), hasCapability('MSI-X')],
}, async ({ payload, step }) => {
  const { metrics, exits } = await payload('nvme-msix', { args: { loops: 500 }, timeoutMs: 100_000 });
  await step('each access to table and pending bits is one exit, and nothing else is', () => {
    const trapped = metrics['trapped-accesses']?.value;
    if (exits?.mmio !== trapped) throw new Error(`${exits?.mmio} exits for ${trapped} accesses`);
  });
});

/** The driver's name of each mode, and how /proc/interrupts names it. */
const MODES = [
  { name: 'INTx', parameter: 0, chip: /IO-APIC\s+\d+-fasteoi/ },
  { name: 'MSI', parameter: 1, chip: /PCI-MSI/ },
  { name: 'MSI-X', parameter: 2, chip: /PCI-MSI/ },
] as const;
/** What the driver says when it falls back. With QEMU's model it mostly does, under QEMU as well. */
const FAILED_TRIAL = 'MSI interrupt test failed';

test('e1000e under Linux: INTx, MSI, MSI-X in turn', {
  needs: isDevice(E1000E),
  timeoutMs: 180_000,
}, async (fixtures) => {
  // QEMU's model has no subsystem; of a real card the message must come.
  const isEmulated = fixtures.device.facts.subsystemDevice === 0;
  const guest = await fixtures.boot({ modules: [], memory: '128M' });
  for (const { name, parameter, chip } of MODES) {
    await fixtures.step(name, async () => {
      await guest.must(`modprobe e1000e IntMode=${parameter}`);
      const nic = await netInterface(guest);
      await leaseAddress(guest, nic);
      if (name === 'MSI' && isEmulated && (await guest.run(`dmesg | grep '${FAILED_TRIAL}'`)).code === 0) {
        fixtures.skip("the driver's own trial of an MSI found none within 100 ms, and it took INTx");
      }
      const before = await interruptsOf(nic);
      for (const { line } of before) if (!chip.test(line)) throw new Error(`not ${name}: ${line}`);
      await guest.must(`ping -c ${PINGS} -A -w 60 ${ROUTER}`, { timeoutMs: 90_000 });
      const came = sum(await interruptsOf(nic)) - sum(before);
      // Each answer is at least one interrupt; several share one only under load.
      if (came < PINGS) throw new Error(`${came} interrupts for ${PINGS} answers`);
      fixtures.log(`${name}: ${came} interrupts for ${PINGS} answers, on ${before.length} vectors`);
    });
    await guest.run('ip link set eth0 down; rmmod e1000e');
  }

  async function interruptsOf(nic: string): Promise<{ line: string; count: number }[]> {
    const text = await guest.must(`grep ${nic} /proc/interrupts`);
    return text.split('\n').map((line) => ({ line, count: Number(/:\s+(\d+)/.exec(line)?.[1]) }));
  }
});

function sum(lines: readonly { readonly count: number }[]): number {
  return lines.reduce((total, { count }) => total + count, 0);
}
