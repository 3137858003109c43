/** `causeway vm`: looks at and controls VMs of other processes, over their control sockets. */
import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { CausewayError, EXIT_CODE } from '../base/errors.ts';
import { didYouMean } from '../config/issues.ts';
import type { OnError } from '../config/model.ts';
import { type ControlClient, connectControl, type VmInfo } from '../control/connect-control.ts';
import type { ControlEvent } from '../control/messages.ts';
import { controlNames, controlPath } from '../control/socket.ts';
import type { DetachedDevice } from '../control/vm.ts';
import { type OptionValues, parseOptions, usageError } from './arguments.ts';
import { exitCodeOf, type RunWorld } from './run.ts';
import { describeExit, formatSummary } from './summary.ts';
import { attachConsole, printLog } from './vm-console.ts';
import { VM_OPTIONS, VM_VERBS, type VmVerb } from './vm-options.ts';

export type VmWorld = Pick<RunWorld, 'stdin' | 'stdout' | 'stderr' | 'process'>;
type Options = OptionValues<typeof VM_OPTIONS>;

/** Options that only some verbs have. */
const VERBS_OF: Partial<Readonly<Record<keyof typeof VM_OPTIONS, readonly VmVerb[]>>> = {
  since: ['events'],
  kind: ['events'],
  log: ['console'],
  follow: ['console'],
  file: ['config-permit'],
  grant: ['config-permit'],
  force: ['config-permit', 'detach'],
  port: ['attach'],
  'on-error': ['attach'],
  'detach-timeout': ['detach'],
};
const KINDS: readonly string[] = [
  'state',
  'reboot',
  'warning',
  'device',
  'device-attached',
  'device-detach-requested',
  'device-detached',
  'exit',
];
/** A VM that does not answer within this is listed as such. */
const LIST_TIMEOUT_MS = 2000;

/** One command, understood. */
interface Command {
  readonly verb: VmVerb;
  readonly name: string;
  readonly bdf: string;
  readonly options: Options;
}

/**
 * @returns the exit code: 0, or for `wait` that of the run
 * @throws CausewayError USAGE, CONTROL_UNAVAILABLE, and what the VM threw
 */
export async function vmCommand(args: readonly string[], world: VmWorld): Promise<number> {
  const command = parse(args);
  if (command.verb === 'list') return list(command.options, world);
  using vm = await connectControl(command.name);
  return await obey(vm, command, world);
}

function parse(args: readonly string[]): Command {
  const words: string[] = [];
  const options = parseOptions('vm', args, VM_OPTIONS, words);
  const [verb, ...rest] = words;
  if (verb === undefined) throw usageError('vm', [`what to do is missing: ${Object.keys(VM_VERBS).join(', ')}`]);
  if (!Object.hasOwn(VM_VERBS, verb)) {
    throw usageError('vm', [`vm has no "${verb}"${didYouMean(verb, Object.keys(VM_VERBS))}`]);
  }
  const known = verb as VmVerb;
  const wanted = VM_VERBS[known].words.split(' ').filter((word) => word !== '');
  const faults = wanted.slice(rest.length).map((word) => `${word} is missing`);
  for (const word of rest.slice(wanted.length)) faults.push(`unexpected word "${word}"`);
  for (const option of Object.keys(options) as (keyof Options)[]) {
    const verbs = VERBS_OF[option];
    if (verbs && !verbs.includes(known)) faults.push(`--${option} belongs to vm ${verbs.join(', ')}`);
  }
  for (const kind of options.kind ?? []) if (!KINDS.includes(kind)) faults.push(`--kind: there is no "${kind}"`);
  if (options.file !== undefined && options.grant) faults.push('--file and --grant exclude each other');
  if (faults.length > 0) throw usageError('vm', faults);
  return { verb: known, name: rest[0] ?? '', bdf: rest[1] ?? '', options };
}

async function obey(vm: ControlClient, { verb, bdf, options }: Command, world: VmWorld): Promise<number> {
  const limit = options.timeout === undefined ? {} : { timeoutMs: options.timeout * 1000 };
  switch (verb) {
    case 'list':
    case 'info':
      await printInfo(await vm.info(limit), options, world);
      break;
    case 'pause':
      await vm.pause(limit);
      break;
    case 'resume':
      await vm.resume(limit);
      break;
    case 'power-button':
      await vm.powerButton(limit);
      break;
    case 'nmi':
      await vm.nmi(limit);
      break;
    case 'stop':
    case 'wait': {
      const exit = verb === 'stop' ? await vm.stop(limit) : await vm.wait(limit);
      const exitCode = verb === 'stop' ? EXIT_CODE.ok : exitCodeOf(exit);
      await print(world.stdout, options.json ? JSON.stringify({ exit, exitCode }) : describeExit(exit));
      return exitCode;
    }
    case 'events':
      await printEvents(vm, options, world);
      break;
    case 'console':
      if (options.log) await printLog(vm, { follow: options.follow ?? false, ...limit }, world.stdout);
      else await attachConsole(vm, world);
      break;
    case 'attach': {
      const settings = { port: options.port, onError: options['on-error'] as OnError | undefined };
      const given = Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
      const attached = await vm.attachDevice({ bdf, ...given }, limit);
      const text = `${attached.bdfs.join(', ')} is behind ${attached.port}`;
      await print(world.stdout, options.json ? JSON.stringify(attached) : text);
      break;
    }
    case 'detach': {
      const seconds = options['detach-timeout'];
      const wish = { force: options.force ?? false, ...(seconds === undefined ? {} : { timeoutMs: seconds * 1000 }) };
      const detached = await vm.detachDevice(bdf, wish, limit);
      await print(world.stdout, options.json ? JSON.stringify(detached) : describeDetached(detached));
      break;
    }
    case 'config-permit': {
      const configPermit = options.file ?? options.grant;
      const request = { bdf, configPermitForce: options.force ?? false };
      const grants = await vm.permitConfig(configPermit === undefined ? request : { ...request, configPermit }, limit);
      const mask = (bits: number): string => bits.toString(16).padStart(8, '0');
      const lines = grants.map(
        ({ offset, readBits, writeBits, writeOnly }) =>
          `${offset.toString(16).padStart(2, '0')} ${mask(readBits)} ${mask(writeBits)}${writeOnly ? ' wo' : ''}`,
      );
      await print(world.stdout, options.json ? JSON.stringify(grants) : lines.join('\n') || 'no grant is open');
    }
  }
  return EXIT_CODE.ok;
}

async function printInfo(info: VmInfo, { json }: Options, { stdout }: VmWorld): Promise<void> {
  const ended = info.exit ? `, ${describeExit(info.exit)}` : '';
  const text = `${info.state}${ended}, process ${info.pid}\n${formatSummary(info.report)}`;
  await print(stdout, json ? JSON.stringify(info) : text);
}

/** Sockets that nobody listens on are those of processes that died; they are left for the next VM of that name. */
async function list({ json }: Options, { stdout }: VmWorld): Promise<number> {
  const found = await Promise.all(
    controlNames().map(async (name) => {
      try {
        using vm = await connectControl(name);
        const { state, pid, report } = await vm.info({ timeoutMs: LIST_TIMEOUT_MS });
        return { name, path: controlPath(name), state, pid, cpus: report.cpus, memoryBytes: report.memoryBytes };
      } catch (error) {
        if (!(error instanceof CausewayError)) throw error;
        return error.code === 'CONTROL_UNAVAILABLE' ? [] : { name, path: controlPath(name), error: error.toJSON() };
      }
    }),
  );
  const vms = found.flat();
  if (json) await print(stdout, JSON.stringify(vms));
  else if (vms.length === 0) await print(stdout, 'no VM has a control socket here (causeway run --control NAME)');
  const width = Math.max(0, ...vms.map(({ name }) => name.length));
  for (const vm of json ? [] : vms) {
    const text = 'error' in vm ? `does not answer: ${String(vm.error.message)}` : `${vm.state}, process ${vm.pid}`;
    await print(stdout, `${vm.name.padEnd(width)}  ${text}`);
  }
  return EXIT_CODE.ok;
}

async function printEvents(vm: ControlClient, options: Options, { stdout }: VmWorld): Promise<void> {
  const abort = new AbortController();
  // A reader that has gone, as `head` does, ends it.
  stdout.once('error', () => abort.abort());
  const events = vm.events({
    signal: abort.signal,
    ...(options.timeout === undefined ? {} : { timeoutMs: options.timeout * 1000 }),
    ...(options.since === undefined ? {} : { sinceEventId: options.since }),
    ...(options.kind === undefined ? {} : { kinds: options.kind as Exclude<ControlEvent['type'], 'dropped'>[] }),
  });
  try {
    for await (const event of events) await print(stdout, options.json ? JSON.stringify(event) : describe(event));
  } catch (error) {
    if (!abort.signal.aborted) throw error;
  }
}

function describe(event: ControlEvent): string {
  return `${event.id} ${new Date(event.timeMs).toISOString()} ${describeContent(event)}`;
}

function describeContent(event: ControlEvent): string {
  switch (event.type) {
    case 'state':
      return event.state;
    case 'reboot':
      return `reboot ${event.count}`;
    case 'warning':
      return `warning: ${event.message}`;
    case 'device':
      return `${event.label}: ${event.what}`;
    case 'device-attached':
      return `${event.bdfs.join(', ')} attached behind ${event.port}`;
    case 'device-detach-requested':
      return `the ${event.by} wants ${event.bdfs.join(', ')} back`;
    case 'device-detached':
      return describeDetached(event);
    case 'exit':
      return describeExit(event.exit);
    case 'dropped':
      return `${event.count} events are lost`;
  }
}

function describeDetached({ bdfs, how }: DetachedDevice): string {
  return `${bdfs.join(', ')} detached${how === 'forced' ? ', by force' : ''}`;
}

/** Waits for a slow reader, so that what is not read yet stays with the VM. */
async function print(stdout: Writable, line: string): Promise<void> {
  if (!stdout.write(`${line}\n`) && !stdout.destroyed) {
    await Promise.race([once(stdout, 'drain'), once(stdout, 'close')]).catch(() => {});
  }
}
