/** One vCPU as the machine thread sees it: creates it, runs its thread, pauses and stops it, serves its calls. */
import { Worker } from 'node:worker_threads';
import type { CpuidEntry, Fd, GeneralRegisters, Hva, Msr, Native, SystemRegisters } from '../../native/types.ts';
import { hasErrno } from '../base/errors.ts';
import type { BusMemory } from '../bus/bus-memory.ts';
import type { ConfigStore } from '../pci/config-window.ts';
import { CALL, CONTROL, type Mailbox, VCPU_STATE } from './mailbox.ts';
import type { VcpuThreadData } from './vcpu-thread.ts';

/** What serves the calls of vCPU threads, on the machine thread. */
export interface VcpuService {
  read(space: number, address: number, width: number): number;
  write(space: number, address: number, width: number, value: number): void;
  /** KVM_RUN came back with something that the vCPU cannot go on from by itself. */
  notice(vcpu: Vcpu, kind: number, detail: number): void;
}

/** Registers that a vCPU starts with; an application processor waits for its INIT and needs none. */
export interface VcpuBoot {
  readonly cpuid: readonly CpuidEntry[];
  readonly msrs: readonly Msr[];
  readonly start?: { readonly regs: GeneralRegisters; sregs(reset: SystemRegisters): SystemRegisters };
}

/** The thread's heap holds one loop; small spaces keep its memory small. */
const THREAD_LIMITS = { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 16, stackSizeMb: 1 };

export class Vcpu {
  readonly index: number;
  readonly mailbox: Mailbox;
  readonly #native: Native;
  readonly #fd: Fd;
  readonly #run: { readonly hva: Hva; readonly sizeBytes: number };
  #worker: Worker | undefined;
  #ended: Promise<void> = Promise.resolve();

  /** @throws KernelError of KVM_CREATE_VCPU and its set-up */
  constructor(native: Native, kvm: Fd, vm: Fd, index: number, mailbox: Mailbox, boot: VcpuBoot) {
    this.#native = native;
    this.index = index;
    this.mailbox = mailbox;
    mailbox.reset();
    this.#fd = native.vmCreateVcpu(vm, index);
    try {
      this.#run = native.vcpuMapRun(kvm, this.#fd);
      this.#keepHostTsc();
      native.vcpuSetCpuid(this.#fd, boot.cpuid);
      native.vcpuSetMsrs(this.#fd, boot.msrs);
      if (boot.start) {
        native.vcpuSetSregs(this.#fd, boot.start.sregs(native.vcpuGetSregs(this.#fd)));
        native.vcpuSetRegs(this.#fd, boot.start.regs);
      }
    } catch (error) {
      native.close(this.#fd);
      throw error;
    }
  }

  /**
   * Where KVM is part of the kernel and the TSC is not constant, KVM gives a vCPU the rate that the host measured first when it
   * booted. If that was too low, it fails half-way and goes on: KVM takes the guest's TSC to stand still, and timers never fire.
   */
  #keepHostTsc(): void {
    try {
      this.#native.vcpuSetTscKhz(this.#fd, 0);
    } catch (error) {
      if (!hasErrno(error, 'EINVAL')) throw error;
    }
  }

  /** Starts the thread; it runs the guest at once unless a pause was asked for before. */
  start(bus: BusMemory, config: ConfigStore, failed: (error: unknown) => void): void {
    const workerData: VcpuThreadData = {
      vcpu: this.#fd,
      run: this.#run.hva,
      runBytes: this.#run.sizeBytes,
      bus: bus.memory,
      config: config.memory,
      configCapacity: config.windows.length,
      mailbox: this.mailbox.memory,
    };
    const worker = new Worker(new URL('./vcpu-thread.js', import.meta.url), {
      workerData,
      name: `vcpu${this.index}`,
      resourceLimits: THREAD_LIMITS,
      execArgv: [],
    });
    this.#worker = worker;
    this.#ended = new Promise((resolve) => worker.once('exit', () => resolve()));
    worker.once('error', failed);
  }

  /** Handles the call that waits, if any. Posted writes come first: the caller has drained them. */
  serve(service: VcpuService): void {
    this.mailbox.serveCall((op, space, address, width, value) => {
      if (op === CALL.read) return service.read(space, address, width);
      if (op === CALL.write) service.write(space, address, width, value);
      else service.notice(this, address, value);
      return 0;
    });
  }

  /** True while the thread has not ended. */
  get alive(): boolean {
    return this.#worker !== undefined;
  }

  /** Asks for a pause; {@link paused} tells when it holds. */
  requestPause(): void {
    this.#request(CONTROL.pause);
  }

  /** Resolves when the thread is out of the guest. The machine thread must go on serving calls meanwhile. */
  async paused(): Promise<void> {
    for (;;) {
      const { state } = this.mailbox;
      if (state === VCPU_STATE.paused || state === VCPU_STATE.stopped || !this.#worker) return;
      await Promise.race([this.mailbox.leavesState(state), this.#ended]);
    }
  }

  /** Lets a paused vCPU go on. Every ioctl on it comes before: one on a vCPU that runs waits until it leaves KVM_RUN. */
  resume(): void {
    try {
      this.#native.vcpuClockPaused(this.#fd);
    } catch (error) {
      // The guest has no kvmclock, or not yet: then there is no watchdog to tell.
      if (!hasErrno(error, 'EINVAL')) throw error;
    }
    this.mailbox.setControl(CONTROL.run);
  }

  /** Asks the thread to end; {@link ended} tells when it has. */
  requestStop(): void {
    this.#request(CONTROL.stop);
  }

  /** Resolves when the thread is gone. */
  async ended(): Promise<void> {
    await this.#ended;
    this.#worker = undefined;
  }

  /** After the thread ended: frees the run page and the vCPU. */
  close(): void {
    this.#native.unmap(this.#run.hva);
    this.#native.close(this.#fd);
  }

  /** The thread must be out of KVM_RUN: paused, ended, or waiting for an answer. */
  registers(): GeneralRegisters {
    return this.#native.vcpuGetRegs(this.#fd);
  }

  /** As {@link registers}: segments, tables and control registers. */
  systemRegisters(): SystemRegisters {
    return this.#native.vcpuGetSregs(this.#fd);
  }

  #request(control: number): void {
    this.mailbox.setControl(control);
    if (this.#worker) this.#native.vcpuKick(this.#fd);
  }
}
