/** Reads a Linux console for the kernel's own reports of trouble, and gives each a fingerprint. */

/** What a guest got into. `exit` is no report of the kernel: the VM itself ended. */
export interface Trouble {
  readonly kind: 'crash' | 'hang' | 'exit';
  /** `NULL pointer dereference`, `panic: Fatal exception`, `soft lockup`, or how the VM ended. */
  readonly what: string;
  /** `what` and the first functions, without addresses: equal for equal bugs. */
  readonly fingerprint: string;
  /** The lines that say so. */
  readonly text: string;
}

/** How a report begins, and what it is called. The order decides where a line fits two. */
const BEGINNINGS: readonly (readonly ['crash' | 'hang' | 'warning', RegExp, string])[] = [
  ['hang', /watchdog: BUG: soft lockup/, 'soft lockup'],
  ['hang', /Watchdog detected hard LOCKUP/, 'hard lockup'],
  ['hang', /rcu: INFO: \w+ (?:self-)?detected (?:expedited )?stalls?/, 'RCU stall'],
  ['hang', /INFO: task \S+ blocked for more than/, 'hung task'],
  ['crash', /BUG: kernel NULL pointer dereference/, 'NULL pointer dereference'],
  ['crash', /BUG: unable to handle page fault/, 'page fault'],
  ['crash', /BUG: KASAN: (\S+)/, 'KASAN $1'],
  ['crash', /BUG: (?:sleeping function called|scheduling while atomic|spinlock|workqueue lockup)/, 'BUG'],
  ['crash', /kernel BUG at ([^:]+):\d+!/, 'BUG at $1'],
  ['crash', /general protection fault/, 'general protection fault'],
  ['crash', /^(?:stack segment|invalid opcode|divide error|double fault|traps:.*trap)\b.*\[#\d+\]/, 'CPU exception'],
  ['crash', /Oops: /, 'oops'],
  ['crash', /Kernel panic - not syncing: (.*)/, 'panic: $1'],
  ['warning', /WARNING: (?:CPU: \d+ PID: \d+ )?at (\S+?):\d+/, 'WARNING at $1'],
];

const END = /---\[ end (?:Kernel panic|trace)/;
const PANIC = /Kernel panic - not syncing: (.*)/;
/** A report that goes on for longer is cut off. */
const MAX_LINES = 300;
/** The kernel is done when it is silent for so long; a panic may follow an oops. */
const SETTLE_MS = 2000;
const FRAMES = 3;
/** Functions that report, and tell nothing of what happened. */
const REPORTERS =
  /^(?:dump_stack|show_stack|show_regs|panic|vpanic|__?die|oops_|exc_|asm_|do_trap|do_error_trap|__warn|warn_|report_bug|handle_bug|page_fault_oops|watchdog|nmi_|default_do_nmi|do_nmi|end_repeat_nmi|unknown_nmi|no_context|bad_area|kernelmode_fixup)/;

export interface CrashWatchOptions {
  /** A report is complete. */
  readonly onTrouble: (trouble: Trouble) => void;
  readonly onWarning: (trouble: Trouble) => void;
  /** Default 2 s. */
  readonly settleMs?: number;
}

export class CrashWatch implements Disposable {
  readonly #options: CrashWatchOptions;
  #report: { kind: 'crash' | 'hang' | 'warning'; what: string; lines: string[] } | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: CrashWatchOptions) {
    this.#options = options;
  }

  /** Whether a report has begun and is not complete. */
  get isReading(): boolean {
    return this.#report !== undefined;
  }

  line(raw: string): void {
    const line = withoutStamp(raw);
    const begun = beginningOf(line);
    const report = this.#report;
    if (!report) {
      if (!begun) return;
      this.#report = { ...begun, lines: [raw] };
    } else {
      if (report.lines.length < MAX_LINES) report.lines.push(raw);
      // What follows a warning or a stall may be the real thing.
      if (begun?.kind === 'crash' && report.kind !== 'crash') Object.assign(report, begun);
    }
    clearTimeout(this.#timer);
    const isLast = END.test(line) && PANIC.test(this.#report!.lines.join('\n')) && line.includes('Kernel panic');
    if (isLast) this.finish();
    else this.#timer = setTimeout(() => this.finish(), this.#options.settleMs ?? SETTLE_MS);
  }

  /** Nothing more comes: what has begun is complete. */
  finish(): void {
    clearTimeout(this.#timer);
    const report = this.#report;
    this.#report = undefined;
    if (!report) return;
    const { kind, what, lines } = report;
    const where = functionsOf(lines);
    const fingerprint = [what, ...(where.length > 0 ? [`in ${where.join(' < ')}`] : [])].join(' ');
    const trouble = { kind: kind === 'warning' ? 'crash' : kind, what, fingerprint, text: lines.join('\n') } as const;
    if (kind === 'warning') this.#options.onWarning(trouble);
    else this.#options.onTrouble(trouble);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#report = undefined;
  }
}

/** Without `[    1.234567]` and the processor or thread that some kernels add. */
function withoutStamp(line: string): string {
  return line.replace(/^\s*(?:<\d>)?\[\s*\d+\.\d+\](?:\[\s*[CT]\d+\])?\s?/, '');
}

function beginningOf(line: string): { kind: 'crash' | 'hang' | 'warning'; what: string } | undefined {
  for (const [kind, pattern, name] of BEGINNINGS) {
    const match = pattern.exec(line);
    // Numbers differ from one time to the next.
    if (match) return { kind, what: name.replace('$1', (match[1] ?? '').trim().replaceAll(/\d+/g, 'N')) };
  }
  return undefined;
}

/** The function of the first RIP, then those of the first trace that do more than report. */
export function functionsOf(lines: readonly string[]): string[] {
  const rip = lines.map((line) => /\bRIP: [0-9a-f]+:([\w.]+)\+0x/.exec(line)?.[1]).find(Boolean);
  const frames: string[] = [];
  let inTrace = false;
  for (const line of lines.map(withoutStamp)) {
    if (/Call Trace:/.test(line)) {
      if (frames.length > 0) break;
      inTrace = true;
    } else if (inTrace) {
      const name = /^\s+(?!\?)([\w.]+)\+0x[0-9a-f]+\/0x[0-9a-f]+/.exec(line)?.[1];
      if (name !== undefined && !REPORTERS.test(name)) frames.push(name);
      else if (/^(?:RIP|Code|Modules linked in|---)/.test(line) && frames.length > 0) break;
    }
  }
  const all = rip === undefined ? frames : [rip, ...frames.filter((name, i) => i > 0 || name !== rip)];
  // Optimised parts of a function (foo.cold, foo.isra.0) are the function.
  return all.slice(0, FRAMES + 1).map((name) => name.replace(/\..*$/, ''));
}
