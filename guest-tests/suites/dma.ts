/** DMA: what the device moves arrives whole, where it should, and nowhere else. */
import { isClass, isDevice, test } from '../harness/index.ts';

const EDU = '1234:11e8';
/** What makes some RAM of a guest lie above 4 GiB, and what the host needs for that: all of it is pinned. */
const HIGH_MEMORY = '3200M';
const HIGH_MEMORY_KIB = 4800 * 1024;

test('edu: out and back, at both ends of its reach, without bus mastering', {
  needs: isDevice(EDU),
  tolerates: ['iommu-faults'],
}, async (fixtures) => {
  const { host, step, device } = fixtures;
  const { exits } = await fixtures.payload('edu-dma', { timeoutMs: 60_000 });
  await step('none of it costs an exit', () => {
    if (exits?.mmio !== 0) throw new Error(`${exits?.mmio} exits`);
  });
  await step('the IOMMU refused what went astray, and the host names device and address', () => {
    const short = device.bdf.replace(/^0000:/, '');
    const faults = host.kernelLog().filter((line) => /DMAR|AMD-Vi|IO_PAGE_FAULT/.test(line) && line.includes(short));
    // The payload has 32 MiB of RAM; the first page behind it is where it sent the device.
    if (!faults.some((line) => /0x0*2000000\b/i.test(line))) {
      throw new Error(`no fault at 0x2000000 of ${short} among ${faults.length} in the host's log`);
    }
  });
});

test('NVMe: blocks read to both ends of RAM and compared from there', { needs: isClass('nvme') }, async ({
  payload,
}) => {
  await payload('nvme-dma', { timeoutMs: 60_000 });
});

test('NVMe: above 4 GiB', { needs: isClass('nvme') }, async ({ payload, host, skip }) => {
  const { stdout } = await host.exec(['grep', 'MemAvailable', '/proc/meminfo']);
  const free = Number(/\d+/.exec(stdout)?.[0] ?? 0);
  if (free < HIGH_MEMORY_KIB) {
    skip(`needs ${HIGH_MEMORY} of guest memory, pinned; the host has ${Math.floor(free / 1024)} MiB (--lab-memory 6G)`);
  }
  await payload('nvme-dma', { memory: HIGH_MEMORY, timeoutMs: 90_000 });
});
