/** SR-IOV: virtual functions made, kept apart by a token; a PF and a VF at work under the drivers of a stock guest. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { ExecResult, Lab, LabOptions } from '../lab/index.ts';
import { causewayTestIn, describeTest } from './support/harness-run.ts';
import { HALT, outByte, outEax, pvhElf, setEax, WAIT_FOR_KEY } from './support/payload.ts';
import { aliveLab, causeway, ONE_PROCESSOR, openTestLab } from './support/test-lab.ts';
import { Gate, typeLater } from './support/typing.ts';

const HOST: LabOptions = { ...ONE_PROCESSOR, kernel: '6.1', qemu: '10', devices: ['igb', 'igb,bind=host'] };
const TOKEN = 'bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3';
const DEVICE = 7;
/** Says that it runs, waits for a key, ends well. */
const PATIENT = pvhElf(outByte(0x3f8, 0x52), WAIT_FOR_KEY, setEax(0), outEax(0xf4), HALT);

let lab: Lab;
let patient: string;

beforeAll(async () => {
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

// Enforces B18.
test('a VF of a PF on vfio-pci opens with the token of the PF only', async () => {
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
  } finally {
    gate.open();
  }
  const held = await holder;
  expect(held, held.stderr).toMatchObject({ code: 0 });
  expect((await vfs(pf, '--remove')).vfs).toEqual([]);
});

/**
 * The suite of network cards under Linux passes: link, DHCP, pings, TCP both ways with checksums, driver reloads. So does
 * what a guest without an operating system sees of the function.
 */
async function expectSuites(bdf: string): Promise<void> {
  const { run, ktap, code } = await causewayTestIn(lab, ['nic', 'pci', '--device', bdf]);
  const failed = run.tests.filter(({ verdict }) => verdict !== 'PASS').map(describeTest);
  expect([failed, code], ktap).toEqual([[], 0]);
  expect(new Set(run.tests.map(({ suite }) => suite))).toEqual(new Set(['nic', 'pci']));
  const steps = run.tests.flatMap(({ attempts }) => attempts.at(-1)!.subtests);
  for (const name of ['link', 'DHCP', 'ping', 'TCP from the peer', 'TCP to the peer']) {
    expect(steps.find((step) => step.name === name)?.verdict, `${name}\n${ktap}`).toBe('PASS');
  }
}

test("a PF under a guest's own driver", async () => {
  await expectSuites(lab.devices[0]!.bdf);
});

// Enforces P8.
test("a VF under a guest's own driver, while the host has the PF, is a whole function to it", async () => {
  const pf = lab.devices[1]!.bdf;
  const { vfs: made } = await vfs(pf, '--create', '1');
  expect(made).toEqual([{ bdf: expect.any(String), iommuGroup: expect.any(Number) }]);
  // Its IDs read as ffff in hardware, and its memory is always on: the kernel makes both as they should be.
  const vf = made[0]!.bdf;
  // The VF's driver asks the PF's for everything, and gets no answer before that is up.
  await shell(`
    interface=$(ls /sys/bus/pci/devices/${pf}/net)
    /run/lab-tools/ip link set $interface up
    for i in $(seq 100); do grep -q 1 /sys/class/net/$interface/carrier && exit 0; sleep 0.2; done
    exit 1`);
  const bound = await causeway(lab, ['bind', vf]);
  expect(bound.code, bound.stderr).toBe(0);
  await expectSuites(vf);
  expect((await vfs(pf, '--remove')).vfs).toEqual([]);
  expect(await shell(`cat /sys/bus/pci/devices/${pf}/sriov_drivers_autoprobe`)).toBe('1\n');
});
