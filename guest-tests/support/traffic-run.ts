/** One test of `inside/traffic.ts`, on the card of a lab. */
import { expect } from 'vitest';
import type { Lab } from '../../lab/index.ts';
import { causewayTestIn, describeTest } from './harness-run.ts';
import { insideProgram } from './programs.ts';
import { say } from './test-lab.ts';

/** @param guest as the test of the harness is called. @returns names of its steps: all of them passed */
export async function passTraffic(lab: Lab, guest: string): Promise<readonly string[]> {
  const words = [insideProgram('traffic'), '--filter', `/${guest}$`, '--device', lab.devices[0]!.bdf];
  const { run, code } = await causewayTestIn(lab, words);
  expect(run.tests).toHaveLength(1);
  const [test] = run.tests;
  const attempt = test!.attempts.at(-1);
  for (const line of attempt?.log ?? []) say(line);
  expect(test!.verdict, describeTest(test!)).toBe('PASS');
  expect([code, run.devices[0]?.givenBack]).toEqual([0, true]);
  return attempt!.subtests.map(({ name }) => name);
}
