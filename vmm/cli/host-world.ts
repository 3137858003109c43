/** What the commands about the host touch. */
import type { Writable } from 'node:stream';
import type { Native } from '../../native/types.ts';

export interface HostWorld {
  readonly stdout: Writable;
  readonly stderr: Writable;
  /** The kernel seam; the addon when left out. */
  readonly native?: Native;
  /** Where records of bindings are kept, in place of the usual one. */
  readonly journalDirectory?: string;
}

/** Loads the addon only for a command that needs it. @throws CausewayError ADDON_MISSING */
export async function nativeOf(world: HostWorld): Promise<Native> {
  return world.native ?? (await import('../../native/index.ts')).loadNative();
}

/** One JSON object on stdout, or the text. */
export function print(world: HostWorld, json: boolean | undefined, value: unknown, text: () => string): void {
  world.stdout.write(json ? `${JSON.stringify(value)}\n` : text());
}
