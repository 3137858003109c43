/** Runs one bare-metal payload in a VM of its own and collects its results. */
import { createVm, type ExitCounters, type Vm, type VmConfig, type VmExit, type VmReport } from '../../index.ts';
import { type KtapReport, parseKtap, type TestResult } from './ktap.ts';

/** What the payload is told on its command line, as `name=value`. */
export type PayloadArgs = Readonly<Record<string, string | number>>;

export interface PayloadOptions {
  /** The payload's ELF file. */
  readonly kernel: string;
  readonly args?: PayloadArgs;
  /** The VM. Default: one vCPU, 32 MiB, no device, no reboots. */
  readonly vm?: Omit<VmConfig, 'kernel' | 'cmdline'>;
  /** Default 30 s. */
  readonly timeoutMs?: number;
  /** What the host does while the guest runs; the run ends with both, or when this fails. */
  readonly meanwhile?: (vm: Vm) => Promise<void>;
  /** Called when the guest has ended, while its devices are still open. */
  readonly onExit?: () => void;
  /** Receives console output as it comes. */
  readonly onConsole?: (text: string) => void;
}

/** How it went. */
export interface PayloadRun extends Pick<KtapReport, 'planned' | 'metrics' | 'distributions'> {
  /** In the order of the payload. What the plan announces and has no result counts as failed. */
  readonly results: readonly TestResult[];
  /** How the run ended; undefined when it had to be stopped because its time was up. */
  readonly exit: VmExit | undefined;
  /** The debug-exit value; undefined when it ended otherwise. 0: all passed. */
  readonly value: number | undefined;
  readonly console: string;
  readonly exits: ExitCounters;
  readonly report: VmReport;
  readonly warnings: readonly string[];
  /** From the start of the vCPUs to the end, without creation and release. */
  readonly runMs: number;
  readonly totalMs: number;
}

/**
 * @throws CausewayError when the VM cannot be created; what `meanwhile` throws
 * @example const { value, results } = await runPayload({ kernel: payloads.get('basics')!, args: { cpus: 1 } });
 */
export async function runPayload(options: PayloadOptions): Promise<PayloadRun> {
  const { kernel, args = {}, timeoutMs = 30_000, meanwhile, onExit, onConsole } = options;
  const cmdline = Object.entries(args)
    .map(([name, value]) => `${name}=${value}`)
    .join(' ');
  const began = performance.now();
  const vm = await createVm({ memory: '32M', rebootLimit: 0, ...options.vm, kernel, cmdline });
  let run: Omit<PayloadRun, 'totalMs'>;
  try {
    const decoder = new TextDecoder();
    if (onConsole) vm.serial.onData((bytes) => onConsole(decoder.decode(bytes, { stream: true })));
    const warnings = collectWarnings(vm.events());
    const started = performance.now();
    await vm.start();
    const both = Promise.all([vm.exited, meanwhile?.(vm)]).then(([exit]) => exit);
    const exit = await withTimeout(both, timeoutMs);
    onExit?.();
    const runMs = performance.now() - started;
    const report = vm.report();
    await vm.stop();
    const console = vm.serial.text();
    const value = exit?.reason === 'debug-exit' ? exit.value : undefined;
    const ktap = parseKtap(console);
    const ending = exit ? `the run ended with ${JSON.stringify(exit)}` : `no end within ${timeoutMs} ms`;
    run = {
      planned: ktap.planned,
      metrics: ktap.metrics,
      distributions: ktap.distributions,
      results: completeResults(ktap, ending),
      exit,
      value,
      console,
      exits: vm.exits(),
      report,
      warnings,
      runMs,
    };
  } finally {
    await vm.close();
  }
  return { ...run, totalMs: performance.now() - began };
}

/** Makes a failure of everything that should have a result and has none. */
function completeResults({ planned, results, bailOut }: KtapReport, ending: string): TestResult[] {
  if (planned === undefined) return [...results, { name: 'plan', verdict: 'fail', reason: `no plan: ${ending}` }];
  const missing = planned - results.length;
  if (missing <= 0) return [...results];
  const reason = bailOut ? `${bailOut}; ${ending}` : ending;
  // Giving up has a result of its own; a hang or a reset has none.
  const hit = bailOut ? [] : [{ name: `test ${results.length + 1} of ${planned}`, verdict: 'fail' as const, reason }];
  const rest = missing - hit.length;
  const after = { name: `(${rest} more)`, verdict: 'fail' as const, reason: `not run: ${reason}` };
  return [...results, ...hit, ...(rest > 0 ? [after] : [])];
}

/** Fills up while events come; the stream ends with the VM. */
function collectWarnings(events: AsyncIterable<{ readonly type: string; readonly message?: string }>): string[] {
  const warnings: string[] = [];
  void (async () => {
    for await (const event of events) if (event.type === 'warning') warnings.push(event.message ?? '');
  })();
  return warnings;
}

/** Resolves with undefined when it takes longer. */
async function withTimeout<T>(promise: Promise<T>, timeoutMs: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), timeoutMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
