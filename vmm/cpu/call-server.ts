/** The machine thread's answer to vCPU threads: waits for the doorbell, takes posted writes, serves calls. */
import type { BusMemory } from '../bus/bus-memory.ts';
import type { TrapTable } from '../bus/trap-table.ts';
import { NOTICE, SPACE } from './mailbox.ts';
import type { Vcpu, VcpuService } from './vcpu.ts';

/**
 * After so long the event loop has its turn, whatever guests do: console, control service and signals live there. To wait
 * here for the next call of a burst, asleep or spinning, makes none faster: waking this thread costs the same either way.
 */
const TURN_MS = 8;

export interface CallServerOptions {
  readonly bus: BusMemory;
  readonly ports: TrapTable;
  readonly mmio: TrapTable;
  /** KVM_RUN came back with something that only the machine can judge; see NOTICE. */
  onNotice(vcpu: Vcpu, kind: number, detail: number): void;
}

export class CallServer implements VcpuService {
  readonly #options: CallServerOptions;
  #vcpus: readonly Vcpu[] = [];

  constructor(options: CallServerOptions) {
    this.#options = options;
  }

  /** Serves these vCPUs until none of them is alive. */
  start(vcpus: readonly Vcpu[]): void {
    this.#vcpus = vcpus;
    this.#listen();
  }

  /** Takes what vCPU threads have posted so far. */
  drain(): void {
    this.#takePosts();
  }

  /** After the threads ended: takes what they left, and lets go of the doorbell. */
  finish(): void {
    this.#serve();
    this.#options.bus.bell.ring();
  }

  #listen(): void {
    const { bell } = this.#options.bus;
    bell.awake();
    const turnEndsMs = performance.now() + TURN_MS;
    const again = (): void => {
      if (this.#vcpus.some((vcpu) => vcpu.alive)) this.#listen();
    };
    do {
      // Before serving: a ring in between makes for another round.
      const { rings } = bell;
      this.#serve();
      const ring = bell.sleep(rings);
      if (!ring) continue;
      void ring.then(again);
      return;
    } while (performance.now() < turnEndsMs);
    setImmediate(again);
  }

  #serve(): void {
    for (const vcpu of this.#vcpus) {
      this.#takePosts();
      vcpu.serve(this);
    }
    this.#takePosts();
  }

  #takePosts(): void {
    this.#options.bus.posts.drain((port, width, value) => this.write(SPACE.port, port, width, value));
  }

  read(space: number, address: number, width: number): number {
    const found = this.#tableOf(space).handlerAt(address);
    return found ? found.handler.read(found.offset, width) : 0xffff_ffff;
  }

  write(space: number, address: number, width: number, value: number): void {
    const found = this.#tableOf(space).handlerAt(address);
    found?.handler.write(found.offset, width, value);
  }

  notice(vcpu: Vcpu, kind: number, detail: number): void {
    if (kind === NOTICE.burst) {
      this.#options.mmio.burst(detail);
      this.#options.ports.burst(detail);
    } else this.#options.onNotice(vcpu, kind, detail);
  }

  #tableOf(space: number): TrapTable {
    return space === SPACE.port ? this.#options.ports : this.#options.mmio;
  }
}
