/** A bare-metal payload as a job for a program inside the lab: how it is told, what is told back. */
import { readFileSync } from 'node:fs';
import { type PayloadArgs, type PayloadOptions, type PayloadRun, runPayload } from './run.ts';
import { argsFromSysfs } from './sysfs-args.ts';

/** One payload to run. */
export interface PayloadJob extends Pick<PayloadOptions, 'kernel' | 'vm' | 'timeoutMs'> {
  readonly name: string;
  readonly args?: PayloadArgs;
  /** Host address of the one device of the VM; the payload is told what sysfs says of it. */
  readonly device?: string;
}

/** A run, and config space of its device as sysfs shows it: before the VM, and when the guest had ended, bytes in hex. */
export interface JobRun extends PayloadRun {
  readonly hostConfig?: { readonly before: string; readonly after: string };
}

/** Printed as JSON: runs by the name of their job, or why there was none. */
export type PayloadRuns = Readonly<Record<string, JobRun | { readonly error: string }>>;

function hostConfig(device: string): string {
  return readFileSync(`/sys/bus/pci/devices/${device}/config`).toString('hex');
}

/** Runs it; what it says goes to stderr. Never throws. */
export async function runJob({ name, kernel, vm, args, device, timeoutMs }: PayloadJob): Promise<PayloadRuns[string]> {
  process.stderr.write(`\n=== ${name}\n`);
  try {
    const before = device ? hostConfig(device) : '';
    let after = '';
    const run = await runPayload({
      kernel,
      args: { ...(device ? argsFromSysfs(device) : {}), ...args },
      vm: { devices: device ? [device] : [], ...vm },
      ...(timeoutMs ? { timeoutMs } : {}),
      onConsole: (text) => process.stderr.write(text),
      ...(device
        ? {
            onExit: () => {
              after = hostConfig(device);
            },
          }
        : {}),
    });
    process.stderr.write(`=== ${name}: ${Math.round(run.runMs)} of ${Math.round(run.totalMs)} ms\n`);
    return device ? { ...run, hostConfig: { before, after } } : run;
  } catch (error) {
    return { error: String(error) };
  }
}
