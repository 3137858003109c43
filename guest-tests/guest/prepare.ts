/** Fetches and builds what guests of the suites are made of, so that a test's boot is nothing but a boot. */
import { buildPayloads } from '../bare/build.ts';
import { prepareLinux } from './boot-linux.ts';
import { debianProgram } from './debian-program.ts';

/** @param log receives one line for what could not be had; tests that need it are then skipped or fail by themselves */
export async function prepareGuests(log: (line: string) => void): Promise<void> {
  const parts: readonly (readonly [string, () => Promise<unknown>])[] = [
    ['bare-metal payloads', () => buildPayloads()],
    ['Linux guest', () => prepareLinux()],
    ['ethtool', () => debianProgram('ethtool', 'sbin/ethtool')],
  ];
  for (const [name, prepare] of parts) {
    await prepare().catch((error: unknown) =>
      log(`${name}: ${error instanceof Error ? error.message : String(error)}`),
    );
  }
}
