/** `causeway test` as a program of its own, and what it leaves. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RunRecord, TestRecord } from '../harness/model.ts';
import { readRun } from '../harness/report/compare.ts';
import { CLI } from './programs.ts';
import { say } from './test-lab.ts';

export interface HarnessRun {
  readonly run: RunRecord;
  readonly ktap: string;
  /** Exit code. */
  readonly code: number;
  readonly folder: string;
}

/** @param args behind `causeway test`, without `--output` */
export async function causewayTest(
  args: readonly string[],
  {
    folder = mkdtempSync(join(tmpdir(), 'causeway-harness-')),
    env = {},
  }: { readonly folder?: string; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<HarnessRun> {
  const options = { maxBuffer: 2 ** 24, env: { ...process.env, ...env } };
  const [code, ktap] = await new Promise<[number, string]>((resolve) => {
    const child = execFile(process.execPath, [CLI, 'test', ...args, '--output', folder], options, (error, stdout) =>
      resolve([Number(error?.code ?? 0), stdout]),
    );
    child.stderr?.on('data', (chunk: Buffer) => {
      for (const line of chunk.toString().trimEnd().split('\n')) say(line);
    });
  });
  return { run: readRun(readFileSync(join(folder, 'run.json'), 'utf8')), ktap, code, folder };
}

/** One line, for messages: verdict, test, reason. */
export function describeTest({ verdict, id, reason }: TestRecord): string {
  return `${verdict} ${id}${reason === undefined ? '' : `: ${reason}`}`;
}
