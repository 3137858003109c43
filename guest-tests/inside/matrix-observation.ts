/** What one guest of the matrix said and cost, gathered from its console as it comes. */

/** Lines that the guest prints: `MATRIX name word value`. */
const LINE = /^MATRIX (\S+) (\S+) ?(.*)$/;

/** Exits of all vCPUs of a VM, as its monitor's host counts them. */
export interface ExitCount {
  readonly io: number;
  readonly mmio: number;
}

/** What became of one device. */
export interface Outcome {
  readonly works: boolean;
  /** What the guest found wrong, or the last it said. */
  readonly failure?: string;
  /** From binding the driver to what it makes: an interface, a disk. Seconds of the guest's clock, which counts hundredths. */
  readonly readySeconds?: number;
  readonly operations?: number;
  /** I/O and MMIO exits for one of them, without what the same silence costs when nothing works. */
  readonly exitsPerOperation?: number;
  readonly interrupts?: string;
}

export interface Moment {
  readonly name: string;
  readonly word: string;
  readonly value: string;
  readonly exits: ExitCount;
}

/** A monitor to run in the lab. */
export interface MatrixRun {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
}

/** How it ended, and what the guest said meanwhile. */
export interface MatrixRunResult {
  readonly code: number | null;
  readonly moments: readonly Moment[];
  readonly console: string;
  readonly complaints: string;
}

/** Cuts a console into lines and keeps the marks among them, each with the exits at the moment it came. */
export class Observation {
  readonly moments: Moment[] = [];
  #rest = '';
  readonly #countExits: () => ExitCount;

  constructor(countExits: () => ExitCount) {
    this.#countExits = countExits;
  }

  push(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      const [, name, word, value] = LINE.exec(line.trimEnd()) ?? [];
      if (name !== undefined && word !== undefined) {
        this.moments.push({ name, word, value: value ?? '', exits: this.#countExits() });
      }
    }
  }
}

/** Makes an outcome of each device's moments. */
export function outcomes(names: readonly string[], moments: readonly Moment[]): Record<string, Outcome> {
  const idle = exitsOfWork(moments.filter(({ name }) => name === 'nothing')) ?? 0;
  return Object.fromEntries(
    names.map((name) => [
      name,
      outcome(
        moments.filter((one) => one.name === name),
        idle,
      ),
    ]),
  );
}

function outcome(moments: readonly Moment[], idle: number): Outcome {
  const value = (word: string) => moments.find((moment) => moment.word === word)?.value;
  const [bound, ready, operations] = [value('bind'), value('ready'), Number(value('counted'))];
  const exits = exitsOfWork(moments);
  const last = moments.at(-1);
  const works = last?.word === 'done';
  const irq = value('irq')?.split(' ');
  return {
    works,
    ...(works ? {} : { failure: last ? `${last.word} ${last.value}`.trim() : 'the guest never came to it' }),
    ...(bound && ready ? { readySeconds: Math.round((Number(ready) - Number(bound)) * 100) / 100 } : {}),
    ...(exits === undefined ? {} : { operations, exitsPerOperation: Math.max(0, exits - idle) / operations }),
    ...(irq ? { interrupts: irq.join(' ') } : {}),
  };
}

/** Between the two marks around the work. */
function exitsOfWork(moments: readonly Moment[]): number | undefined {
  const [from, to] = ['work', 'counted'].map((word) => moments.find((moment) => moment.word === word)?.exits);
  return from && to && to.io + to.mmio - from.io - from.mmio;
}
