/** Scripted guests, for tests of the harness itself. */
import { appendFileSync } from 'node:fs';
import type { Vm } from '../../../index.ts';
import { CausewayError } from '../../../vmm/base/errors.ts';
import type {
  BootOptions,
  CommandResult,
  GuestMaker,
  LinuxGuest,
  PayloadOptions,
  PayloadOutcome,
  Trouble,
} from '../guests.ts';

/** What a guest does at each of its verbs; what is left out goes well. */
export interface GuestScript {
  /** Instead of becoming ready. */
  readonly boot?: (guest: FakeGuest, options: BootOptions) => void | Promise<void>;
  readonly run?: (command: string, guest: FakeGuest) => CommandResult | Promise<CommandResult>;
  readonly sysrq?: (key: string, guest: FakeGuest) => void;
  readonly nmi?: (guest: FakeGuest) => void;
  readonly kill?: (guest: FakeGuest) => void | Promise<void>;
}

export class FakeGuest implements LinuxGuest {
  readonly trouble: Promise<Trouble>;
  readonly asked: string[] = [];
  isEnded = false;
  #text = '';
  readonly #script: GuestScript;
  readonly #onConsole: (bytes: Uint8Array) => void;
  #tell: (trouble: Trouble) => void = () => {};
  /** Commands that will not be answered. */
  readonly #waiting = new Set<(error: Error) => void>();

  constructor(script: GuestScript, options: BootOptions) {
    this.#script = script;
    this.#onConsole = options.onConsole ?? (() => {});
    this.trouble = new Promise((resolve) => {
      this.#tell = resolve;
    });
  }

  /** The one thing of it that the harness looks at. */
  get vm(): Vm {
    return { state: this.isEnded ? 'closed' : 'running' } as Vm;
  }

  print(text: string): void {
    this.#text += text;
    this.#onConsole(new TextEncoder().encode(text));
  }

  getIntoTrouble(trouble: Trouble): void {
    this.print(trouble.text);
    this.#tell(trouble);
  }

  async run(command: string): Promise<CommandResult> {
    this.asked.push(command);
    const answer = this.#script.run?.(command, this) ?? { code: 0, stdout: '', stderr: '' };
    return Promise.race([
      answer,
      new Promise<never>((_, reject) => {
        this.#waiting.add(reject);
      }),
    ]);
  }

  async must(command: string): Promise<string> {
    const { code, stdout } = await this.run(command);
    if (code !== 0) throw new Error(`"${command}" ended with ${code}`);
    return stdout;
  }

  async expect(pattern: string | RegExp): Promise<string> {
    const match = new RegExp(pattern).exec(this.#text);
    if (!match) throw new CausewayError('TIMEOUT', `the console did not show ${pattern}`);
    return match[0];
  }

  console(): string {
    return this.#text;
  }

  nmi(): void {
    this.asked.push('NMI');
    this.#script.nmi?.(this);
  }

  sysrq(key: string): void {
    this.asked.push(`SysRq ${key}`);
    this.#script.sysrq?.(key, this);
  }

  async dump(path: string): Promise<readonly string[]> {
    appendFileSync(`${path}.console.log`, this.#text);
    return [`${path}.console.log`];
  }

  shutdown(): Promise<void> {
    return this.kill();
  }

  async kill(): Promise<void> {
    if (this.isEnded) return;
    this.isEnded = true;
    await this.#script.kill?.(this);
    for (const reject of this.#waiting) reject(new CausewayError('STATE', 'the guest has ended'));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}

export interface FakeGuests extends GuestMaker {
  /** All that were made, in order. */
  readonly made: readonly FakeGuest[];
}

/** @param script of the guests in order; the last one holds for all that follow */
export function fakeGuests(
  scripts: readonly GuestScript[] = [{}],
  payload: (options: PayloadOptions) => PayloadOutcome | Promise<PayloadOutcome> = () => emptyOutcome(),
): FakeGuests {
  const made: FakeGuest[] = [];
  return {
    made,
    bootLinux: async (options) => {
      const script = scripts[Math.min(made.length, scripts.length - 1)]!;
      const guest = new FakeGuest(script, options);
      made.push(guest);
      options.onCreated(guest);
      try {
        await script.boot?.(guest, options);
      } catch (error) {
        await guest.kill();
        throw error;
      }
      return guest;
    },
    runPayload: async (options) => payload(options),
  };
}

export function emptyOutcome(): PayloadOutcome {
  return { results: [], metrics: {}, value: 0, exit: { reason: 'debug-exit' }, console: '' };
}
