/**
 * Runs inside the lab: starts a command again and again, sends it a signal at a given moment each time, and looks at
 * what became of the device. Usage: node signals.js '{"command": [...], "bdf": ..., "moments": [{"signal": "SIGKILL", "afterMs": 300}]}'
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Moment {
  readonly signal: NodeJS.Signals;
  readonly afterMs: number;
  /** Count `afterMs` from when this was printed instead of from the start. */
  readonly afterText?: string;
  /** Count it from when the process has opened the device. */
  readonly afterOpen?: boolean;
}

export interface SignalResult {
  readonly moment: Moment;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** From the signal to the end of the process. */
  readonly endedAfterMs: number;
  /** Opening the group's node at once: `ok`, or the code of the error. */
  readonly group: string;
  /** `afterText` was printed before the signal, where one was wanted. */
  readonly sawText: boolean;
  /** How far it had come: the last thing it printed. */
  readonly lastLine: string;
  readonly stderr: string;
  readonly device: DeviceState;
}

/** What sysfs tells of an idle device. */
export interface DeviceState {
  readonly driver: string;
  readonly power: string;
  /** First 64 bytes of config space, hex. */
  readonly header: string;
}

export interface SignalsResult {
  /** Before the first command. */
  readonly idle: DeviceState;
  readonly ends: readonly SignalResult[];
}

async function endBySignal(command: readonly string[], bdf: string, moment: Moment): Promise<SignalResult> {
  const [program, ...args] = command;
  const child = spawn(program!, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.on('exit', (code, signal) => resolve({ code, signal }));
  });
  const { afterText, afterOpen = false } = moment;
  while (afterOpen && child.exitCode === null && !hasDevice(child.pid!)) await sleep(20);
  while (afterText !== undefined && child.exitCode === null && !stdout.includes(afterText)) await sleep(20);
  const sawText = afterText === undefined || stdout.includes(afterText);
  await sleep(moment.afterMs);
  const sent = performance.now();
  child.kill(moment.signal);
  const end = await exited;
  const endedAfterMs = Math.round(performance.now() - sent);
  const group = tryGroup(bdf);
  const lastLine = stdout.trimEnd().split('\n').at(-1) ?? '';
  return { moment, ...end, endedAfterMs, group, sawText, lastLine, stderr, device: deviceState(bdf) };
}

function hasDevice(pid: number): boolean {
  const fds = `/proc/${pid}/fd`;
  return readdirSync(fds).some((fd) => {
    try {
      return readlinkSync(`${fds}/${fd}`).startsWith('/dev/vfio/');
    } catch {
      // Closed meanwhile.
      return false;
    }
  });
}

function tryGroup(bdf: string): string {
  const group = basename(readlinkSync(`/sys/bus/pci/devices/${bdf}/iommu_group`));
  try {
    closeSync(openSync(`/dev/vfio/${group}`, 'r+'));
    return 'ok';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

function deviceState(bdf: string): DeviceState {
  const home = `/sys/bus/pci/devices/${bdf}`;
  return {
    driver: basename(readlinkSync(`${home}/driver`)),
    power: readFileSync(`${home}/power_state`, 'utf8').trim(),
    header: readFileSync(`${home}/config`).subarray(0, 64).toString('hex'),
  };
}

const { command, bdf, moments } = JSON.parse(process.argv[2]!) as {
  command: readonly string[];
  bdf: string;
  moments: readonly Moment[];
};
const idle = deviceState(bdf);
const ends: SignalResult[] = [];
for (const moment of moments) {
  const end = await endBySignal(command, bdf, moment);
  process.stderr.write(`${JSON.stringify(end)}\n`);
  ends.push(end);
}
process.stdout.write(`${JSON.stringify({ idle, ends } satisfies SignalsResult)}\n`);
