/** Bad input, through the command line: one clear message with a hint, the documented exit code, and an untouched host. */
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type ExecResult, guestKernel, type Lab, type LabOptions } from '../lab/index.ts';
import { hostState, letEveryoneRead } from './support/host-state.ts';
import { HALT, outByte, outEax, pvhElf, setEax, WAIT_FOR_KEY } from './support/payload.ts';
import { CLI } from './support/programs.ts';
import { aliveLab, ONE_PROCESSOR, openTestLab } from './support/test-lab.ts';
import { Gate, typeLater } from './support/typing.ts';

const HOST = 3;
const CONFIG = 4;
const DEVICE = 7;
/** Says that it runs, waits for a key, ends well. */
const PATIENT = pvhElf(outByte(0x3f8, 0x52), WAIT_FOR_KEY, setEax(0), outEax(0xf4), HALT);
const UNPRIVILEGED = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', '--'];

interface BadStart {
  readonly options: readonly string[];
  readonly exitCode: number;
  readonly message: RegExp;
  readonly hint: RegExp;
  /** Runs the command: words in front of it. */
  readonly prefix?: readonly string[];
  /** Shell commands that make the host unfit, and what undoes them. */
  readonly spoil?: string;
  readonly repair?: string;
  /** Another VM runs meanwhile: the host is not as the lab set it up. */
  readonly besideOthers?: true;
}

let lab: Lab;
let good: { readonly kernel: string; readonly payload: string };
let text: string;
let hugeInitrd: string;
let free: string;
let used: string;
/** Two functions of one slot, and so of one group. */
let pair: readonly string[];
/** The host as the lab set it up. */
let healthy: string;

const TEST_HOST: LabOptions = {
  ...ONE_PROCESSOR,
  kernel: '6.1',
  devices: ['e1000e', 'e1000e,bind=host', 'e1000e,functions=2'],
};

beforeAll(async () => {
  lab = await openTestLab(TEST_HOST);
  await setUp();
});

beforeEach(async () => {
  const alive = await aliveLab(lab, TEST_HOST);
  if (alive === lab) return;
  lab = alive;
  await setUp();
});

async function setUp(): Promise<void> {
  const kernel = (await guestKernel('6.1')).vmlinuz;
  free = lab.devices[0]!.bdf;
  used = lab.devices[1]!.bdf;
  pair = lab.devices[2]!.functions;
  good = { kernel, payload: join(lab.shareDir, 'patient.elf') };
  text = join(lab.shareDir, 'text');
  hugeInitrd = join(lab.shareDir, 'initrd');
  await writeFile(good.payload, PATIENT);
  await writeFile(text, 'This is not a kernel.\n'.repeat(1000));
  await writeFile(hugeInitrd, '');
  await truncate(hugeInitrd, 200 * 1024 * 1024);
  await letEveryoneRead(lab, [process.execPath, CLI, kernel, good.payload]);
  healthy = await hostState(lab);
}

afterAll(async () => {
  await lab?.close();
});

function run(options: readonly string[], prefix: readonly string[] = [], stdin = ''): Promise<ExecResult> {
  const memory = options.some((option) => option.startsWith('--memory')) ? [] : ['--memory', '64M'];
  const command = [...prefix, process.execPath, CLI, 'run', '--timeout', '60', ...memory, ...options];
  return lab.exec(command, { timeoutMs: 120_000, stdin });
}

async function expectBadStart(bad: BadStart): Promise<void> {
  if (bad.spoil) await shell(bad.spoil);
  try {
    const before = bad.spoil || bad.besideOthers ? await hostState(lab) : healthy;
    const { code, stdout, stderr } = await run(bad.options, bad.prefix);
    expect(stderr).toMatch(/^causeway: .+\n {2}hint: .+\n$/);
    const [message, hint] = stderr.split('\n');
    expect(message).toMatch(bad.message);
    expect(hint).toMatch(bad.hint);
    expect(code).toBe(bad.exitCode);
    expect(stdout).toBe('');
    expect(await hostState(lab)).toBe(before);
  } finally {
    if (bad.repair) await shell(bad.repair);
  }
}

async function shell(script: string): Promise<string> {
  const { code, stdout, stderr } = await lab.exec(`set -e\n${script}`);
  if (code !== 0) throw new Error(`${script}: ${stderr}`);
  return stdout;
}

test('a kernel file that is missing', () =>
  expectBadStart({
    options: ['--kernel', '/nowhere/vmlinuz'],
    exitCode: CONFIG,
    message: /kernel image \/nowhere\/vmlinuz cannot be read: there is no such file/,
    hint: /./,
  }));

test('a kernel file that is no kernel', () =>
  expectBadStart({ options: ['--kernel', text], exitCode: CONFIG, message: /text is not a bzImage/, hint: /bzImage/ }));

test('an initrd that is too big for the memory', () =>
  expectBadStart({
    options: ['--kernel', good.kernel, '--initrd', hugeInitrd, '--memory', '128M'],
    exitCode: CONFIG,
    message: /initrd .*200 MiB/,
    hint: /memory/,
  }));

test.each([
  ['12parsecs', /memory: "12parsecs" is not a size/],
  ['1M', /memory: "1M" is less than 16 MiB/],
  ['-5', /memory: "-5" is not a size/],
])('memory of %s', (size, message) =>
  expectBadStart({
    options: ['--kernel', good.payload, `--memory=${size}`],
    exitCode: CONFIG,
    message,
    hint: /512M/,
  }),
);

test('a device that does not exist', () =>
  expectBadStart({
    options: ['--kernel', good.payload, '--device', free.replace('.0', '.3')],
    exitCode: DEVICE,
    message: /there is no PCI device 0000:01:00\.3/,
    hint: new RegExp(`did you mean .*${free}`),
  }));

test('a device that is still on its host driver', () =>
  expectBadStart({
    options: ['--kernel', good.payload, '--device', used],
    exitCode: DEVICE,
    message: new RegExp(`${used} is still on its host driver e1000e`),
    hint: /vfio-pci/,
  }));

test('a root port', () =>
  expectBadStart({
    options: ['--kernel', good.payload, '--device', '0000:00:10.0'],
    exitCode: DEVICE,
    message: /0000:00:10\.0 is a bridge, and bridges cannot be assigned/,
    hint: /endpoint/,
  }));

// Enforces B15.
test('a group whose other member is used by the host', () => {
  const [first, second] = pair;
  const home = `/sys/bus/pci/devices/${second}`;
  return expectBadStart({
    options: ['--kernel', good.payload, '--device', first!],
    exitCode: DEVICE,
    message: new RegExp(`${first}: IOMMU group \\d+ is also used by the host: ${second} \\(e1000e\\)`),
    hint: new RegExp(`unbind it: .*${second}`),
    spoil: `echo ${second} > ${home}/driver/unbind; echo > ${home}/driver_override; echo ${second} > /sys/bus/pci/drivers/e1000e/bind`,
    repair: `echo ${second} > ${home}/driver/unbind; echo vfio-pci > ${home}/driver_override; echo ${second} > /sys/bus/pci/drivers_probe`,
  });
});

test('no /dev/kvm', () =>
  expectBadStart({
    options: ['--kernel', good.payload],
    exitCode: HOST,
    message: /\/dev\/kvm does not exist/,
    hint: /modprobe/,
    spoil: 'mv /dev/kvm /dev/kvm-away',
    repair: 'mv /dev/kvm-away /dev/kvm',
  }));

test('no permission for /dev/kvm', () =>
  expectBadStart({
    options: ['--kernel', good.payload],
    prefix: UNPRIVILEGED,
    exitCode: HOST,
    message: /\/dev\/kvm may not be opened by this user/,
    hint: /usermod -aG kvm/,
    spoil: 'chmod 600 /dev/kvm',
  }));

test('no permission for the group', async () => {
  const node = await groupNode(free);
  await expectBadStart({
    options: ['--kernel', good.payload, '--device', free],
    prefix: ['prlimit', '--memlock=unlimited', ...UNPRIVILEGED],
    exitCode: HOST,
    message: new RegExp(`${free}: ${node} may not be opened by this user`),
    hint: new RegExp(`chown .*${node}`),
    spoil: 'chmod 666 /dev/kvm',
    repair: 'chmod 600 /dev/kvm',
  });
});

// Enforces B13.
test('a limit of locked memory that is too low; with a higher one the same user may', async () => {
  const node = await groupNode(free);
  const options = ['--kernel', good.payload, '--device', free];
  const spoil = `chmod 666 /dev/kvm; chown 65534 ${node}`;
  const repair = `chmod 600 /dev/kvm; chown 0 ${node}`;
  await expectBadStart({
    options,
    prefix: ['prlimit', '--memlock=8388608', ...UNPRIVILEGED],
    exitCode: HOST,
    message: /67108864 bytes \(64 MiB\), but RLIMIT_MEMLOCK is 8 MiB/,
    hint: /memlock/,
    spoil,
    repair,
  });
  await shell(spoil);
  const allowed = await run(options, ['prlimit', '--memlock=134217728', ...UNPRIVILEGED], 'x');
  await shell(repair);
  expect(allowed, allowed.stderr).toMatchObject({ code: 0, stdout: 'R' });
});

// Enforces B17.
test('a group that another VM holds; that one does not notice', async () => {
  const key = new Gate();
  const running = new Gate();
  let console = '';
  const first = lab.exec(
    [process.execPath, CLI, 'run', '--memory', '64M', '--kernel', good.payload, '--device', free],
    {
      stdin: typeLater(key),
      onStdout: (chunk) => {
        console += chunk;
        if (console.includes('R')) running.open();
      },
    },
  );
  try {
    await Promise.race([running.opened, first]);
    await expectBadStart({
      options: ['--kernel', good.payload, '--device', free],
      exitCode: DEVICE,
      message: new RegExp(`${free}: IOMMU group \\d+ is held by .*node.* \\(pid \\d+\\)`, 'i'),
      hint: /stop that process/,
      besideOthers: true,
    });
  } finally {
    key.open();
  }
  const stderr = 'causeway: the guest wrote 0 (0x0) to the debug-exit port\n';
  expect(await first).toEqual({ code: 0, stdout: 'R', stderr });
});

test('several faults are told at once, with the exit code of the first', async () => {
  const { code, stderr } = await run(['--kernel', '/nowhere/vmlinuz', '--device', used, '--device', '0000:42:00.0']);
  expect(code).toBe(CONFIG);
  expect(stderr).toMatch(/cannot be read[\s\S]*still on its host driver[\s\S]*no PCI device 0000:42:00\.0/);
  expect(await hostState(lab)).toBe(healthy);
});

async function groupNode(bdf: string): Promise<string> {
  const group = await shell(`basename $(readlink /sys/bus/pci/devices/${bdf}/iommu_group)`);
  return `/dev/vfio/${group.trim()}`;
}
