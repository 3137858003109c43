/** The console of a VM in another process, on this terminal. */
import { once } from 'node:events';
import type { Writable } from 'node:stream';
import type { ConsolePiece, ControlClient } from '../control/connect-control.ts';
import type { CallOptions } from '../control/rpc/service.ts';
import type { RunWorld } from './run.ts';
import { StopRequest } from './stop-request.ts';
import { connectInput, type EscapeCommand } from './terminal.ts';

const HELP =
  'Ctrl-A x leaves the console, Ctrl-A p presses the power button, Ctrl-A a types Ctrl-A, Ctrl-A h shows this';

/** Prints what the guest has written so far, and with `follow` what it goes on to write. */
export async function printLog(
  vm: ControlClient,
  options: CallOptions & { readonly follow: boolean },
  stdout: Writable,
): Promise<void> {
  for await (const piece of vm.consoleLog(options)) await show(stdout, piece);
}

/** Until the run ends, the escape key, a signal, or the end of what the terminal takes. */
export async function attachConsole(
  vm: ControlClient,
  { stdin, stdout, stderr, process }: Pick<RunWorld, 'stdin' | 'stdout' | 'stderr' | 'process'>,
): Promise<void> {
  using stop = new StopRequest(process);
  const leave = (): void => stop.request({ exitCode: 0 });
  const tell = (text: string): void => void stderr.write(`causeway: ${text}\n`);
  const obey = (command: EscapeCommand): void => {
    if (command === 'quit') leave();
    else if (command === 'help') tell(HELP);
    else vm.powerButton().catch((error: Error) => tell(error.message));
  };
  const keys = new KeyQueue();
  if (stdin.isTTY) tell(HELP);
  stdout.once('error', leave);
  const disconnect = connectInput(stdin, { type: (bytes) => keys.push(bytes), command: obey });
  try {
    for await (const piece of vm.console(keys.read(stop.signal), { signal: stop.signal })) await show(stdout, piece);
  } catch (error) {
    if (!stop.cause) throw error;
  } finally {
    disconnect();
  }
}

/** What was typed and is not sent yet. */
class KeyQueue {
  #typed: Uint8Array[] = [];
  #wake: () => void = () => {};

  push(bytes: Uint8Array): void {
    this.#typed.push(Uint8Array.from(bytes));
    this.#wake();
  }

  async *read(signal: AbortSignal): AsyncGenerator<Uint8Array> {
    signal.addEventListener('abort', () => this.#wake(), { once: true });
    while (!signal.aborted) {
      const typed = this.#typed;
      this.#typed = [];
      if (typed.length > 0) yield Buffer.concat(typed);
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }
}

async function show(stdout: Writable, { data, droppedBytes }: ConsolePiece): Promise<void> {
  if (droppedBytes > 0) stdout.write(`\n[${droppedBytes} bytes are lost]\n`);
  if (!stdout.write(data) && !stdout.destroyed) {
    await Promise.race([once(stdout, 'drain'), once(stdout, 'close')]).catch(() => {});
  }
}
