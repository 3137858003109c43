/** For tests: a fake VM behind a real control socket. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ControlClient, connectControl } from '../control/connect-control.ts';
import type { ControlOptions } from '../control/control-service.ts';
import { EventHub } from '../control/event-hub.ts';
import { type ControlServer, serveControl } from '../control/serve-control.ts';
import type { VmEvent, VmExit } from '../control/vm.ts';
import { FakeVm } from './fake-vm.ts';

/** Pauses, resumes and tells what happens, as the real one does. */
export class ControlledVm extends FakeVm {
  readonly hub = new EventHub<VmEvent>();
  failure: unknown;
  nmis = 0;

  override async pause(): Promise<void> {
    if (this.failure) throw this.failure;
    this.state = 'paused';
    this.hub.emit({ type: 'state', state: 'paused' });
  }

  override resume(): void {
    this.state = 'running';
    this.hub.emit({ type: 'state', state: 'running' });
  }

  override emit(event: VmEvent): void {
    this.hub.emit(event);
  }

  override events(): AsyncGenerator<VmEvent> {
    return this.hub.stream() as AsyncGenerator<VmEvent>;
  }

  override nmi(): void {
    this.nmis++;
  }

  exitWith(exit: VmExit): void {
    this.state = 'stopped';
    this.end(exit);
  }
}

/** A served VM with as many clients as a test wants; all of it goes with `await using`. */
export class Served implements AsyncDisposable {
  readonly vm = new ControlledVm();
  readonly folder: string = mkdtempSync(join(tmpdir(), 'causeway-control-'));
  readonly path: string = join(this.folder, 'vm.sock');
  server!: ControlServer;
  readonly #clients: ControlClient[] = [];

  static async open(options: ControlOptions = {}): Promise<Served> {
    const served = new Served();
    served.vm.state = 'running';
    served.server = await serveControl(served.vm, served.path, options);
    return served;
  }

  async connect(): Promise<ControlClient> {
    const client = await connectControl(this.path);
    this.#clients.push(client);
    return client;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.close();
    await this.server.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The first `count` of what comes. */
export async function take<T>(source: AsyncIterable<T>, count: number): Promise<T[]> {
  const taken: T[] = [];
  if (count === 0) return taken;
  for await (const item of source) if (taken.push(item) === count) break;
  return taken;
}
