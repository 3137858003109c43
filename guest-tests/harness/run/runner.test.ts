/** The harness under everything that goes wrong: each has its verdict, the device is given back, the next test runs. */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { CausewayError } from '../../../vmm/base/errors.ts';
import { fakeGuests, type GuestScript } from '../fakes/fake-guests.ts';
import { BDF, FOLDER, spec, TestBench, verdicts } from '../fakes/test-bench.ts';
import type { RunRecord } from '../model.ts';
import { isClass } from '../needs.ts';

// Against hangs only: what waits for disks may take long on a busy machine.
vi.setConfig({ testTimeout: 60_000 });

let bench: TestBench;
beforeEach(() => {
  bench = new TestBench();
});
afterEach(() => {
  // However a test ends.
  expect(bench.driver, 'the device is back on its host driver').toBe('e1000e');
  expect(bench.kernel.openFds()).toEqual([]);
  bench[Symbol.dispose]();
});

const NEXT = spec('next', async ({ boot }) => void (await boot()).run('true'));

function scripted(...scripts: GuestScript[]): { guests: ReturnType<typeof fakeGuests> } {
  return { guests: fakeGuests([...scripts, {}]) };
}

function boots(name = 'first', options = {}) {
  return spec(name, async ({ boot }) => void (await (await boot()).run('work')), options);
}

describe('verdicts of the test itself', () => {
  test('pass, fail, skip, needs, expected failures', async () => {
    const run = await bench.run([
      spec('passes', () => {}),
      spec('fails', () => {
        throw new Error('registers differ');
      }),
      spec('skips', ({ skip }) => skip('no cable')),
      spec('needs', () => {}, { needs: isClass('nvme') }),
      spec('known', () => Promise.reject(new Error('as ever')), { expectFailure: 'erratum 7' }),
      spec('mended', () => {}, { expectFailure: 'erratum 8' }),
    ]);
    expect(verdicts(run)).toEqual([
      'PASS',
      'FAIL: registers differ',
      'SKIP: no cable',
      'SKIP: the device is of class 020000, not 010802 (nvme)',
      'XFAIL: erratum 7 (fail: as ever)',
      'XPASS: known to fail: erratum 8',
    ]);
    expect(run.exitCode).toBe(1);
    expect(run.tests[1]!.attempts[0]!.reason).toContain('runner.test.ts');
  });

  test('steps have results of their own, and the test goes on after one that fails', async () => {
    const run = await bench.run([
      spec('steps', async ({ step, skip }) => {
        await step('one', () => {});
        await step('two', () => {
          throw new Error('two is odd');
        });
        await step('three', () => skip('not here'));
      }),
    ]);
    expect(verdicts(run)).toEqual(['FAIL: two: two is odd']);
    expect(run.tests[0]!.attempts[0]!.subtests.map(({ name, verdict }) => `${verdict} ${name}`)).toEqual([
      'PASS one',
      'FAIL two',
      'SKIP three',
    ]);
  });

  test('what passes when it is repeated is flaky, and both tries are kept', async () => {
    let calls = 0;
    const run = await bench.run(
      [
        spec('moody', () => {
          if (++calls === 1) throw new Error('not today');
        }),
        spec('broken', () => Promise.reject(new Error('never'))),
      ],
      { retries: 1 },
    );
    expect(verdicts(run)).toEqual(['FLAKY: FAIL first, PASS at try 2: not today', 'FAIL: in 2 tries: never']);
    expect(run.tests.map(({ attempts }) => attempts.map(({ verdict }) => verdict))).toEqual([
      ['FAIL', 'PASS'],
      ['FAIL', 'FAIL'],
    ]);
  });

  test('without a device, tests that need one are skipped and the others run', async () => {
    const run = await bench.run([spec('alone', () => {}, { device: false }), spec('with', () => {})], { devices: [] });
    expect(verdicts(run)).toEqual(['PASS', 'SKIP: no device was given (--device, --match, --lab)']);
  });

  test('measurements are summarised', async () => {
    const values = Array.from({ length: 100 }, (_, i) => i + 1);
    const run = await bench.run([
      spec('fast', ({ measure }) => measure('latency', values, { unit: 'us', better: 'lower' })),
    ]);
    const [metric] = run.tests[0]!.attempts[0]!.metrics;
    expect(metric).toMatchObject({
      name: 'latency',
      unit: 'us',
      count: 100,
      p50: 50,
      p99: 99,
      max: 100,
      better: 'lower',
    });
    expect(metric!.histogram!.reduce((sum, { count }) => sum + count, 0)).toBe(100);
  });
});

describe('guests in trouble', () => {
  test('an oops: CRASH with its fingerprint, console and dump kept', async () => {
    const oops = {
      kind: 'crash',
      what: 'NULL pointer dereference',
      fingerprint: 'NULL pointer dereference in e1000_probe < local_pci_probe',
      text: 'BUG: kernel NULL pointer dereference, address: 0000000000000008\n',
    } as const;
    const run = await bench.run(
      [boots(), NEXT],
      scripted({
        run: (_, guest) => {
          guest.getIntoTrouble(oops);
          return new Promise(() => {});
        },
      }),
    );
    expect(verdicts(run)).toEqual([`CRASH: ${oops.fingerprint}`, 'PASS']);
    expect(run.exitCode).toBe(255);
    const [attempt] = run.tests[0]!.attempts;
    expect(attempt!.crash).toMatchObject({ fingerprint: oops.fingerprint });
    expect(attempt!.artifacts.map((file) => file.split('/').at(-1))).toEqual([
      'console-1.log',
      'crash-1.console.log',
      'crash.txt',
    ]);
    expect(bench.read(attempt!.artifacts[0]!)).toBe(oops.text);
  });

  test('an oops under a test that passes is still a crash', async () => {
    const trouble = { kind: 'crash', what: 'oops', fingerprint: 'oops in foo', text: 'Oops: 0000\n' } as const;
    const quiet = {
      run: (_: string, guest: { getIntoTrouble(t: typeof trouble): void }) => {
        guest.getIntoTrouble(trouble);
        return { code: 0, stdout: '', stderr: '' };
      },
    };
    const run = await bench.run([boots(), boots('meant', { tolerates: ['guest-crash'] })], scripted(quiet, quiet));
    expect(verdicts(run)).toEqual(['CRASH: oops in foo', 'PASS']);
  });

  test('an oops whose report was not complete when the test failed', async () => {
    const killed = {
      run: (_: string, guest: { print(text: string): void }) => {
        guest.print('BUG: kernel NULL pointer dereference, address: 0000000000000000\n');
        return { code: 137, stdout: '', stderr: 'Killed' };
      },
    };
    const insmod = spec('first', async ({ boot }) => void (await (await boot()).must('insmod')));
    expect(verdicts(await bench.run([insmod], scripted(killed)))).toEqual(['CRASH: NULL pointer dereference']);
  });

  test('a hang: SysRq, NMI, then HANG', async () => {
    const made = scripted({ run: () => new Promise(() => {}) });
    const run = await bench.run([boots('first', { timeoutMs: 20 }), NEXT], made);
    expect(verdicts(run)).toEqual(['HANG: the test took longer than 0.02 s, and guest 1 does not answer', 'PASS']);
    expect(made.guests.made[0]!.asked).toEqual(['work', 'SysRq w', 'NMI']);
    expect(made.guests.made[0]!.isEnded).toBe(true);
    expect(run.exitCode).toBe(124);
  });

  test('one that is late and answers is a TIMEOUT, and gets no NMI', async () => {
    const made = scripted({
      run: () => new Promise(() => {}),
      sysrq: (_, guest) => guest.print('sysrq: Show Blocked State'),
    });
    const run = await bench.run([boots('first', { timeoutMs: 20 }), NEXT], made);
    expect(verdicts(run)).toEqual(['TIMEOUT: the test took longer than 0.02 s', 'PASS']);
    expect(made.guests.made[0]!.asked).toEqual(['work', 'SysRq w']);
  });

  test('silence is a timeout of its own', async () => {
    const run = await bench.run([boots('first', { silenceMs: 20 })], scripted({ run: () => new Promise(() => {}) }));
    expect(verdicts(run)[0]).toMatch(/^HANG: nothing was heard for 0.02 s/);
  });

  test('one that never boots', async () => {
    const run = await bench.run(
      [boots(), NEXT],
      scripted({
        boot: () => Promise.reject(new CausewayError('TIMEOUT', "the guest's agent was not ready after 10 ms")),
      }),
    );
    expect(verdicts(run)).toEqual(["TIMEOUT: the guest's agent was not ready after 10 ms", 'PASS']);
  });

  test('one that still boots when its test is over is ended as well', async () => {
    const made = scripted({ boot: (guest) => guest.run('').then(() => {}), run: () => new Promise(() => {}) });
    const run = await bench.run([boots('first', { timeoutMs: 20 }), NEXT], made);
    expect(verdicts(run)[0]).toBe('TIMEOUT: the test took longer than 0.02 s: guest 1 was booting');
    expect(made.guests.made.map(({ isEnded }) => isEnded)).toEqual([true, true]);
  });

  test('a flood on the console fills neither disk nor memory', async () => {
    const chunk = 'x'.repeat(2 ** 20);
    const flood = {
      run: (_: string, guest: { print(text: string): void }) => {
        for (let i = 0; i < 12; i++) guest.print(chunk);
        guest.print('the end');
        return { code: 0, stdout: '', stderr: '' };
      },
    };
    const run = await bench.run([boots(), NEXT], scripted(flood));
    expect(verdicts(run)).toEqual(['PASS', 'PASS']);
    const file = run.tests[0]!.attempts[0]!.artifacts[0]!;
    expect(statSync(join(bench.folder, 'run', file)).size).toBeLessThan(7 * 2 ** 20);
    expect(bench.read(file)).toMatch(/bytes left out[\s\S]*the end$/);
  });

  test('a torn result line cannot pass', async () => {
    const torn = 'TAP version 13\n1..3\nok 1 - a\nok [   12.345678] e1000e: link up\n2 - b\nok 3 - c\n';
    const run = await bench.run(
      [spec('foreign', async ({ boot, foreign }) => void (await foreign(await boot(), './suite'))), NEXT],
      scripted({ run: () => ({ code: 0, stdout: torn, stderr: '' }) }),
    );
    expect(verdicts(run)[0]).toMatch(/^FAIL: .*no result was seen/);
    expect(verdicts(run)[1]).toBe('PASS');
  });

  test('a VM that does not end is the fault of the infrastructure', async () => {
    const run = await bench.run(
      [boots(), NEXT],
      scripted({ kill: () => Promise.reject(new Error('stuck in KVM_RUN')) }),
    );
    expect(verdicts(run)[0]).toMatch(/^INFRA: guest 1 did not end: Error: stuck in KVM_RUN/);
  });
});

describe('devices in trouble', () => {
  const dirty = (body: () => void) => spec('first', body);

  test('one that vanishes: INFRA, and the next test gets it back by a reset', async () => {
    bench.kernel.files.addCommand(`${FOLDER}/reset`, () => bench.repair());
    const run = await bench.run([
      dirty(() => {
        bench.hardware.fill(0xff);
        throw new Error('read 0xffffffff');
      }),
      NEXT,
    ]);
    expect(verdicts(run)[0]).toMatch(/^INFRA: device answers: .*; the test itself: fail, read 0xffffffff/);
    expect(verdicts(run)[1]).toBe('PASS');
    expect(run.exitCode).toBe(3);
  });

  test('one that leaves the bus: INFRA, and the next test finds it again', async () => {
    const { files } = bench.kernel;
    const target = files.readLink(FOLDER);
    files.addCommand('/sys/bus/pci/rescan', () => files.addLink(FOLDER, target));
    const run = await bench.run([dirty(() => files.remove(FOLDER)), NEXT]);
    expect(verdicts(run)).toEqual([expect.stringMatching(/^INFRA: device answers: .*or is gone/), 'PASS']);
    expect(run.devices[0]!.quarantine).toBeUndefined();
  });

  test('one that stays away: the tests after it are told as not run', async () => {
    const run = await bench.run([dirty(() => void bench.hardware.fill(0xff)), NEXT, spec('last', () => {})]);
    expect(run.tests.map(({ verdict }) => verdict)).toEqual(['INFRA', 'SKIP', 'SKIP']);
    expect(run.tests[1]!.reason).toContain('in quarantine');
    expect(run.devices[0]!.quarantine).toContain('device answers');
  });

  test('a reset that fails: INFRA, and tried again', async () => {
    const run = await bench.run([
      dirty(() => {
        bench.kernel.failNext('vfioDeviceReset', 'EIO');
        bench.kernel.failNext('vfioHotReset', 'EIO');
      }),
      NEXT,
    ]);
    expect(verdicts(run)).toEqual([expect.stringMatching(/^INFRA: reset: .*hot reset failed \(EIO\)/), 'PASS']);
    expect(run.devices[0]!.resets.some(({ ok }) => !ok)).toBe(true);
  });

  test('a test that leaves it dirty', async () => {
    bench.kernel.files.addCommand(`${FOLDER}/reset`, () => bench.repair());
    const run = await bench.run([dirty(() => void bench.hardware.set([0x55], 0x0c)), NEXT]);
    expect(verdicts(run)).toEqual([expect.stringMatching(/^INFRA: config space as before: 0x0c: /), 'PASS']);
  });

  test('a test that leaves it with the host driver, or open', async () => {
    let fds: (() => void)[] = [];
    const run = await bench
      .run([
        spec('detached', ({ device }) => {
          device.detach();
          expect(device.driver()).toBe('e1000e');
        }),
        dirty(() => {
          const fd = bench.kernel.open(`/dev/vfio/${12}`, 'rw');
          bench.kernel.files.addLink('/proc/self/fd/99', '/dev/vfio/12');
          fds = [() => bench.kernel.close(fd), () => bench.kernel.files.remove('/proc/self/fd/99')];
        }),
        spec('tidies', () => {}),
      ])
      .finally(() => {
        for (const close of fds) close();
      });
    expect(verdicts(run)[0]).toBe('PASS');
    expect(verdicts(run)[1]).toMatch(/^INFRA: device given back: \/dev\/vfio\/12 is open/);
  });

  test('IOMMU faults, AER counters and the host kernel accuse; what a test provokes does not', async () => {
    const fault = 'DMAR: [DMA Write NO_PASID] Request device [03:00.0] fault addr 0x10000000 [fault reason 0x05]';
    const aer = (count: number) =>
      bench.kernel.files.addFile(`${FOLDER}/aer_dev_correctable`, `RxErr ${count}\nTOTAL_ERR_COR ${count}\n`);
    aer(2);
    const run = await bench.run([
      spec('wild', () => void bench.kernelLog.push(fault)),
      spec('wild on purpose', () => void bench.kernelLog.push(fault), { tolerates: ['iommu-faults'] }),
      spec('noisy', () => aer(5)),
      spec('other device', () => void bench.kernelLog.push(fault.replace('03:00.0', '07:00.0'))),
      spec('host', () => void bench.kernelLog.push('BUG: unable to handle page fault for address: ffff')),
    ]);
    expect(verdicts(run)).toEqual([
      `INFRA: no IOMMU faults: ${fault}`,
      'PASS',
      'INFRA: no AER errors: device correctable RxErr +3',
      'PASS',
      expect.stringMatching(/^INFRA: host kernel is well/),
    ]);
  });

  test('errors of device and host during a test are not the test', async () => {
    const refuses = () => Promise.reject(new CausewayError('MEMLOCK_TOO_LOW', 'the limit is 64 KiB'));
    const run = await bench.run([boots(), NEXT], scripted({ boot: refuses }));
    expect(verdicts(run)).toEqual(['INFRA: the limit is 64 KiB', 'PASS']);
  });
});

describe('the end of a run', () => {
  test('its time is up: the test that runs is a TIMEOUT, the rest is not run', async () => {
    const run = await bench.run([boots(), NEXT], {
      ...scripted({ run: () => new Promise(() => {}) }),
      runTimeoutMs: 1000,
    });
    expect(verdicts(run)).toEqual(["TIMEOUT: the run's time is up (1 s)"]);
    expect(run.exitCode).toBe(124);
    expect(run.devices[0]!.givenBack).toBe(true);
  });

  test('a signal ends it in order', async () => {
    const abort = new AbortController();
    const run = await bench.run([spec('first', () => abort.abort('SIGINT')), NEXT], { signal: abort.signal });
    expect(run.aborted).toBe('SIGINT');
    expect(run.exitCode).toBe(130);
  });

  test('resumed: results are kept, what killed the run is told, the rest is run', async () => {
    const tests = [spec('done', () => {}), spec('killer', () => {}), NEXT];
    const first: RunRecord = await bench.run([tests[0]!]);
    const { readJournal } = await import('./run-journal.ts');
    const { appendFileSync } = await import('node:fs');
    const journal = join(bench.folder, 'run/journal.jsonl');
    appendFileSync(
      journal,
      `${JSON.stringify({ type: 'attempted', id: 'suite/killer @ 8086:10d3', attempt: 1 })}\n{"type":"resu`,
    );
    const run = await bench.run(tests, { past: readJournal(journal) });
    expect(run.tests[0]).toEqual(first.tests[0]);
    expect(run.tests.map(({ verdict }) => verdict)).toEqual(['PASS', 'INFRA', 'PASS']);
    expect(run.tests[1]!.reason).toContain('the harness itself died during this test (try 1)');
    expect(readJournal(journal)).toMatchObject({ hasEnded: true, unfinished: new Map() });
  });

  test('one device, one run', () => {
    const device = bench.device();
    try {
      expect(() => bench.device()).toThrowError(/is under test by process/);
    } finally {
      device.release();
    }
    expect(existsSync(join(bench.folder, 'leases', BDF))).toBe(false);
  });
});
