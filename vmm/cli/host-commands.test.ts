/** devices, inspect, bind, restore and doctor over the scripted kernel. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { FakeKernel } from '../../native/fake/fake-kernel.ts';
import { e1000e } from '../../passthrough/fixtures/devices.ts';
import { runCli } from './cli.ts';
import type { HostWorld } from './host-world.ts';
import type { RunWorld } from './run.ts';

class Screen extends Writable {
  text = '';
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

let directory: string;
let kernel: FakeKernel;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'causeway-cli-'));
  kernel = new FakeKernel();
  kernel.addPciDevice({ ...e1000e(), driver: 'e1000e' });
  kernel.addPciDevice(e1000e('0000:09:00.0', 99));
  kernel.addPciDevice({ ...e1000e('0000:00:02.0', 1), class: 0x060400, driver: 'pcieport' });
});
afterEach(() => rmSync(directory, { recursive: true }));

async function causeway(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const [stdout, stderr] = [new Screen(), new Screen()];
  const world = { stdout, stderr, native: kernel, journalDirectory: join(directory, 'bindings') } satisfies HostWorld;
  // None of these commands looks at the rest.
  const code = await runCli(args, world as unknown as RunWorld & HostWorld);
  return { code, out: stdout.text, err: stderr.text };
}

test('devices lists what can be assigned, bridges when asked', async () => {
  const { code, out } = await causeway('devices');
  expect(code).toBe(0);
  expect(out.split('\n').filter(Boolean)).toHaveLength(2);
  expect(out).toMatch(/^0000:03:00\.0 {2}8086:10d3 {2}group 12 +e1000e +pm,bus/);
  const { devices } = JSON.parse((await causeway('devices', '--all', '--json')).out);
  expect(devices).toHaveLength(3);
  expect(devices[1]).toMatchObject({ bdf: '0000:03:00.0', driver: 'e1000e', iommuGroup: 12, isOnVfio: false });
});

test('inspect tells in words and as JSON', async () => {
  const { code, out } = await causeway('inspect', '03:00.0', '--config');
  expect(code).toBe(0);
  expect(out).toContain('C2 the MSI-X table and its pending bits have pages of their own: almost');
  expect(out).toMatch(
    /0e8-0e9 {2}capability {2}PCI Express: device control: reads the hardware in 7910; writes 7910 of/,
  );
  const report = JSON.parse((await causeway('inspect', '03:00.0', '--json')).out);
  expect(report).toMatchObject({ bdf: '0000:03:00.0', audit: { criteria: [{ id: 'C1' }, {}, {}, {}] } });
  expect(report.config).toBeUndefined();
});

test('inspect shows what a file of grants would open', async () => {
  kernel.files.addFile('/etc/permit', '[8086:10d3]\nb0 ff 0f\n');
  const { out } = await causeway('inspect', '03:00.0', '--config-permit', '/etc/permit');
  expect(out).toContain('granted: b0 000000ff 0000000f');
});

test('bind, dry and in earnest, and restore', async () => {
  const dry = await causeway('bind', '03:00.0', '--dry-run');
  expect(dry.out).toBe(`echo 'vfio-pci' > /sys/bus/pci/devices/0000:03:00.0/driver_override
echo '0000:03:00.0' > /sys/bus/pci/devices/0000:03:00.0/driver/unbind
echo '0000:03:00.0' > /sys/bus/pci/drivers_probe
0000:03:00.0: would go from e1000e to vfio-pci
`);
  expect((await causeway('bind', '03:00.0')).out).toBe('0000:03:00.0: from e1000e to vfio-pci\n');
  const { code, out } = await causeway('restore', '--all', '--json');
  expect(code).toBe(0);
  expect(JSON.parse(out)).toMatchObject({ dryRun: false, devices: [{ from: 'vfio-pci', to: 'e1000e' }] });
});

test('vfs makes, lists and removes virtual functions; restore --all does too', async () => {
  const vf = { vendor: 0x8086, device: 0x10ca, nativeDriver: 'igbvf' };
  const pf = { ...e1000e('0000:0a:00.0', 40), driver: 'igb', sriov: { totalVfs: 7, firstGroup: 41, vf } };
  kernel.addPciDevice(pf);
  expect((await causeway('vfs', '0a:00.0')).out).toBe('0000:0a:00.0 on igb: 0 of 7 VFs\n');
  expect((await causeway('vfs', '0a:00.0', '--create', '1')).out).toBe(
    '0000:0a:00.0 on igb: 1 of 7 VFs; new ones get no driver\n  0000:0a:10.0 on no driver, IOMMU group 41\n',
  );
  expect((await causeway('vfs', '0a:00.0', '--create', '2')).code).toBe(7);
  const { out } = await causeway('vfs', '0a:00.0', '--remove', '--json');
  expect(JSON.parse(out)).toMatchObject({ dryRun: false, bdf: '0000:0a:00.0', vfs: [], driversAutoprobe: true });
  await causeway('vfs', '0a:00.0', '--create', '1');
  await causeway('restore', '--all');
  expect((await causeway('vfs', '0a:00.0')).out).toBe('0000:0a:00.0 on igb: 0 of 7 VFs\n');
});

test('doctor: JSON, words, and an exit code that says how bad it is', async () => {
  const { code, out } = await causeway('doctor', '03:00.0', '--json', '--memory', '64M');
  expect(code).toBe(2);
  const { findings, exitCode } = JSON.parse(out);
  expect(exitCode).toBe(2);
  expect(findings[0]).toMatchObject({ severity: 'fatal', evidence: expect.any(Array), fix: expect.any(Array) });
  const words = await causeway('doctor', '03:00.0');
  expect(words.out).toContain('fatal    dev.driver (0000:03:00.0): 0000:03:00.0 is still on its host driver e1000e');
});

test.each([
  [['inspect'], 2, /which device/],
  [['inspect', '03:00.0', '04:00.0'], 2, /unexpected word/],
  [['inspect', '04:00.0'], 7, /no PCI device 0000:04:00.0/],
  [['inspect', 'eth0'], 4, /not a PCI address/],
  [['bind'], 2, /which device/],
  [['bind', '00:02.0'], 7, /bridge/],
  [['restore', '--all', '03:00.0'], 2, /either/],
  [['restore', '03:00.0'], 7, /was not bound by Causeway/],
  [['doctor', '--memory', 'much'], 2, /not a size/],
  [['vfs'], 2, /which device/],
  [['vfs', '03:00.0'], 7, /no SR-IOV/],
  [['vfs', '03:00.0', '--create', '1', '--remove'], 2, /either/],
  [['devices', 'x'], 2, /unexpected word/],
] as const)('%j fails with %d', async (args, expected, message) => {
  const { code, err } = await causeway(...args);
  expect(code).toBe(expected);
  expect(err).toMatch(message);
});

test('each has its help', async () => {
  for (const command of ['devices', 'inspect', 'bind', 'restore', 'vfs', 'doctor']) {
    const { code, out } = await causeway(command, '--help');
    expect(code).toBe(0);
    expect(out).toContain(`usage: causeway ${command}`);
    expect(out).toContain('--json');
  }
});
