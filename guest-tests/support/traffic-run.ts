/** One test of `inside/traffic.ts`, on the card of a lab. */
import type { Lab } from '../../lab/index.ts';
import { passTests } from './harness-run.ts';

/** @param guest as the test of the harness is called. @returns names of its steps: all of them passed */
export async function passTraffic(lab: Lab, guest: string): Promise<readonly string[]> {
  const [test] = await passTests(lab, 'traffic', `${guest}$`, { bdfs: [lab.devices[0]!.bdf] });
  return test!.attempts.at(-1)!.subtests.map(({ name }) => name);
}
