/**
 * Test kernels in the manner of kvm-unit-tests: they print `PASS: name`, `FAIL: name`, `SKIP: name` on a 16550 and write their
 * status to port 0xf4. Under QEMU the process then ends with `(status << 1) | 1`: 1 is passed. Here the status itself arrives.
 */
import type { SubtestRecord } from '../model.ts';
import type { ForeignReport } from './parse.ts';

/** Meaning of a status (kvm-unit-tests, lib/report.c, lib/libcflat.h). */
export const KERNEL_STATUS: Readonly<Record<number, string>> = {
  0: 'passed',
  1: 'failed',
  2: 'unsupported',
  77: 'skipped',
  124: 'timed out',
  127: 'aborted: an unhandled exception or a failed assertion',
};

const SKIPPED = 77;

export interface TestKernelRun {
  readonly name: string;
  readonly console: string;
  /** What was written to port 0xf4; undefined when the VM ended otherwise. */
  readonly status: number | undefined;
  /** How it ended then. */
  readonly ending: string;
}

/** Exit code that QEMU would have had: its isa-debug-exit shifts the value and sets bit 0. */
export function qemuExitCode(status: number): number {
  return ((status << 1) | 1) & 0xff;
}

/** Its lines, and a result for the whole that the status decides: lines alone prove nothing, as it may have died after them. */
export function readTestKernel({ name, console, status, ending }: TestKernelRun): ForeignReport {
  const results = console.split(/\r?\n/).flatMap((line): SubtestRecord[] => {
    const [, word, text] = /^(PASS|FAIL|SKIP|XFAIL|XPASS): (.*)$/.exec(line.trim()) ?? [];
    if (!word || !text) return [];
    if (word === 'PASS') return [{ name: text, verdict: 'PASS' }];
    if (word === 'SKIP') return [{ name: text, verdict: 'SKIP', reason: 'said so' }];
    if (word === 'XFAIL') return [{ name: text, verdict: 'XFAIL', reason: 'known to fail' }];
    return [{ name: text, verdict: 'FAIL', reason: word === 'XPASS' ? 'passed, though known to fail' : 'said so' }];
  });
  return { format: 'exit', results: [...results, whole(name, status, ending)] };
}

function whole(name: string, status: number | undefined, ending: string): SubtestRecord {
  if (status === undefined) return { name, verdict: 'FAIL', reason: `no status at port 0xf4: ${ending}` };
  if (status === 0) return { name, verdict: 'PASS' };
  const meaning = KERNEL_STATUS[status] ?? (status >= 128 ? `signal ${status - 128}` : 'unknown');
  const reason = `status ${status}, ${meaning} (QEMU would exit with ${qemuExitCode(status)})`;
  return { name, verdict: status === SKIPPED ? 'SKIP' : 'FAIL', reason };
}
