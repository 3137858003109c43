/** Devices through iommufd: the same work, the same walls. `npm run lab:kernel` builds the kernel, `npm run test:more` runs this. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { builtKernelName, hasBuiltKernel, type Lab, type LabOptions } from '../lab/index.ts';
import { buildPayloads, type Payloads } from './bare/build.ts';
import type { PayloadJob, PayloadRuns } from './bare/job.ts';
import type { PayloadRun } from './bare/run.ts';
import { handedIn } from './support/handed-in.ts';
import { letEveryoneRead } from './support/host-state.ts';
import { checkLease } from './support/lease.ts';
import { CLI } from './support/programs.ts';
import { aliveLab, causeway, openTestLab, runInside, say } from './support/test-lab.ts';

const HOST: LabOptions = { kernel: builtKernelName, devices: ['e1000e', 'edu'] };
const MEMORY_BYTES = 32 * 2 ** 20;

if (!hasBuiltKernel()) say('iommufd is skipped: the kernel that has it is not built (npm run lab:kernel)');

describe.skipIf(!hasBuiltKernel())('a host with iommufd', () => {
  let lab: Lab;
  let payloads: Payloads;

  beforeAll(async () => {
    payloads = await buildPayloads();
    lab = await openTestLab(HOST);
  });

  beforeEach(async () => {
    lab = await aliveLab(lab, HOST);
  });

  afterAll(async () => {
    await lab?.close();
  });

  const nic = () => lab.devices[0]!.bdf;
  const edu = () => lab.devices[1]!.bdf;

  async function runAll(jobs: readonly Omit<PayloadJob, 'kernel' | 'device'>[]): Promise<PayloadRun[]> {
    const all = jobs.map((job) => ({ ...job, kernel: payloads.get(job.name.split(' ')[0]!)!, device: edu() }));
    const runs = await runInside<PayloadRuns>(lab, '../bare/inside', all, { silenceMs: 60_000 });
    return jobs.map(({ name }) => {
      const run = runs[name]!;
      if ('error' in run) throw new Error(`${name}: ${run.error}`);
      return run;
    });
  }

  // Enforces B19.
  test('auto takes it, and inspect says so beforehand', async () => {
    const { stdout } = await causeway(lab, ['inspect', edu(), '--json']);
    const why = 'the kernel has it, and every device has a file of its own';
    expect(JSON.parse(stdout).iommu).toEqual({ backend: 'iommufd', why });
    const { stdout: findings } = await causeway(lab, ['doctor', edu(), '--memory', '64M', '--json']);
    const evidence = [{ path: '/dev/iommu', value: 'opened, IOMMU_IOAS_ALLOC' }];
    expect(JSON.parse(findings).findings).toContainEqual(expect.objectContaining({ id: 'vfio.open', evidence }));
  });

  test('DMA, interrupts and BARs of edu, with iommufd and on the same kernel with the container', async () => {
    const container = { iommu: 'container' } as const;
    const args = { loops: 100, flood: 1000 };
    const runs = await runAll([
      { name: 'edu-dma' },
      { name: 'edu-irq', args },
      { name: 'edu-mmio' },
      { name: 'edu-dma through the container', vm: container },
    ]);
    for (const { results, planned, exit, warnings } of runs) {
      expect(results.filter(({ verdict }) => verdict !== 'pass')).toEqual([]);
      expect(results).toHaveLength(planned!);
      expect(exit).toEqual({ reason: 'debug-exit', value: 0 });
      expect(warnings).toEqual([]);
    }
    expect(runs.map(({ report }) => report.iommu?.backend)).toEqual(['iommufd', 'iommufd', 'iommufd', 'container']);
    expect(runs.map(({ exits }) => exits.mmio)).toEqual([0, 0, 0, 0]);
  });

  // Enforces F63.
  test('the IOMMU refused what edu sent astray, and the host says where', async () => {
    const { stdout } = await lab.exec('dmesg');
    const faults = stdout
      .split('\n')
      .filter((line) => line.includes('DMAR:') && line.includes(edu().slice('0000:'.length)));
    // The first page after RAM.
    expect(faults.join('\n')).toContain(`fault addr 0x${MEMORY_BYTES.toString(16)} `);
  });

  test('Linux 6.1 works through the card with its own driver', async () => {
    const summary = await checkLease(lab, nic(), 'e1000e', '0x8086 0x10d3');
    expect(summary).toContain('devices through iommufd: the kernel has it');
  });

  // Enforces B13.
  test('nobody runs a guest with files that root opened, and the device comes back', async () => {
    // DMA, and then whether the device is there again.
    const kernels = ['edu-dma', 'edu-mmio'].map((name) => payloads.get(name)!);
    await letEveryoneRead(lab, [process.execPath, CLI, ...kernels]);
    const { stdout: node } = await lab.exec(`basename /sys/bus/pci/devices/${edu()}/vfio-dev/*`);
    const files = ['/dev/kvm', '/dev/iommu', `/dev/vfio/devices/${node.trim()}`];
    const options = ['--kvm-fd', '5', '--iommufd-fd', '6', '--device', 'fd=7'];
    for (const kernel of kernels) {
      const { report, code, stderr } = await handedIn(lab, files, kernel, options);
      expect(code, stderr).toBe(0);
      expect(report?.iommu).toEqual({ backend: 'iommufd', why: 'its files were handed in' });
      expect(report?.devices[0]?.label).toContain(edu());
    }
  });
});
