/** What runs inside the lab, on short programs here: a run that hangs is killed, told and tried again. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { RunResult, RunSpec } from './inside.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'causeway-bench-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function carryOut(...specs: readonly Omit<RunSpec, 'env'>[]): Promise<RunResult[]> {
  const plan = join(folder, 'plan.json');
  await writeFile(plan, JSON.stringify(specs.map((spec) => ({ ...spec, env: {} }))));
  const inside = fileURLToPath(new URL('./inside.ts', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'jiti/register', inside, plan]);
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as RunResult);
}

/** Hangs until it was killed so many times. */
function hangs(times: number): string[] {
  const marks = join(folder, `hangs-${times}`);
  return [
    'sh',
    '-c',
    `echo x >> ${marks}; echo "at $(wc -l < ${marks})"; [ $(wc -l < ${marks}) -gt ${times} ] || exec sleep 60`,
  ];
}

test('one that hangs is tried again, and what it said before is kept', async () => {
  const [first, second] = await carryOut(
    { argv: hangs(1), timeoutMs: 1500, attempts: 3 },
    { argv: ['true'], timeoutMs: 5000 },
  );
  expect(first!.failure).toBeUndefined();
  expect(first!.lines.map(({ text }) => text)).toEqual(['at 2']);
  expect(first!.earlier).toEqual([expect.stringMatching(/^ended with SIGKILL after \d+ ms\nat 1$/)]);
  expect(second!.failure).toBeUndefined();
});

test('one that never ends well ends them all', async () => {
  const results = await carryOut({ argv: hangs(9), timeoutMs: 300, attempts: 2 }, { argv: ['true'], timeoutMs: 5000 });
  expect(results).toHaveLength(1);
  expect(results[0]).toMatchObject({
    failure: expect.stringContaining('at 2'),
    earlier: [expect.stringContaining('at 1')],
  });
});
