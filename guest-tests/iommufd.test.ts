/** Devices through iommufd: the same work, the same walls. `npm run lab:kernel` builds the kernel, `npm run test:more` runs this. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { builtKernelName, hasBuiltKernel, type Lab, type LabOptions } from '../lab/index.ts';
import { buildPayloads, type Payloads } from './bare/build.ts';
import { handedIn, reportOf } from './support/handed-in.ts';
import { causewayTestIn } from './support/harness-run.ts';
import { letEveryoneRead } from './support/host-state.ts';
import { CLI } from './support/programs.ts';
import { aliveLab, causeway, openTestLab, say } from './support/test-lab.ts';

const HOST: LabOptions = { kernel: builtKernelName, devices: ['e1000e', 'edu'] };
/** What nothing but the way to the device decides. */
const STEPS = [
  'none of it costs an exit',
  'the IOMMU refused what went astray, and the host names device and address',
  'DHCP',
  'TCP from the peer',
  'TCP to the peer',
];

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

  // Enforces B19.
  test('auto takes it, and inspect says so beforehand', async () => {
    const { stdout } = await causeway(lab, ['inspect', edu(), '--json']);
    const why = 'the kernel has it, and every device has a file of its own';
    expect(JSON.parse(stdout).iommu).toEqual({ backend: 'iommufd', why });
    const { stdout: findings } = await causeway(lab, ['doctor', edu(), '--memory', '64M', '--json']);
    const evidence = [{ path: '/dev/iommu', value: 'opened, IOMMU_IOAS_ALLOC' }];
    expect(JSON.parse(findings).findings).toContainEqual(expect.objectContaining({ id: 'vfio.open', evidence }));
  });

  test.each([
    ['auto', 'iommufd'],
    ['iommufd', 'iommufd'],
    ['container', 'container'],
  ])('edu moves its data: %s is %s', async (wish, backend) => {
    const machine = ['--kernel', payloads.get('edu-dma')!, '--cmdline', 'device=1', '--memory', '32M'];
    const words = ['run', ...machine, '--device', edu(), '--iommu', wish, '--timeout', '60', '--json'];
    const { code, stdout, stderr } = await causeway(lab, words);
    expect(code, stderr).toBe(0);
    expect(reportOf(stdout)?.iommu?.backend).toBe(backend);
  });

  // Enforces F63.
  test('what the suites ask of edu and of a card under Linux holds, walls of the IOMMU included', async () => {
    const suites = ['dma', 'irq', 'mmio', 'nic'];
    const { run, ktap, code } = await causewayTestIn(lab, [...suites, '--device', edu(), '--device', nic()]);
    expect(code, ktap).toBe(0);
    const passed = run.tests.filter(({ verdict }) => verdict === 'PASS');
    expect(suites.filter((suite) => !passed.some((one) => one.suite === suite))).toEqual([]);
    const steps = passed.flatMap(({ attempts }) => attempts.at(-1)!.subtests);
    for (const name of STEPS) expect(steps.find((step) => step.name === name)?.verdict, name).toBe('PASS');
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
