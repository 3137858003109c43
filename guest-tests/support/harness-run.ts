/** `causeway test` as a program of its own, on this host or in a lab that is open, and what it leaves. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect } from 'vitest';
import type { Lab } from '../../lab/index.ts';
import { LAB_PEER_ADDRESS, PEER_VARIABLE, prepareGuests, TcpPeer } from '../guest/index.ts';
import type { RunRecord, TestRecord } from '../harness/model.ts';
import { readRun } from '../harness/report/compare.ts';
import { CLI, insideProgram } from './programs.ts';
import { causeway, say } from './test-lab.ts';

const LAB_RUN_MS = 9 * 60_000;

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
    if (child.stderr) createInterface({ input: child.stderr }).on('line', say);
  });
  return { run: readRun(readFileSync(join(folder, 'run.json'), 'utf8')), ktap, code, folder };
}

export interface LabRunOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Receives the lines of progress, the tests' logs among them if `--verbose` is given. */
  readonly onLine?: (line: string) => void;
  /** Default: 9 minutes. */
  readonly timeoutMs?: number;
}

/** The same inside a lab, with a peer for transfers; `args` name the device. */
export async function causewayTestIn(
  lab: Lab,
  args: readonly string[],
  { env = {}, onLine = () => {}, timeoutMs = LAB_RUN_MS }: LabRunOptions = {},
): Promise<HarnessRun> {
  // The lab's processor would take minutes for it, and the lab cannot add to this machine's cache.
  await prepareGuests(say);
  await using peer = await TcpPeer.listen();
  const folder = mkdtempSync(join(lab.shareDir, 'harness-'));
  let rest = '';
  const { code, stdout } = await causeway(lab, ['test', ...args, '--output', folder, '--no-html'], {
    env: { [PEER_VARIABLE]: `${LAB_PEER_ADDRESS}:${peer.port}`, ...env },
    timeoutMs,
    onStderr: (chunk) => {
      const lines = (rest + chunk.toString()).split('\n');
      rest = lines.pop()!;
      for (const line of lines) {
        say(line);
        onLine(line);
      }
    },
  });
  return { run: readRun(readFileSync(join(folder, 'run.json'), 'utf8')), ktap: stdout, code, folder };
}

/**
 * Runs tests of a program of `guest-tests/inside`, by the beginning of their names, on devices of the lab: they pass, and
 * the devices are given back.
 */
export async function passTests(
  lab: Lab,
  program: string,
  names: string,
  { bdfs = [], ...options }: LabRunOptions & { readonly bdfs?: readonly string[] } = {},
): Promise<readonly TestRecord[]> {
  const devices = bdfs.flatMap((bdf) => ['--device', bdf]);
  const words = [insideProgram(program), '--filter', `/${names}`, '--verbose', ...devices];
  const { run, code, ktap } = await causewayTestIn(lab, words, options);
  expect(new Set(run.tests.map(({ verdict }) => verdict)), run.tests.map(describeTest).join('\n')).toEqual(
    new Set(['PASS']),
  );
  expect(code, ktap).toBe(0);
  for (const { label, givenBack } of run.devices) expect(givenBack, label).toBe(true);
  return run.tests;
}

/** One line, for messages: verdict, test, reason. */
export function describeTest({ verdict, id, reason }: TestRecord): string {
  return `${verdict} ${id}${reason === undefined ? '' : `: ${reason}`}`;
}
