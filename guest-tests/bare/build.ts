/** Builds bare-metal payloads from C with the system's compiler: a small library, one program a payload, one ELF file each. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const HERE = dirname(fileURLToPath(import.meta.url));
/** Compiled, this file lies in `dist/guest-tests/bare`; the C sources stay where they are. */
const ROOT = join(HERE, import.meta.url.endsWith('.ts') ? '../..' : '../../..');
const SOURCES = join(ROOT, 'guest-tests/bare');
const LIBRARY = join(SOURCES, 'lib');
const PROGRAMS = join(SOURCES, 'payloads');

/** No host headers but the compiler's own, no vector registers (interrupt handlers do not save them), one fixed address. */
const FLAGS: readonly string[] = [
  ...['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror'],
  ...['-ffreestanding', '-nostdlib', '-static', '-no-pie', '-fno-pic', '-mno-red-zone', '-mgeneral-regs-only'],
  ...['-fno-stack-protector', '-fno-asynchronous-unwind-tables', '-fcf-protection=none'],
  ...['-Wl,--build-id=none', '-Wl,-z,noexecstack', '-Wl,-z,max-page-size=4096'],
];

/** Kernel files by payload name, such as `pci`. */
export type Payloads = ReadonlyMap<string, string>;

/**
 * Builds what has no current result; results are kept under `build/payloads`, by the hash of compiler and sources.
 * @throws Error with the compiler's messages
 */
export async function buildPayloads(folder: string = join(ROOT, 'build/payloads')): Promise<Payloads> {
  const compiler = process.env.CC ?? 'gcc';
  const version = (await run(compiler, ['--version'])).stdout;
  const library = await readSources(LIBRARY);
  const programs = (await readdir(PROGRAMS)).filter((name) => name.endsWith('.c')).sort();
  const built = programs.map(async (program) => {
    const name = program.slice(0, -'.c'.length);
    const source = join(PROGRAMS, program);
    const hash = createHash('sha256').update(JSON.stringify([version, FLAGS]));
    for (const [path, text] of [...library, [source, await readFile(source, 'utf8')] as const]) {
      hash.update(`${relative(SOURCES, path)}\0${text}\0`);
    }
    const output = join(folder, hash.digest('hex').slice(0, 16), `${name}.elf`);
    if (!existsSync(output)) await compile(compiler, [...library.keys()], source, output);
    return [name, output] as const;
  });
  return new Map(await Promise.all(built));
}

async function readSources(folder: string): Promise<Map<string, string>> {
  const paths = (await readdir(folder)).sort().map((name) => join(folder, name));
  return new Map(await Promise.all(paths.map(async (path) => [path, await readFile(path, 'utf8')] as const)));
}

async function compile(compiler: string, library: readonly string[], source: string, output: string): Promise<void> {
  await mkdir(dirname(output), { recursive: true });
  // Renamed when it is complete: two test runs may build at once.
  const draft = `${output}.${process.pid}`;
  const parts = library.filter((path) => /\.[cS]$/.test(path));
  const script = library.find((path) => path.endsWith('.ld'));
  await run(compiler, [...FLAGS, `-Wl,-T,${script}`, '-o', draft, ...parts, source]);
  await rename(draft, output);
}
