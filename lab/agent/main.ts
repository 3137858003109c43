/**
 * The agent: runs inside the lab, starts commands for the lab's owner and carries their streams. It reads and writes one
 * virtio-serial port, whose path is its first argument; its second is the file that `/init` writes when devices are set up.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, read, readFileSync, write, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { encodeFrame, FrameReader, frameKinds, type ReadyReport, type SpawnRequest } from './protocol.ts';

/** Bytes waiting for the port before the commands' output is paused. */
const highWater = 1 << 20;

const port = openSync(process.argv[2] ?? '', 'r+');
const readyFile = process.argv[3] ?? '';
const children = new Map<number, ChildProcess>();
const queue: Buffer[] = [];
let queued = 0;
let writing = false;

function send(kind: number, id: number, payload?: Uint8Array | string): void {
  const frame = encodeFrame(kind, id, payload);
  queue.push(frame);
  queued += frame.length;
  if (queued > highWater) for (const child of children.values()) pause(child, true);
  if (!writing) drain();
}

function drain(): void {
  if (queue.length === 0) {
    writing = false;
    for (const child of children.values()) pause(child, false);
    return;
  }
  writing = true;
  const batch = Buffer.concat(queue.splice(0));
  writeAll(batch, 0);
}

function writeAll(batch: Buffer, offset: number): void {
  write(port, batch, offset, Math.min(batch.length - offset, 1 << 16), null, (error, count) => {
    if (error) powerOff();
    const next = offset + count;
    queued -= count;
    if (next < batch.length) writeAll(batch, next);
    else drain();
  });
}

function pause(child: ChildProcess, yes: boolean): void {
  for (const stream of [child.stdout, child.stderr]) {
    if (yes) stream?.pause();
    else stream?.resume();
  }
}

function start(id: number, request: SpawnRequest): void {
  const [program = 'true', ...args] = request.argv;
  if (request.cwd !== undefined && !existsSync(request.cwd)) {
    // spawn would report this as if the program were missing.
    send(frameKinds.failed, id, `the lab has no directory ${request.cwd}`);
    return;
  }
  const child = spawn(program, args, {
    ...(request.cwd === undefined ? {} : { cwd: request.cwd }),
    env: request.env,
    stdio: 'pipe',
    // A process group of its own, so that a kill reaches all that the command started.
    detached: true,
  });
  children.set(id, child);
  child.stdin.on('error', () => {});
  child.stdout.on('data', (chunk: Buffer) => send(frameKinds.stdout, id, chunk));
  child.stderr.on('data', (chunk: Buffer) => send(frameKinds.stderr, id, chunk));
  child.on('error', (error) => {
    children.delete(id);
    const missing = 'code' in error && error.code === 'ENOENT';
    send(frameKinds.failed, id, missing ? `the lab has no program ${program}` : error.message);
  });
  child.on('exit', (code, signal) => {
    // A background process that keeps the streams open must not hold the exit status back for ever.
    const report = () => {
      if (children.delete(id)) send(frameKinds.exit, id, JSON.stringify({ code, signal }));
    };
    child.on('close', report);
    setTimeout(report, 2000).unref();
  });
}

function kill(id: number, signal: string): void {
  const pid = children.get(id)?.pid;
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal as NodeJS.Signals);
  } catch {
    // It has gone already: its exit report is on the way.
  }
}

function powerOff(): never {
  writeFileSync('/proc/sysrq-trigger', 'o');
  closeSync(port);
  process.exit();
}

function receive(reader: FrameReader, buffer: Buffer): void {
  read(port, buffer, 0, buffer.length, null, (error, count) => {
    // End of file: the lab's owner is gone, so nobody is left to close the lab.
    if (error || count === 0) powerOff();
    for (const { kind, id, payload } of reader.push(Buffer.from(buffer.subarray(0, count)))) {
      if (kind === frameKinds.spawn) start(id, JSON.parse(payload.toString()) as SpawnRequest);
      else if (kind === frameKinds.stdin) children.get(id)?.stdin?.write(Buffer.from(payload));
      else if (kind === frameKinds.stdinEnd) children.get(id)?.stdin?.end();
      else if (kind === frameKinds.kill) kill(id, payload.toString());
      else if (kind === frameKinds.powerOff) powerOff();
    }
    receive(reader, buffer);
  });
}

function reportWhenReady(): void {
  if (!existsSync(readyFile)) {
    setTimeout(reportWhenReady, 20);
    return;
  }
  const lines = readFileSync(readyFile, 'utf8').split('\n').slice(0, -1);
  const report: ReadyReport = { devices: lines.map((line) => line.split(' ').filter(Boolean)), kernel: release() };
  send(frameKinds.ready, 0, JSON.stringify(report));
}

receive(new FrameReader(), Buffer.alloc(1 << 16));
reportWhenReady();
