/** Grants; the numbers in brackets are those of the conformance assertions. */
import { describe, expect, test } from 'vitest';
import { FakeKernel } from '../../native/fake/fake-kernel.ts';
import type { HostBdf } from '../../native/types.ts';
import type { CausewayError } from '../../vmm/base/errors.ts';
import { configFixture } from '../fixtures/config-text.ts';
import { e1000e, everything } from '../fixtures/devices.ts';
import { TestMachine } from '../fixtures/test-machine.ts';
import { guardedRanges } from './grant-danger.ts';
import { formatGrant, parseGrant, parseGrants } from './grants.ts';
import { grantsFor, parsePermitFile, readPermitFile } from './permit-file.ts';

const GAP = 0xb0;
const grant = (line: string) => parseGrants([line], 'test')[0]!;

/** An e1000e with something at 0xb0, which is in no capability. */
function machine(): TestMachine {
  const made = new TestMachine([e1000e()]);
  made.boot();
  made.device.config.hardware.set([0x78, 0x56, 0x34, 0x12], GAP);
  return made;
}

function failure(body: () => unknown): CausewayError {
  try {
    body();
  } catch (error) {
    return error as CausewayError;
  }
  throw new Error('it did not fail');
}

describe('a line', () => {
  test.each(['40 000000ff 0000000f', '0x40 0xff 0xf', '  40\tFF\tF '])('%j', (line) => {
    expect(parseGrant(line)).toEqual({ offset: 0x40, readBits: 0xff, writeBits: 0xf });
  });

  test('is printed as it is read', () => {
    for (const line of ['40 000000ff 0000000f', '800 ffffffff 00000000', '44 00000000 00000001 wo']) {
      expect(formatGrant(grant(line))).toBe(line);
    }
  });

  test.each([
    ['40 ff', /is not <offset>/],
    ['40 ff 0f 1', /only "wo"/],
    ['40 ff 0f wo x', /is not <offset>/],
    ['42 ff 0f', /not aligned/],
    ['1000 ff 0f', /outside/],
    ['40 1ffffffff 0', /no hexadecimal number of up to 32 bits/],
    ['40 -1 0', /no hexadecimal/],
    ['40 0f ff', /0xf0 may be written and not read/],
  ])('%j is malformed', (line, message) => {
    expect(parseGrant(line)).toMatch(message);
  });
});

describe('a running guest', () => {
  // Enforces C30.
  test('sees the bits granted for reading and writes those granted for writing', () => {
    const m = machine();
    m.fn.setGrants([grant(`${GAP.toString(16)} 000000ff 0000000f`)]);
    expect(m.readConfig(GAP, 4)).toBe(0x78);
    expect(m.readConfig(GAP + 1, 1)).toBe(0);
    m.fn.writeConfig(GAP, 4, 0xffff_ffff);
    expect([...m.device.config.hardware.subarray(GAP, GAP + 4)]).toEqual([0x7f, 0x56, 0x34, 0x12]);
    m.fn.writeConfig(GAP, 1, 0);
    expect(m.device.config.hardware[GAP]).toBe(0x70);
  });

  // Enforces C31.
  test('has it with the next access, and no more after its withdrawal', () => {
    const m = machine();
    expect(m.readConfig(GAP, 4)).toBe(0);
    m.fn.setGrants([grant('b0 ffffffff ffffffff')]);
    expect(m.readConfig(GAP, 4)).toBe(0x1234_5678);
    m.fn.setGrants([]);
    expect(m.readConfig(GAP, 4)).toBe(0);
    m.fn.writeConfig(GAP, 4, 0xdead_beef);
    expect([...m.device.config.hardware.subarray(GAP, GAP + 4)]).toEqual([0x78, 0x56, 0x34, 0x12]);
  });

  // Enforces C31.
  test('keeps what it has when new grants are faulty', () => {
    const m = machine();
    const before = [grant('b0 ff 0')];
    m.fn.setGrants(before);
    for (const faulty of [
      { offset: 0xb1, readBits: 1, writeBits: 0 },
      { offset: 0xb0, readBits: 0, writeBits: 1 },
      { offset: 0xb0, readBits: 0.5, writeBits: 0 },
    ]) {
      expect(failure(() => m.fn.setGrants([grant('b4 ff 0'), faulty])).code).toBe('CONFIG_INVALID');
    }
    expect(m.fn.grants).toEqual(before);
    expect(m.readConfig(GAP, 1)).toBe(0x78);
  });

  test('keeps it over its own reset and over a reboot', () => {
    const m = machine();
    m.fn.setGrants([grant('b0 ffff 0')]);
    m.fn.powerOff();
    m.newVm();
    m.boot();
    expect(m.readConfig(GAP, 4)).toBe(0x5678);
  });

  test('without read bits a grant is write only', () => {
    const m = machine();
    m.fn.setGrants([grant('b0 0 ff wo')]);
    m.fn.writeConfig(GAP, 1, 0xaa);
    expect(m.readConfig(GAP, 4)).toBe(0);
    expect(m.device.config.hardware[GAP]).toBe(0xaa);
  });
});

test('a grant of vital product data lets the guest write it', () => {
  const config = configFixture('edu');
  config.set([0x05, 0x50], 0x40);
  config.set([0x03, 0x00], 0x50);
  const m = new TestMachine([{ ...e1000e(), config, bars: [] }]);
  m.boot();
  m.fn.setGrants([grant('50 ffff0000 ffff0000')]);
  const before = m.warnings.length;
  m.kernel.journalBook.clear();
  m.fn.writeConfig(0x52, 2, 0x8010);
  expect(m.kernel.calls('pwrite')).toHaveLength(1);
  expect(m.warnings).toHaveLength(before);
});

describe('what guards the host is refused without force', () => {
  // Enforces C33.
  test.each([
    ['header', 0x04],
    ['a BAR', 0x10],
    ['power state', 0xcc],
    ['MSI', 0xd4],
    ['MSI-X', 0xa0],
    ['PCIe device control', 0xe8],
  ])('%s', (_name, offset) => {
    const m = machine();
    const line = { offset, readBits: 0xffff_ffff, writeBits: 0xffff_ffff };
    const error = failure(() => m.fn.setGrants([line]));
    expect(error.message).toMatch(/refused, it opens/);
    expect(error.hint).toContain('force');
    expect(m.fn.grants).toEqual([]);
    m.fn.setGrants([line], { force: true });
    expect(m.fn.grants).toEqual([line]);
  });

  // Enforces C33.
  test('SR-IOV, and DOE though VFIO hides it from the chain', () => {
    const config = configFixture('igb');
    // A chain as VFIO shows it: nothing leads to the mailbox.
    config.set([0x2e, 0x00, 0x01, 0x00], 0x400);
    const names = guardedRanges(config).map(({ start, why }) => `${start.toString(16)} ${why}`);
    expect(names).toContainEqual(expect.stringMatching(/SR-IOV/));
    expect(names).toContainEqual(expect.stringMatching(/^400 a mailbox/));
  });

  test('beyond the end there is nothing to grant', () => {
    const m = new TestMachine([{ ...e1000e(), config: configFixture('rtl8139'), bars: [] }]);
    expect(failure(() => m.fn.setGrants([grant('100 ff 0')], { force: true })).message).toContain('256 bytes');
  });

  test('the header of a capability links the chain; its body does not', () => {
    const m = new TestMachine([everything()]);
    expect(failure(() => m.fn.setGrants([grant('80 ffffffff 0')])).message).toContain('links the chain');
    m.fn.setGrants([grant('80 ffff0000 0')]);
  });
});

const FILE = '/etc/causeway/config-permit';
const TEXT = `# OHCI-1394
[1033:00e0]
40 00000001 00000001
[8086:10d3]
b0 000000ff 0000000f   # a comment
[8086:10d3:8086:0001]
b4 ff 0
[0000:03:00.0]
b8 ffffffff 0
`;

describe('the file', () => {
  const identity = {
    bdf: '0000:03:00.0' as HostBdf,
    vendor: 0x8086,
    device: 0x10d3,
    subsystemVendor: 0x8086,
    subsystemDevice: 0,
  };

  test('gives a device what stands under its address and its ids', () => {
    const file = parsePermitFile(TEXT, FILE);
    expect(grantsFor(file, identity).map(formatGrant)).toEqual(['b0 000000ff 0000000f', 'b8 ffffffff 00000000']);
    expect(grantsFor(file, { ...identity, subsystemDevice: 1 })).toHaveLength(3);
    expect(grantsFor(file, { ...identity, bdf: '0000:04:00.0' as HostBdf })).toHaveLength(1);
  });

  // Enforces C31.
  test('is rejected whole, every bad line with its number', () => {
    const error = failure(() => parsePermitFile(`40 1 1\n${TEXT}[eth0]\n40 zz 0\n`, FILE));
    expect(error.issues?.map(({ path }) => path)).toEqual([`${FILE}:1`, `${FILE}:11`, `${FILE}:12`]);
  });

  // Enforces C32.
  test.each([
    ['belongs to another', 1000, 0o644, /belongs to user 1000/],
    ['is writable by its group', 0, 0o664, /mode 0664/],
    ['is writable by everyone', 0, 0o646, /mode 0646/],
  ])('that %s is refused', (_why, uid, mode, message) => {
    const kernel = new FakeKernel();
    kernel.files.addFile(FILE, TEXT);
    kernel.files.setOwner(FILE, uid, mode);
    expect(failure(() => readPermitFile(kernel, FILE)).message).toMatch(message);
  });

  test('that is not there says so', () => {
    expect(failure(() => readPermitFile(new FakeKernel(), FILE)).message).toContain('cannot be read');
  });
});

describe('a session', () => {
  test('opens what the file grants before the guest starts', () => {
    const m = new TestMachine([e1000e()], (kernel) => kernel.files.addFile(FILE, TEXT), { configPermit: FILE });
    expect(m.fn.grants.map(({ offset }) => offset)).toEqual([0xb0, 0xb8]);
  });

  test('takes lines from root only', () => {
    const request = { configPermit: ['b0 ff 0'] };
    const as = (uid: number) => (kernel: FakeKernel) =>
      kernel.files.addFile('/proc/self/status', `Uid:\t${uid}\t${uid}\t${uid}\t${uid}\n`);
    expect(new TestMachine([e1000e()], as(0), request).fn.grants).toHaveLength(1);
    expect(failure(() => new TestMachine([e1000e()], as(1000), request)).message).toContain('only root');
  });

  test('gives everything back when a grant is refused', () => {
    let kernel: FakeKernel | undefined;
    const error = failure(
      () =>
        new TestMachine(
          [e1000e()],
          (made) => {
            kernel = made;
            made.files.addFile(FILE, '[8086:10d3]\n04 ffff ffff\n');
          },
          { configPermit: FILE },
        ),
    );
    expect(error.code).toBe('CONFIG_INVALID');
    expect(kernel!.openFds().filter(({ label }) => label.startsWith('vfio-'))).toEqual([]);
  });
});
