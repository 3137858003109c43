/**
 * Runs inside the lab: one guest with all devices of a batch, under Causeway or under QEMU, watched through its console
 * and through KVM's own counters, which know no difference. Usage: node device-matrix.js '{"argv": [...], ...}'
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { type ExitCount, type MatrixRun, type MatrixRunResult, Observation } from './matrix-observation.ts';

const DEBUG_FS = '/run/causeway-debugfs';

/** Counters of the VMs of a process: KVM names their folders after it. */
function exitCounter(pid: number): () => ExitCount {
  const sum = (file: string) =>
    readdirSync(`${DEBUG_FS}/kvm`)
      .filter((name) => name.startsWith(`${pid}-`))
      .reduce((total, name) => total + Number(readFileSync(`${DEBUG_FS}/kvm/${name}/${file}`, 'latin1')), 0);
  return () => ({ io: sum('io_exits'), mmio: sum('mmio_exits') });
}

async function run({ argv, env, timeoutMs }: MatrixRun): Promise<MatrixRunResult> {
  mkdirSync(DEBUG_FS, { recursive: true });
  execFileSync('mount', ['-t', 'debugfs', 'debugfs', DEBUG_FS]);
  const [program = '', ...args] = argv;
  const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  const observation = new Observation(exitCounter(child.pid!));
  let console = '';
  let complaints = '';
  child.stdout.on('data', (chunk: Buffer) => {
    process.stderr.write(chunk);
    console += chunk.toString('latin1');
    observation.push(chunk.toString('latin1'));
  });
  child.stderr.on('data', (chunk: Buffer) => {
    process.stderr.write(chunk);
    complaints += chunk.toString('latin1');
  });
  const timeout = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    return { code, moments: observation.moments, console, complaints };
  } finally {
    clearTimeout(timeout);
    execFileSync('umount', [DEBUG_FS]);
  }
}

process.stdout.write(`${JSON.stringify(await run(JSON.parse(process.argv[2]!)))}\n`);
