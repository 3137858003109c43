import { describe, expect, test } from 'vitest';
import type { FakeKernel } from '../../native/fake/fake-kernel.ts';
import { GIB, MIB } from '../../vmm/base/bits.ts';
import type { CausewayError } from '../../vmm/base/errors.ts';
import type { WcModes } from '../../vmm/config/model.ts';
import type { BarReport } from '../../vmm/pci/function.ts';
import { everything } from '../fixtures/devices.ts';
import { TestMachine } from '../fixtures/test-machine.ts';
import { largestPage } from './write-combining.ts';

const PAT_LIST = '/sys/kernel/debug/x86/pat_memtype_list';
const BAR2 = 0x40_0020_0000;

/** Second-level paging on, as on hardware. */
function paged(kernel: FakeKernel): void {
  kernel.files.addFile('/sys/module/kvm_intel/parameters/ept', 'Y\n');
}

function hidePat(kernel: FakeKernel): void {
  kernel.kvm.supportedCpuid = kernel.kvm.supportedCpuid.map((entry) =>
    entry.function === 1 ? { ...entry, edx: entry.edx & ~(1 << 16) } : entry,
  );
}

function bars(wc?: WcModes, prepare: (kernel: FakeKernel) => void = paged): BarReport[] {
  const machine = new TestMachine([everything()], prepare, wc ? { wc } : {});
  machine.boot();
  machine.command(0x3);
  return [...machine.fn.report().bars];
}

const all = (mode: WcModes['default']): WcModes => ({ default: mode, bars: {} });
const bar2 = (found: readonly BarReport[]): BarReport => found.find(({ index }) => index === 2)!;

function failure(body: () => unknown): CausewayError {
  try {
    body();
  } catch (error) {
    return error as CausewayError;
  }
  throw new Error('it did not fail');
}

describe('the report', () => {
  // Enforces H76.
  test('prefetchable and 64-bit bits are those of the hardware', () => {
    expect(bar2(bars())).toMatchObject({ prefetchable: true, is64: true, wc: { guestWcAdvertised: true } });
    expect(bars()[0]).toMatchObject({ prefetchable: false, is64: false, wc: { guestWcAdvertised: false } });
  });

  // Enforces P33.
  test('a direct area gives it, a trapped one does not, ports have none', () => {
    const found = bars();
    expect(bar2(found).wc).toEqual({
      mode: 'auto',
      guestWc: 'yes',
      areas: [{ offset: 0, sizeBytes: 4 * MIB, guestWc: true }],
      guestWcAdvertised: true,
      hostType: 'uc- (assumed)',
      evidence: [
        '/sys/module/kvm_intel/parameters/ept is Y',
        "the guest's CPUID has PAT",
        `${PAT_LIST} cannot be read`,
      ],
      largestPageBytes: expect.any(Number),
    });
    expect(found[0]!.wc!.areas.find(({ guestWc }) => !guestWc)).toMatchObject({ why: 'trapped' });
    expect(found[0]!.wc!.guestWc).toBe('yes');
    expect(found.find(({ kind }) => kind === 'port')!.wc).toBeUndefined();
  });

  // Enforces H82.
  test.each([
    ['no second-level paging', () => {}, 'no (no-tdp)'],
    [
      'PAT hidden from the guest',
      (kernel: FakeKernel) => {
        paged(kernel);
        hidePat(kernel);
      },
      'no (pat-hidden)',
    ],
  ])('%s', (_name, prepare, expected) => {
    expect(bar2(bars(undefined, prepare)).wc!.guestWc).toBe(expected);
  });

  // Enforces H80.
  test('the type of the own mapping is claimed only when the list of memory types shows it', () => {
    const listed = (lines: string) =>
      bar2(
        bars(all('host'), (kernel) => {
          paged(kernel);
          kernel.files.addFile(PAT_LIST, `PAT memtype list:\n${lines}`);
        }),
      ).wc!;
    const line = (type: string, start = BAR2, size = 4 * MIB): string =>
      `PAT: [mem 0x${start.toString(16).padStart(16, '0')}-0x${(start + size).toString(16).padStart(16, '0')}] ${type}\n`;
    expect(listed(line('uncached-minus'))).toMatchObject({
      hostType: 'uncached-minus',
      hostWc: 'not available on this kernel',
    });
    expect(listed(line('write-combining'))).toMatchObject({ hostType: 'write-combining', hostWc: 'proven' });
    expect(listed(line('write-combining') + line('uncached-minus', BAR2, 4096))).toMatchObject({
      hostType: 'uc- (assumed)',
      hostWc: 'not available on this kernel',
    });
    expect(listed(line('write-combining', BAR2 + 4 * MIB))).toMatchObject({ hostType: 'uc- (assumed)' });
  });

  test('a BAR that the kernel revoked says that it is trapped', () => {
    const machine = new TestMachine([everything()], paged);
    machine.boot();
    machine.command(0x3);
    machine.fn.trapAfterRevocation();
    expect(bar2([...machine.fn.report().bars]).wc!.guestWc).toBe('no (revoked)');
    machine.command(0);
    machine.command(0x3);
    expect(bar2([...machine.fn.report().bars]).wc!.guestWc).toBe('yes');
  });
});

describe('modes', () => {
  // Enforces H78.
  test('deny traps the BAR, whose registers still work', () => {
    const machine = new TestMachine([everything()], paged, { wc: { default: 'auto', bars: { 2: 'deny' } } });
    machine.boot();
    machine.command(0x3);
    const report = bar2([...machine.fn.report().bars]);
    expect(report.areas).toEqual([{ offset: 0, sizeBytes: 4 * MIB, mode: 'trap', why: 'policy' }]);
    expect(report.wc).toMatchObject({ mode: 'deny', guestWc: 'no (policy)' });
    const at = machine.barAddress(2);
    expect(machine.vm.barSlots.some(({ gpa }) => gpa === at)).toBe(false);
    machine.vm.write(at + 0x100, 4, 0x1234_5678);
    expect(machine.vm.read(at + 0x100, 4)).toBe(0x1234_5678);
    expect(machine.vm.barSlots.length, 'the others stay direct').toBeGreaterThan(0);
  });

  test('require starts where every prefetchable BAR has it', () => {
    expect(bar2(bars(all('require'))).wc!.guestWc).toBe('yes');
  });

  // Enforces H79.
  test('require fails the start with the reason of each BAR', () => {
    let kernel: FakeKernel | undefined;
    const error = failure(
      () =>
        new TestMachine(
          [everything()],
          (made) => {
            kernel = made;
          },
          { wc: all('require') },
        ),
    );
    expect(error.code).toBe('DEVICE_UNSUPPORTED');
    expect(error.issues).toEqual([{ path: 'BAR2', message: expect.stringContaining('no (no-tdp)') }]);
    expect(error.message).toContain('no parameter ept or npt');
    expect(kernel!.openFds().filter(({ label }) => label.startsWith('vfio-'))).toEqual([]);
  });

  // Enforces H79.
  test('require of one BAR holds whether or not it is prefetchable; one that is not there fails', () => {
    const error = failure(() => bars({ default: 'auto', bars: { 0: 'require', 5: 'require' } }, () => {}));
    expect(error.issues?.map(({ path, message }) => [path, message.slice(0, 31)])).toEqual([
      ['BAR0', 'guest write-combining: no (no-t'],
      ['BAR5', 'the device has no such BAR'],
    ]);
  });

  test('host is told to be not available, once, and changes nothing', () => {
    const machine = new TestMachine([everything()], paged, { wc: all('host') });
    expect(machine.warnings.filter((warning) => /BAR2.*not available on this kernel/.test(warning))).toHaveLength(1);
    machine.boot();
    machine.command(0x3);
    expect(bar2([...machine.fn.report().bars]).wc).toMatchObject({
      guestWc: 'yes',
      hostWc: 'not available on this kernel',
    });
  });

  // Enforces H81.
  test('no mode opens resourceN_wc: what it answers cannot matter', () => {
    for (const mode of ['auto', 'require', 'deny', 'host'] as const) {
      const machine = new TestMachine([everything()], paged, { wc: all(mode) });
      const opened = machine.kernel.journal.filter(({ call }) => call === 'open').map(({ args }) => String(args[0]));
      expect(opened.filter((path) => path.includes('resource'))).toEqual([]);
    }
  });
});

test('the largest page is that to which all three addresses agree', () => {
  expect(largestPage(GIB, 5 * GIB, 7 * GIB, GIB)).toBe(GIB);
  expect(largestPage(GIB, 5 * GIB, 7 * GIB, GIB - 4096)).toBe(2 * MIB);
  expect(largestPage(GIB, 5 * GIB + 4096, 7 * GIB, GIB)).toBe(4096);
  expect(largestPage(GIB + MIB, 5 * GIB + MIB, 7 * GIB + MIB, 4 * MIB)).toBe(2 * MIB);
  expect(largestPage(GIB, 5 * GIB, 7 * GIB, MIB)).toBe(4096);
});
