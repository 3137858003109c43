/** The user's terminal as the guest's console: raw mode and the escape key. */

const ESCAPE = 0x01;

export const ESCAPE_HELP =
  'Ctrl-A x quits, Ctrl-A p presses the power button, Ctrl-A a types Ctrl-A, Ctrl-A h shows this';

/** What an escape sequence asks for. */
export type EscapeCommand = 'quit' | 'power' | 'help';

const COMMANDS: Readonly<Record<string, EscapeCommand>> = { x: 'quit', p: 'power', h: 'help', '?': 'help' };

/** Takes the escape sequences out of what is typed. Keeps its state between pieces. */
export class EscapeFilter {
  readonly #onCommand: (command: EscapeCommand) => void;
  #escaped = false;

  constructor(onCommand: (command: EscapeCommand) => void) {
    this.#onCommand = onCommand;
  }

  /** What is left for the guest. */
  filter(typed: Uint8Array): Uint8Array {
    const kept: number[] = [];
    for (const byte of typed) {
      if (!this.#escaped) {
        if (byte === ESCAPE) this.#escaped = true;
        else kept.push(byte);
        continue;
      }
      this.#escaped = false;
      const key = String.fromCharCode(byte).toLowerCase();
      const command = Object.hasOwn(COMMANDS, key) ? COMMANDS[key] : undefined;
      if (command) this.#onCommand(command);
      else if (key === 'a' || byte === ESCAPE) kept.push(ESCAPE);
    }
    return Uint8Array.from(kept);
  }
}

/** The part of `process.stdin` that is used. */
export interface TerminalInput {
  readonly isTTY?: boolean;
  setRawMode?(raw: boolean): unknown;
  on(event: 'data', listener: (bytes: Buffer) => void): unknown;
  off(event: 'data', listener: (bytes: Buffer) => void): unknown;
  resume(): unknown;
  pause(): unknown;
  unref?(): unknown;
}

export interface TerminalHandlers {
  type(bytes: Uint8Array): void;
  command(command: EscapeCommand): void;
}

/**
 * Sends what is typed to the guest, from a terminal in raw mode with the escape key, else as it comes.
 * Returns what gives the terminal back; it may be called twice.
 */
export function connectInput(input: TerminalInput, handlers: TerminalHandlers): () => void {
  const raw = input.isTTY === true;
  const filter = new EscapeFilter((command) => handlers.command(command));
  const listener = (bytes: Buffer): void => {
    const kept = raw ? filter.filter(bytes) : bytes;
    if (kept.length > 0) handlers.type(kept);
  };
  if (raw) input.setRawMode?.(true);
  input.on('data', listener);
  input.resume();
  // The run lasts as long as the guest, not as long as somebody might type.
  input.unref?.();
  return () => {
    input.off('data', listener);
    input.pause();
    if (raw) input.setRawMode?.(false);
  };
}
