import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { CrashWatch, functionsOf, type Trouble } from './crash-watch.ts';

let troubles: Trouble[];
let warnings: Trouble[];
let watch: CrashWatch;

beforeEach(() => {
  vi.useFakeTimers();
  troubles = [];
  warnings = [];
  watch = new CrashWatch({
    onTrouble: (trouble) => troubles.push(trouble),
    onWarning: (warning) => warnings.push(warning),
  });
});

afterEach(() => {
  watch[Symbol.dispose]();
  vi.useRealTimers();
});

function read(text: string): void {
  for (const line of text.trim().split('\n')) watch.line(line);
}

// As Linux 6.1 prints it.
const OOPS = `
[   12.345678] e1000e: eth0 NIC Link is Up
[   12.345679] BUG: kernel NULL pointer dereference, address: 0000000000000000
[   12.345680] #PF: supervisor write access in kernel mode
[   12.345681] #PF: error_code(0x0002) - not-present page
[   12.345682] PGD 0 P4D 0
[   12.345683] Oops: 0002 [#1] PREEMPT SMP NOPTI
[   12.345684] CPU: 1 PID: 77 Comm: insmod Tainted: G            E      6.1.0-56-amd64 #1  Debian 6.1.170-3
[   12.345685] RIP: 0010:init_module+0x5/0x1000 [dummy]
[   12.345686] Code: Unable to access opcode bytes at 0xffffffffc0000fdb.
[   12.345687] Call Trace:
[   12.345688]  <TASK>
[   12.345689]  ? __die_body.cold+0x1a/0x1f
[   12.345690]  ? page_fault_oops+0xae/0x280
[   12.345691]  do_one_initcall+0x56/0x220
[   12.345692]  do_init_module.isra.0+0x4a/0x1f0
[   12.345693]  __do_sys_finit_module+0xac/0x120
[   12.345694]  </TASK>
[   12.345695] Modules linked in: dummy(E+) e1000e
[   12.345696] ---[ end trace 0000000000000000 ]---
`;

test('an oops: its kind, where it was, and its lines without those before it', () => {
  read(OOPS);
  expect(watch.isReading).toBe(true);
  vi.advanceTimersByTime(10_000);
  expect(troubles).toHaveLength(1);
  expect(troubles[0]).toMatchObject({
    kind: 'crash',
    what: 'NULL pointer dereference',
    fingerprint: 'NULL pointer dereference in init_module < do_one_initcall < do_init_module < __do_sys_finit_module',
  });
  expect(troubles[0]!.text).toContain('Comm: insmod');
  expect(troubles[0]!.text).not.toContain('NIC Link');
});

test('a panic behind an oops is part of it, and ends it at once', () => {
  read(`${OOPS.trim()}
[   12.400000] Kernel panic - not syncing: Fatal exception in interrupt
[   12.400001] Kernel Offset: 0x1000000 from 0xffffffff81000000
[   12.400002] ---[ end Kernel panic - not syncing: Fatal exception in interrupt ]---`);
  expect(troubles).toHaveLength(1);
  expect(troubles[0]).toMatchObject({ what: 'NULL pointer dereference' });
  expect(troubles[0]!.text).toContain('Kernel panic');
});

test('a panic by itself: numbers do not make two bugs of one, reporting functions tell nothing', () => {
  read(`
Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)
CPU: 0 PID: 1 Comm: swapper/0 Not tainted 6.12.0 #1
Call Trace:
 <TASK>
 dump_stack_lvl+0x5d/0x80
 panic+0x11a/0x2e0
 mount_root_generic+0x1cb/0x330
 prepare_namespace+0x65/0x270
 kernel_init_freeable+0x285/0x2d0
 kernel_init+0x1a/0x140
 </TASK>
---[ end Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0) ]---`);
  expect(troubles[0]).toMatchObject({
    what: 'panic: VFS: Unable to mount root fs on unknown-block(N,N)',
    fingerprint: expect.stringMatching(
      / in mount_root_generic < prepare_namespace < kernel_init_freeable < kernel_init$/,
    ),
  });
});

test('a warning is kept apart, unless it turns into more', () => {
  const warning = '[    3.0] WARNING: CPU: 0 PID: 9 at drivers/net/foo.c:123 foo_open+0x12/0x20 [foo]';
  read(`${warning}\n[    3.1] RIP: 0010:foo_open+0x12/0x20 [foo]`);
  vi.advanceTimersByTime(10_000);
  expect(troubles).toEqual([]);
  expect(warnings[0]).toMatchObject({
    what: 'WARNING at drivers/net/foo.c',
    fingerprint: expect.stringContaining('foo_open'),
  });
  read(`${warning}\n[    3.2] general protection fault, probably for non-canonical address 0xdead: 0000 [#1]`);
  watch.finish();
  expect(troubles[0]).toMatchObject({ kind: 'crash', what: 'general protection fault' });
});

test.each([
  ['watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [insmod:77]', 'soft lockup'],
  ['rcu: INFO: rcu_preempt self-detected stall on CPU', 'RCU stall'],
  ['rcu: INFO: rcu_sched detected stalls on CPUs/tasks:', 'RCU stall'],
  ['INFO: task nvme:12 blocked for more than 120 seconds.', 'hung task'],
])('%s is a hang', (line, what) => {
  read(`[   40.0] ${line}`);
  watch.finish();
  expect(troubles[0]).toMatchObject({ kind: 'hang', what });
});

test('ordinary output is no trouble', () => {
  read('[ 1.0] sysrq: HELP : loglevel(0-9)\n[ 1.1] nvme nvme0: I/O timeout\nOops, said a program\nBUG is a word');
  vi.advanceTimersByTime(10_000);
  expect([troubles, warnings]).toEqual([[], []]);
});

test('a trace without RIP gives its functions', () => {
  expect(
    functionsOf(['Call Trace:', ' ? maybe+0x1/0x2', ' one.cold+0x1/0x2', ' two+0x1/0x2', 'RIP: 0033:0x7f00']),
  ).toEqual(['one', 'two']);
});
