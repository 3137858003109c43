/** Compiles `map-wc`, which maps a BAR write-combining from within a guest. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const HERE = dirname(fileURLToPath(import.meta.url));
/** Compiled, this file lies in `dist/`; the C source stays where it is. */
const ROOT = join(HERE, import.meta.url.endsWith('.ts') ? '../..' : '../../..');
const SOURCE = join(ROOT, 'guest-tests/device-matrix/map-wc.c');
const FLAGS = [
  ...['-O2', '-Wall', '-Wextra', '-Werror', '-static', '-nostdlib', '-ffreestanding'],
  ...['-fno-stack-protector', '-fcf-protection=none'],
];

/**
 * The program, an executable without libraries; kept under `build/`, for the lab's processor is slow.
 * @returns its path
 * @throws Error with the compiler's messages
 */
export async function mapWc(): Promise<string> {
  const hash = createHash('sha256')
    .update(`${FLAGS}\0`)
    .update(await readFile(SOURCE));
  const output = join(ROOT, 'build/programs', `map-wc-${hash.digest('hex').slice(0, 16)}`);
  if (existsSync(output)) return output;
  await mkdir(dirname(output), { recursive: true });
  const draft = `${output}.${process.pid}`;
  await promisify(execFile)(process.env.CC ?? 'gcc', [...FLAGS, '-o', draft, SOURCE]);
  await rename(draft, output);
  return output;
}
