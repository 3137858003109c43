/**
 * Is this KVM real? It is asked by running a guest of six instructions: a loop whose speed shows whether the processor
 * runs it or somebody interprets it, and a port that leaves the guest, whose cost shows how far away the hardware is.
 */
import { KVM_EXIT, KVM_RUN } from '../../native/kvm-abi.ts';
import type { Fd, Gpa, Hva, Kvm, Memory, Native } from '../../native/types.ts';
import { KVM_DEVICE } from '../../vmm/kvm.ts';

export interface KvmSpeed {
  /** Instructions of the guest's loop that were timed. */
  readonly instructions: number;
  readonly instructionsPerSecond: number;
  /** The same loop in this process: what the processor can do. */
  readonly hostInstructionsPerSecond: number;
  /** One exit to user space and back, microseconds. */
  readonly exitMicroseconds: number;
}

const CODE_GPA = 0x1000;
const MEMORY_BYTES = 0x4000;
const LOOP_RIP = CODE_GPA;
/** 16-bit code. */
const CODE = Uint8Array.of(
  ...[0x66, 0x49], // loop: dec ecx
  ...[0x75, 0xfc], //       jnz loop
  ...[0xe6, 0xf4], // out:  out 0xf4, al
  ...[0xeb, 0xfc], //       jmp out
);
const PER_ITERATION = 2;
/** Grows until the loop takes long enough to be timed, or is too slow to go on. */
const ITERATIONS = [1e3, 1e4, 1e5, 1e6, 5e6];
const LONG_ENOUGH_MS = 50;
const EXITS = 2000;
const EXITS_AT_MOST_MS = 300;
/** Bit 1 of RFLAGS is always set; interrupts are off. */
const RFLAGS = 0x2n;
const EINTR = 4;
/** By signals to this process. */
const INTERRUPTED_AT_MOST = 100;

type ProbeNative = Pick<Native, 'open' | 'close'> & Kvm & Memory;

/**
 * Runs the guest, for a fraction of a second on hardware, for some seconds where it is interpreted.
 * @throws KernelError · Error when the guest ends otherwise than it should
 */
export function probeKvm(native: ProbeNative, now: () => number = () => performance.now()): KvmSpeed {
  const undo: (() => void)[] = [];
  const closing = (fd: Fd): Fd => {
    undo.push(() => native.close(fd));
    return fd;
  };
  const mapped = (hva: Hva): Hva => {
    undo.push(() => native.unmap(hva));
    return hva;
  };
  try {
    const kvm = closing(native.open(KVM_DEVICE, 'rw'));
    const vm = closing(native.kvmCreateVm(kvm));
    const memory = mapped(native.mapAnonymous(MEMORY_BYTES));
    new Uint8Array(native.view(memory, MEMORY_BYTES)).set(CODE, CODE_GPA);
    // Without unrestricted mode KVM needs pages of its own to run 16-bit code.
    native.vmSetTssAddress(vm, 0xfffb_d000 as Gpa);
    native.vmSetMemorySlot(vm, 0, 0 as Gpa, MEMORY_BYTES, memory, false);
    const vcpu = closing(native.vmCreateVcpu(vm, 0));
    const run = native.vcpuMapRun(kvm, vcpu);
    mapped(run.hva);
    const guest = new ProbeGuest(native, vcpu, new DataView(native.view(run.hva, run.sizeBytes)));
    return measure(guest, now);
  } finally {
    for (const step of undo.reverse()) step();
  }
}

function measure(guest: ProbeGuest, now: () => number): KvmSpeed {
  let iterations = 0;
  let loopMs = 0;
  for (iterations of ITERATIONS) {
    guest.loop(iterations);
    const began = now();
    guest.enter();
    loopMs = now() - began;
    guest.settle();
    if (loopMs >= LONG_ENOUGH_MS) break;
  }
  guest.loop(1);
  guest.enter();
  const began = now();
  let exits = 0;
  while (exits < EXITS && now() - began < EXITS_AT_MOST_MS) {
    guest.enter();
    exits++;
  }
  const exitMs = now() - began;
  guest.settle();
  return {
    instructions: iterations * PER_ITERATION,
    instructionsPerSecond: rate(iterations * PER_ITERATION, loopMs),
    hostInstructionsPerSecond: hostSpeed(now),
    exitMicroseconds: (1000 * exitMs) / Math.max(1, exits),
  };
}

class ProbeGuest {
  readonly #native: Kvm;
  readonly #vcpu: Fd;
  readonly #run: DataView;

  constructor(native: Kvm, vcpu: Fd, run: DataView) {
    this.#native = native;
    this.#vcpu = vcpu;
    this.#run = run;
    const sregs = native.vcpuGetSregs(vcpu);
    native.vcpuSetSregs(vcpu, { ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
  }

  /** Puts the guest before its loop. */
  loop(iterations: number): void {
    const registers = this.#native.vcpuGetRegs(this.#vcpu);
    const start = { ...registers, rip: BigInt(LOOP_RIP), rcx: BigInt(iterations), rflags: RFLAGS };
    this.#native.vcpuSetRegs(this.#vcpu, start);
  }

  /** Runs to the next write to the port. */
  enter(): void {
    let status = -EINTR;
    for (let tries = 0; status === -EINTR && tries < INTERRUPTED_AT_MOST; tries++) {
      status = this.#native.vcpuRun(this.#vcpu);
    }
    const reason = this.#run.getUint32(KVM_RUN.exitReason, true);
    if (status !== 0) throw new Error(`KVM_RUN failed with errno ${-status}`);
    if (reason !== KVM_EXIT.IO) throw new Error(`the guest of the probe left KVM with exit reason ${reason}`);
  }

  /** Lets KVM finish the last port write, so that the registers can be set anew. */
  settle(): void {
    this.#run.setUint8(KVM_RUN.immediateExit, 1);
    this.#native.vcpuRun(this.#vcpu);
    this.#run.setUint8(KVM_RUN.immediateExit, 0);
  }
}

/** A countdown in this process, which the engine compiles to about the same two instructions. */
function hostSpeed(now: () => number): number {
  const iterations = 5e6;
  let best = 0;
  // The first rounds are interpreted.
  for (let round = 0; round < 4; round++) {
    const began = now();
    const left = countdown(iterations);
    best = Math.max(best, rate(iterations * PER_ITERATION - left, now() - began));
  }
  return best;
}

function countdown(from: number): number {
  let left = from | 0;
  while (left !== 0) left = (left - 1) | 0;
  return left;
}

function rate(count: number, milliseconds: number): number {
  return (1000 * count) / Math.max(milliseconds, 1e-3);
}
