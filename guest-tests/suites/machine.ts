/** The machine itself, with no device: what a guest finds in it, and every way in which a guest ends. */
import assert from 'node:assert/strict';
import { runPayload } from '../guest/index.ts';
import { test } from '../harness/index.ts';

const MEMORY_BYTES = 32 * 2 ** 20;
const REBOOTS = 1;
/** What it says before it hangs may take seconds on a host that is busy. */
const HANG_MS = 15_000;

for (const cpus of [1, 2]) {
  test(`processors, memory, interrupts, timers, tables: ${cpus} vCPU`, { device: false }, async ({ payload }) => {
    await payload('basics', { cpus, args: { cpus, memory: MEMORY_BYTES }, timeoutMs: 60_000 });
  });
}

for (const how of ['triple-fault', 'reset-register']) {
  test(`${how} reboots, and the limit ends the run`, { device: false }, async () => {
    const { exit, console } = await runPayload({ payload: 'reset', args: { how }, rebootLimit: REBOOTS });
    assert.deepEqual(exit, { reason: 'reboot-limit', reboots: REBOOTS });
    assert.equal(console.match(/^# boot$/gm)?.length, REBOOTS + 1);
  });
}

test('ACPI power-off ends the run at once', { device: false }, async () => {
  const { exit, console } = await runPayload({ payload: 'reset', args: { how: 'power-off' } });
  assert.deepEqual(exit, { reason: 'shutdown' });
  assert.ok(!console.includes('still here'), console);
});

test('an exception fails its test, and names its vector and place', { device: false }, async () => {
  const { results, value } = await runPayload({ payload: 'harness', args: { how: 'exception' } });
  assert.equal(value, 0x80);
  assert.deepEqual(verdictsOf(results), ['pass first', 'fail second', 'fail (1 more)']);
  assert.match(results[1]!.reason!, /^exception 14 \(error 0x2\) at rip 0x2\w+, cr2 0x7f0000002000/);
});

test('a payload that hangs is stopped, and told as it was', { device: false }, async () => {
  const { results, exit } = await runPayload({ payload: 'harness', args: { how: 'hang' }, timeoutMs: HANG_MS });
  assert.equal(exit, undefined);
  assert.deepEqual(verdictsOf(results), ['pass first', 'fail test 2 of 3', 'fail (1 more)']);
  assert.equal(results[1]!.reason, `no end within ${HANG_MS} ms`);
});

function verdictsOf(results: readonly { readonly verdict: string; readonly name: string }[]): string[] {
  return results.map(({ verdict, name }) => `${verdict} ${name}`);
}
