/** Output of other people's tests, whole and torn. */
import { describe, expect, test } from 'vitest';
import { parseForeign } from './parse.ts';
import { qemuExitCode, readTestKernel } from './test-kernel.ts';

const told = (text: string, code = 0): string[] =>
  parseForeign({ text, code, name: 'suite' }).results.map(({ verdict, name, reason }) =>
    reason === undefined ? `${verdict} ${name}` : `${verdict} ${name}: ${reason}`,
  );

describe('TAP and KTAP', () => {
  test('plans, directives, diagnostics', () => {
    const text = `TAP version 14
1..5
ok 1 - reads
# a diagnostic
not ok 2 - writes
ok 3 - jumbo # SKIP no jumbo frames
not ok 4 later # TODO not written
ok 5 known # XFAIL erratum`;
    expect(told(text, 1)).toEqual([
      'PASS reads',
      'FAIL writes: not ok',
      'SKIP jumbo: no jumbo frames',
      'XFAIL later: not written',
      'XFAIL known: erratum',
    ]);
  });

  test('nested tests carry the name of theirs, which is not told again', () => {
    const text = `KTAP version 1
1..2
  KTAP version 1
  1..2
  ok 1 one
  not ok 2 two
not ok 1 outer
ok 2 flat`;
    expect(told(text, 1)).toEqual(['PASS outer: one', 'FAIL outer: two: not ok', 'PASS flat']);
  });

  test('what is planned and has no result has failed, at every level', () => {
    expect(told('1..3\nok 1 a\nok 3 c\n')).toEqual([
      'PASS a',
      'PASS c',
      'FAIL test 2: planned (1..3), and no result was seen',
    ]);
    expect(told('1..1\n  1..2\n  ok 1 a\nok 1 outer\n')).toEqual([
      'PASS outer: a',
      'FAIL test 2: planned (1..2), and no result was seen',
    ]);
  });

  test('a result torn by the kernel log does not count', () => {
    expect(told('1..2\nok 1 a\nok [   12.345678] e1000e: up\n2 b\n')[1]).toMatch(/^FAIL test 2/);
    expect(told('1..1\nok 1 a\nBail out! no device\n')).toEqual(['PASS a', 'FAIL bail out: no device']);
  });

  test('numbers may be left out, and a plan may be empty', () => {
    expect(told('1..2\nok - a\nnot ok - b\n')).toEqual(['PASS a', 'FAIL b: not ok']);
    expect(told('1..0 # SKIP no such device\n')).toEqual(['SKIP all: no such device']);
  });

  test('an exit code that says otherwise counts', () => {
    expect(told('1..1\nok 1 a\n', 139)).toEqual(['PASS a', 'FAIL suite: exit code 139: ok 1 a']);
    expect(told('TAP version 13\n')).toEqual(['FAIL suite: no results in its tap output']);
  });
});

test('JUnit', () => {
  const text = `<?xml version="1.0"?><testsuites><testsuite name="s">
<testcase classname="nic" name="link" time="0.5"/>
<testcase name="dma &amp; irq"><failure message="0 &lt; 1">stack</failure></testcase>
<testcase name="wol"><skipped/></testcase></testsuite></testsuites>`;
  expect(told(text, 1)).toEqual(['PASS nic.link', 'FAIL dma & irq: 0 < 1', 'SKIP wol: no reason given']);
});

test('nothing but an exit code', () => {
  expect(told('all fine')).toEqual(['PASS suite']);
  expect(told('no device', 4)).toEqual(['SKIP suite: no device']);
  expect(told('line\nboom', 2)).toEqual(['FAIL suite: exit code 2: boom']);
});

describe('test kernels', () => {
  const run = (status: number | undefined, console = 'PASS: one\nSKIP: two\n') =>
    readTestKernel({ name: 'apic.flat', console, status, ending: 'the VM ended with crash' }).results.map(
      ({ verdict, name }) => `${verdict} ${name}`,
    );

  test('the status decides, whatever was printed', () => {
    expect(run(0)).toEqual(['PASS one', 'SKIP two', 'PASS apic.flat']);
    expect(run(1)).toContain('FAIL apic.flat');
    expect(run(77)).toContain('SKIP apic.flat');
    expect(run(127)).toContain('FAIL apic.flat');
    expect(run(undefined)).toContain('FAIL apic.flat');
  });

  test('what QEMU would have made of it', () => {
    expect([0, 1, 77, 127].map(qemuExitCode)).toEqual([1, 3, 155, 255]);
  });
});
