/** What the measurements were taken with. */
import { readFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Lab } from '../lab/index.ts';

const PACKAGE = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'package.json');

export async function causewayVersion(): Promise<string> {
  return (JSON.parse(await readFile(PACKAGE, 'utf8')) as { version: string }).version;
}

/** @param emulated processors of the lab */
export function describeMachine(lab: Lab, emulated = 2): string {
  const processors = cpus();
  const real = `${processors.length} × ${processors[0]?.model.trim() ?? 'unknown processor'}`;
  return lab.accel === 'tcg'
    ? `lab with ${emulated} emulated processor${emulated === 1 ? '' : 's'} (QEMU TCG) on ${real}`
    : `lab with nested KVM on ${real}`;
}
