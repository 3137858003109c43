/** Bare-metal payloads by name, for tests. */
import type { DeviceConfig, Size, Vm } from '../../index.ts';
import { CausewayError } from '../../vmm/base/errors.ts';
import { buildPayloads } from '../bare/build.ts';
import { type PayloadArgs, type PayloadRun, runPayload as runKernel } from '../bare/run.ts';
import { argsFromSysfs } from '../bare/sysfs-args.ts';

export interface PayloadOptions {
  /** One of `guest-tests/bare/payloads`, such as `edu-irq`; or the path of an ELF file with a slash in it. */
  readonly payload: string;
  /** `name=value`, separated by spaces, or the same as an object. */
  readonly args?: string | PayloadArgs;
  readonly devices?: readonly (string | DeviceConfig)[];
  /** Also tell the payload what the host's sysfs says of the first device: IDs, class, BARs. Default false. */
  readonly describe?: boolean;
  /** Default 1. */
  readonly cpus?: number;
  /** Default 32 MiB. */
  readonly memory?: Size;
  /** Empty root ports, for devices that come later. Default 0. */
  readonly hotplugPorts?: number;
  /** Default 0: a reset ends the run. */
  readonly rebootLimit?: number;
  /** Default 30 s. */
  readonly timeoutMs?: number;
  /** What the host does while the guest runs; the run ends with both, or when this fails. */
  readonly meanwhile?: (vm: Vm) => Promise<void>;
  /** Called when the guest has ended and its devices are still as it left them. */
  readonly onExit?: () => void;
  readonly onConsole?: (text: string) => void;
}

export type PayloadResult = PayloadRun;

/**
 * Runs a payload in a VM of its own.
 * @throws CausewayError of `createVm`; USAGE for a payload that does not exist
 * @example const { results } = await runPayload({ payload: 'edu-irq', args: 'loops=100', devices: [bdf] });
 */
export async function runPayload(options: PayloadOptions): Promise<PayloadResult> {
  const { payload, args, devices = [], describe = false, cpus = 1, memory } = options;
  const { hotplugPorts = 0, rebootLimit = 0, timeoutMs, meanwhile, onExit, onConsole } = options;
  const [first] = devices;
  const address = typeof first === 'object' ? first.bdf : first;
  return runKernel({
    kernel: await payloadFile(payload),
    args: { ...(describe && address ? argsFromSysfs(address) : {}), ...parseArgs(args) },
    vm: { devices, cpus, hotplugPorts, rebootLimit, ...(memory === undefined ? {} : { memory }) },
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(meanwhile ? { meanwhile } : {}),
    ...(onExit ? { onExit } : {}),
    ...(onConsole ? { onConsole } : {}),
  });
}

async function payloadFile(name: string): Promise<string> {
  if (name.includes('/')) return name;
  const payloads = await buildPayloads();
  const file = payloads.get(name);
  if (file !== undefined) return file;
  throw new CausewayError('USAGE', `there is no payload "${name}"`, {
    hint: `one of ${[...payloads.keys()].join(', ')}`,
  });
}

function parseArgs(args: string | PayloadArgs | undefined): PayloadArgs {
  if (typeof args !== 'string') return args ?? {};
  const words = args.split(/\s+/).filter(Boolean);
  return Object.fromEntries(words.map((word) => [word.split('=', 1)[0]!, word.slice(word.indexOf('=') + 1)]));
}
