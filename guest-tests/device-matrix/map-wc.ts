/** Compiles `map-wc`, which maps a BAR write-combining from within a guest. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** The test runs from its source, so the C file is beside this one. */
const SOURCE = join(dirname(fileURLToPath(import.meta.url)), 'map-wc.c');
const FLAGS = ['-O2', '-Wall', '-Wextra', '-Werror', '-static', '-nostdlib', '-ffreestanding', '-fno-stack-protector'];

/** The program, an executable without libraries. @throws Error with the compiler's messages */
export async function mapWc(): Promise<Uint8Array> {
  const folder = await mkdtemp(join(tmpdir(), 'causeway-map-wc-'));
  try {
    const output = join(folder, 'map-wc');
    await promisify(execFile)(process.env.CC ?? 'gcc', [...FLAGS, '-fcf-protection=none', '-o', output, SOURCE]);
    return await readFile(output);
  } finally {
    await rm(folder, { recursive: true });
  }
}
