/** SR-IOV: virtual functions made, kept apart by a token, and a stock guest's driver on one. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { ExecResult, Lab, LabOptions } from '../lab/index.ts';
import { buildPayloads, type Payloads } from './bare/build.ts';
import type { PayloadRuns } from './bare/job.ts';
import { buildGuest } from './support/guests.ts';
import { HALT, outByte, outEax, pvhElf, setEax, WAIT_FOR_KEY } from './support/payload.ts';
import { aliveLab, causeway, openTestLab, runInside, tail } from './support/test-lab.ts';
import { Gate, typeLater } from './support/typing.ts';

const HOST: LabOptions = { kernel: '6.1', qemu: '10', devices: ['igb', 'igb,bind=host'] };
const TOKEN = 'bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3';
const DEVICE = 7;
/** Says that it runs, waits for a key, ends well. */
const PATIENT = pvhElf(outByte(0x3f8, 0x52), WAIT_FOR_KEY, setEax(0), outEax(0xf4), HALT);

let lab: Lab;
let payloads: Payloads;
let patient: string;

beforeAll(async () => {
  payloads = await buildPayloads();
  lab = await openTestLab(HOST);
});

beforeEach(async () => {
  lab = await aliveLab(lab, HOST);
  patient = join(lab.shareDir, 'patient.elf');
  await writeFile(patient, PATIENT);
});

afterAll(async () => {
  await lab?.close();
});

async function shell(script: string): Promise<string> {
  const { code, stdout, stderr } = await lab.exec(`set -e\n${script}`, { timeoutMs: 60_000 });
  if (code !== 0) throw new Error(`${script}: ${stderr}`);
  return stdout;
}

interface Vfs {
  readonly vfs: readonly { readonly bdf: string; readonly driver?: string; readonly iommuGroup: number }[];
}

async function vfs(bdf: string, ...options: string[]): Promise<Vfs> {
  const { code, stdout, stderr } = await causeway(lab, ['vfs', bdf, '--json', ...options]);
  expect(code, `${stdout}${stderr}`).toBe(0);
  return JSON.parse(stdout) as Vfs;
}

function start(
  device: string,
  stdin: string | AsyncIterable<string>,
  onStdout?: (text: Buffer) => void,
): Promise<ExecResult> {
  const args = ['run', '--memory', '32M', '--timeout', '180', '--kernel', patient, '--device', device];
  return causeway(lab, args, { stdin, timeoutMs: 200_000, ...(onStdout ? { onStdout } : {}) });
}

test('a VF of a PF on vfio-pci opens with the token of the PF only, and is a whole function to its guest', async () => {
  const pf = lab.devices[0]!.bdf;
  const refused = await causeway(lab, ['vfs', pf, '--create', '1']);
  expect(refused).toMatchObject({ code: DEVICE, stderr: expect.stringContaining('enable_sriov') });
  await shell('echo Y > /sys/module/vfio_pci/parameters/enable_sriov');
  const made = await vfs(pf, '--create', '2');
  expect(made.vfs.map(({ driver }) => driver)).toEqual(['vfio-pci', 'vfio-pci']);
  const vf = made.vfs[0]!.bdf;

  const gate = new Gate();
  const running = new Gate();
  const holder = start(`${pf},vf-token=${TOKEN}`, typeLater(gate), () => running.open());
  try {
    await Promise.race([running.opened, holder]);
    expect(await start(vf, 'x')).toMatchObject({ code: DEVICE, stderr: expect.stringContaining('shares a VF token') });
    const wrong = await start(`${vf},vf-token=${TOKEN.replace('b', 'c')}`, 'x');
    expect(wrong).toMatchObject({ code: DEVICE, stderr: expect.stringContaining('not the one') });
    const right = await start(`${vf},vf-token=${TOKEN}`, 'x');
    expect(right, right.stderr).toMatchObject({ code: 0, stdout: 'R' });
    // Its IDs read as ffff in hardware, and its memory is always on: the kernel makes both as they should be.
    const devices = [{ bdf: vf, vfToken: TOKEN }];
    const job = { name: 'pci', kernel: payloads.get('pci')!, device: vf, args: { caps: '10,11' }, vm: { devices } };
    const runs = await runInside<PayloadRuns>(lab, '../bare/inside', [job], { silenceMs: 60_000 });
    const run = runs.pci!;
    if ('error' in run) throw new Error(run.error);
    expect(run.results.filter(({ verdict }) => verdict === 'fail')).toEqual([]);
    expect(run.exit).toEqual({ reason: 'debug-exit', value: 0 });
  } finally {
    gate.open();
  }
  const held = await holder;
  expect(held, held.stderr).toMatchObject({ code: 0 });
  expect((await vfs(pf, '--remove')).vfs).toEqual([]);
});

/**
 * No traffic: QEMU's igb (10.0) does not hand the VF's mailbox messages to the PF's driver. A VF with the host's own igbvf
 * says the same, "PF still in reset state", and has no carrier either (Linux 6.1 and 6.12).
 */
test("a guest's own driver takes a VF, with its vectors, while the host has the PF", async () => {
  const pf = lab.devices[1]!.bdf;
  const { vfs: made } = await vfs(pf, '--create', '1');
  expect(made).toEqual([{ bdf: expect.any(String), iommuGroup: expect.any(Number) }]);
  const vf = made[0]!.bdf;
  await shell(`/run/lab-tools/ip link set $(ls /sys/bus/pci/devices/${pf}/net) up`);
  const bound = await causeway(lab, ['bind', vf]);
  expect(bound.code, bound.stderr).toBe(0);
  const script = `
echo "guest: $(cat /sys/class/net/eth0/device/vendor /sys/class/net/eth0/device/device | tr '\\n' ' ')"
ip link set eth0 up
dmesg | grep igbvf
grep eth0 /proc/interrupts`;
  const guest = await buildGuest('6.1', { modules: ['igbvf'], script });
  const files = ['--kernel', guest.kernel, '--initrd', guest.initrd, '--cmdline', guest.cmdline];
  const options = ['--memory', '256M', '--timeout', '200', '--summary', '--device', vf];
  const { code, stdout, stderr } = await causeway(lab, ['run', ...options, ...files], { timeoutMs: 240_000 });
  const log = tail(`${stdout}\n${stderr}`);
  expect(code, log).toBe(0);
  expect(stdout, log).toContain('guest: 0x8086 0x10ca');
  expect(stdout, log).toContain('Intel(R) 82576 Virtual Function');
  expect(stdout.match(/PCI-MSI.*eth0/g), log).toHaveLength(3);
  expect(stderr).toContain('devices through container: there is no /dev/iommu');
  expect((await vfs(pf, '--remove')).vfs).toEqual([]);
  expect(await shell(`cat /sys/bus/pci/devices/${pf}/sriov_drivers_autoprobe`)).toBe('1\n');
});
