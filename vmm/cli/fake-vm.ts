/** A VM for tests of the command line: it does what its script says. */
import type { SerialConsole, Vm, VmEvent, VmExit, VmReport, VmState } from '../control/vm.ts';

export class FakeVm implements Vm {
  state: VmState = 'created';
  readonly calls: string[] = [];
  readonly typed: string[] = [];
  readonly exited: Promise<VmExit>;
  /** Ends the run as the guest would. */
  end!: (exit: VmExit) => void;
  startError: unknown;
  readonly #listeners = new Set<(bytes: Uint8Array) => void>();
  readonly #events: VmEvent[] = [];
  #endEvents: () => void = () => {};
  readonly #closed: Promise<void>;

  constructor() {
    this.exited = new Promise((resolve) => {
      this.end = resolve;
    });
    this.#closed = new Promise((resolve) => {
      this.#endEvents = resolve;
    });
  }

  readonly serial: SerialConsole = {
    onData: (listener) => {
      this.#listeners.add(listener);
      return () => this.#listeners.delete(listener);
    },
    write: (input) => void this.typed.push(Buffer.from(input).toString('latin1')),
    sendBreak: () => void this.typed.push('(break)'),
    text: () => '',
    output: () => this.#nothing(),
    lines: () => this.#nothing(),
    waitFor: () => Promise.reject(new Error('not here')),
  };

  readonly channel: SerialConsole | undefined = undefined;

  print(text: string): void {
    for (const listener of this.#listeners) listener(Buffer.from(text));
  }

  emit(event: VmEvent): void {
    this.#events.push(event);
  }

  async start(): Promise<void> {
    this.calls.push('start');
    if (this.startError) throw this.startError;
    this.state = 'running';
  }

  async pause(): Promise<void> {}
  resume(): void {}

  nmi(): void {
    this.calls.push('nmi');
  }

  readMemory(): never {
    throw new Error('not here');
  }

  writeMemory(): void {}

  registers(): Promise<never> {
    return Promise.reject(new Error('not here'));
  }

  dump(): Promise<never> {
    return Promise.reject(new Error('not here'));
  }

  powerButton(): void {
    this.calls.push('powerButton');
  }

  async attachDevice(device: Parameters<Vm['attachDevice']>[0]): ReturnType<Vm['attachDevice']> {
    this.calls.push(`attach ${JSON.stringify(device)}`);
    return { bdfs: ['0000:01:00.0'], port: 'hotplug1' };
  }

  async detachDevice(bdf: string, options: Parameters<Vm['detachDevice']>[1] = {}): ReturnType<Vm['detachDevice']> {
    this.calls.push(`detach ${bdf} ${JSON.stringify(options)}`);
    return { bdfs: [bdf], how: options.force ? 'forced' : 'released' };
  }

  async stop(): Promise<void> {
    this.end({ reason: 'stopped' });
  }

  async close(): Promise<void> {
    this.calls.push('close');
    await this.stop();
    this.state = 'closed';
    this.#endEvents();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async *events(): AsyncGenerator<VmEvent> {
    await this.#closed;
    yield* this.#events;
  }

  exits(): VmReport['exits'] {
    return { port: 50, console: 850, mmio: 12, config: 300, kick: 5, other: 0, total: 1217 };
  }

  report(): VmReport {
    const released = this.state === 'closed' ? [{ when: 'release', method: 'flr', ok: true } as const] : [];
    return {
      name: 'vm',
      cpus: 2,
      memoryBytes: 2 ** 30,
      kernel: 'vmlinuz',
      exits: this.exits(),
      reboots: 1,
      devices: [
        {
          label: '0000:01:00.0 8086:10d3',
          address: { bus: 0, device: 1, function: 0 },
          bars: [
            bar(0, 0x20000, [{ offset: 0, sizeBytes: 0x20000, mode: 'direct' }], 0xfe000000),
            bar(3, 0x4000, [
              { offset: 0, sizeBytes: 0x1000, mode: 'trap', why: 'msix-table' },
              { offset: 0x1000, sizeBytes: 0x3000, mode: 'direct' },
            ]),
          ],
          interrupts: { mode: 'msix', available: 5, routed: 3 },
          resets: [{ when: 'boot', method: 'flr', ok: true }, ...released],
        },
      ],
    };
  }

  async *#nothing(): AsyncGenerator<never> {}
}

type Bar = VmReport['devices'][number]['bars'][number];

function bar(index: number, sizeBytes: number, areas: Bar['areas'], gpa?: number): Bar {
  return {
    index,
    sizeBytes,
    kind: 'memory',
    is64: false,
    prefetchable: false,
    areas,
    ...(gpa === undefined ? {} : { gpa }),
  };
}
