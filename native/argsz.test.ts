/** INFO ioctls whose answer is larger than the first buffer, played by a library that stands before the C library's. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { addonPath, buildAddon } from './build.mjs';

const INFO_BYTES = 32;
const CAPABILITY_BYTES = 1000;
const folder = mkdtempSync(join(tmpdir(), 'causeway-argsz-'));
const shim = join(folder, 'argsz.so');

beforeAll(async () => {
  await buildAddon();
  const source = fileURLToPath(new URL('./fixtures/argsz-shim.c', import.meta.url));
  execFileSync(process.env.CC ?? 'gcc', ['-shared', '-fPIC', '-O1', '-o', shim, source]);
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true }));

/** What the addon gives for a region of such a kernel: length, number of the last call, last byte. */
function regionInfo(index: number): { bytes: number; calls: number; last: number } {
  const program = `
    const info = require(${JSON.stringify(addonPath)}).vfioRegionInfo(0, ${index});
    const calls = Number(new DataView(info.buffer, info.byteOffset).getBigUint64(16, true));
    process.stdout.write(JSON.stringify({ bytes: info.length, calls, last: info.at(-1) }));`;
  const env = { ...process.env, LD_PRELOAD: shim };
  return JSON.parse(execFileSync(process.execPath, ['-e', program], { env, encoding: 'utf8' }));
}

// Enforces I85.
it('are asked for once more with the size that the kernel named', () => {
  expect(regionInfo(0)).toEqual({ bytes: INFO_BYTES + CAPABILITY_BYTES, calls: 2, last: 0xab });
});

// Enforces I85.
it('once, however the answer grows, and nothing beyond the buffer is read', () => {
  const { bytes, calls } = regionInfo(1);
  expect(calls).toBe(2);
  expect(bytes).toBe(INFO_BYTES + CAPABILITY_BYTES);
});
