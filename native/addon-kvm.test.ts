/** The addon against a real /dev/kvm: payloads of a few bytes, exits, kicks. */

import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { addonPath, buildAddon } from './build.mjs';
import { loadNative } from './index.ts';
import { KVM_CAP, KVM_EXIT, KVM_EXIT_IO_OUT, KVM_RUN } from './kvm-abi.ts';
import type { Fd, Gpa, Gsi, Hva, Native } from './types.ts';

const EINTR = 4;
const EBUSY = 16;
/** IA32_TIME_STAMP_COUNTER. */
const TSC = 0x10;
const kvmMissing = existsSync('/dev/kvm') ? '' : ' (skipped: no /dev/kvm)';

interface TinyVm {
  readonly kvm: Fd;
  readonly vm: Fd;
  readonly vcpu: Fd;
  readonly ram: Hva;
  readonly runHva: Hva;
  readonly runBytes: number;
  readonly run: DataView;
}

describe.skipIf(kvmMissing !== '')(`addon on KVM${kvmMissing}`, () => {
  let native: Native;
  const undo: (() => void)[] = [];

  beforeAll(async () => {
    await buildAddon();
    native = loadNative();
  }, 120_000);

  afterEach(() => {
    for (const step of undo.splice(0).reverse()) step();
  });

  /** A real-mode vCPU at 0x1000 with `code` there and 64 KiB of RAM. */
  function boot(code: readonly number[]): TinyVm {
    const kvm = native.open('/dev/kvm', 'rw');
    undo.push(() => native.close(kvm));
    const vm = native.kvmCreateVm(kvm);
    undo.push(() => native.close(vm));
    native.vmSetTssAddress(vm, 0xfffbd000 as Gpa);
    const memory = native.memfd('tiny', 0x10000, 0);
    const ram = native.map(memory, 0, 0x10000);
    undo.push(() => {
      native.unmap(ram);
      native.close(memory);
    });
    new Uint8Array(native.view(ram, 0x10000)).set(code, 0x1000);
    native.vmSetMemorySlot(vm, 0, 0 as Gpa, 0x10000, ram, false);
    const vcpu = native.vmCreateVcpu(vm, 0);
    undo.push(() => native.close(vcpu));
    const { hva: runHva, sizeBytes: runBytes } = native.vcpuMapRun(kvm, vcpu);
    undo.push(() => native.unmap(runHva));
    const sregs = native.vcpuGetSregs(vcpu);
    sregs.cs.base = 0n;
    sregs.cs.selector = 0;
    native.vcpuSetSregs(vcpu, sregs);
    const regs = native.vcpuGetRegs(vcpu);
    native.vcpuSetRegs(vcpu, { ...regs, rip: 0x1000n, rflags: 2n, rax: 0n });
    return { kvm, vm, vcpu, ram, runHva, runBytes, run: new DataView(native.view(runHva, runBytes)) };
  }

  async function startWorker(tiny: TinyVm): Promise<Worker> {
    const worker = new Worker(fileURLToPath(new URL('./fixtures/vcpu-worker.mjs', import.meta.url)), {
      workerData: { addon: addonPath, vcpu: tiny.vcpu, runHva: tiny.runHva, runBytes: tiny.runBytes },
    });
    await once(worker, 'message');
    return worker;
  }

  it('reports the API version, capabilities and CPUID', () => {
    const kvm = native.open('/dev/kvm', 'rw');
    undo.push(() => native.close(kvm));
    expect(native.kvmApiVersion(kvm)).toBe(12);
    expect(native.kvmCheckExtension(kvm, KVM_CAP.IMMEDIATE_EXIT)).toBe(1);
    const leaves = native.kvmGetSupportedCpuid(kvm);
    expect(leaves.find((leaf) => leaf.function === 0)?.eax).toBeGreaterThan(0);
  });

  it('runs a port output and a halt, decoded through the kvm_run view', () => {
    const tiny = boot([0xb0, 0x2a, 0xe6, 0x10, 0xf4]); // mov al, 42; out 0x10, al; hlt
    expect(native.vcpuRun(tiny.vcpu)).toBe(0);
    const { run } = tiny;
    expect(run.getUint32(KVM_RUN.exitReason, true)).toBe(KVM_EXIT.IO);
    expect(run.getUint8(KVM_RUN.io.direction)).toBe(KVM_EXIT_IO_OUT);
    expect(run.getUint8(KVM_RUN.io.size)).toBe(1);
    expect(run.getUint16(KVM_RUN.io.port, true)).toBe(0x10);
    const dataOffset = Number(run.getBigUint64(KVM_RUN.io.dataOffset, true));
    expect(run.getUint8(dataOffset)).toBe(42);
    expect(native.vcpuRun(tiny.vcpu)).toBe(0);
    expect(run.getUint32(KVM_RUN.exitReason, true)).toBe(KVM_EXIT.HLT);
    expect(native.vcpuGetRegs(tiny.vcpu).rip).toBe(0x1005n);
  });

  it('reports a store to unmapped memory as an MMIO exit', () => {
    // mov ax, 0x2000; mov ds, ax; mov word [0], 0xbeef: physical 0x20000, above the RAM
    const tiny = boot([0xb8, 0x00, 0x20, 0x8e, 0xd8, 0xc7, 0x06, 0x00, 0x00, 0xef, 0xbe]);
    expect(native.vcpuRun(tiny.vcpu)).toBe(0);
    expect(tiny.run.getUint32(KVM_RUN.exitReason, true)).toBe(KVM_EXIT.MMIO);
    expect(tiny.run.getBigUint64(KVM_RUN.mmio.physAddr, true)).toBe(0x20000n);
    expect(tiny.run.getUint32(KVM_RUN.mmio.len, true)).toBe(2);
    expect(tiny.run.getUint8(KVM_RUN.mmio.isWrite)).toBe(1);
    expect(tiny.run.getUint16(KVM_RUN.mmio.data, true)).toBe(0xbeef);
  });

  it('kicks a vCPU that spins on another thread', async () => {
    const tiny = boot([0xeb, 0xfe]); // jmp $
    const worker = await startWorker(tiny);
    await new Promise((resolve) => setTimeout(resolve, 30));
    const [report, exit] = [once(worker, 'message'), once(worker, 'exit')];
    native.vcpuKick(tiny.vcpu);
    expect((await report)[0]).toMatchObject({ result: -EINTR, immediateExit: 1 });
    await exit;
  });

  it('lets a kick that comes before the run take effect in the run', () => {
    const tiny = boot([0xeb, 0xfe]);
    native.vcpuKick(tiny.vcpu);
    expect(native.vcpuRun(tiny.vcpu)).toBe(-EINTR);
    expect(tiny.run.getUint8(KVM_RUN.immediateExit)).toBe(1);
  });

  it('never loses a kick', async () => {
    const tiny = boot([0xeb, 0xfe]);
    // Kicks that hit every stage of the worker's way into the guest: a lost one hangs this test.
    for (let round = 0; round < 8; round++) {
      const worker = await startWorker(tiny);
      const [report, exit] = [once(worker, 'message'), once(worker, 'exit')];
      for (let spin = 0; spin < round * 20_000; spin++) tiny.run.getUint8(KVM_RUN.immediateExit);
      native.vcpuKick(tiny.vcpu);
      expect((await report)[0]).toMatchObject({ result: -EINTR });
      await exit;
    }
  }, 20_000);

  it('refuses to run one vCPU on two threads', async () => {
    const tiny = boot([0xeb, 0xfe]);
    const worker = await startWorker(tiny);
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(native.vcpuRun(tiny.vcpu)).toBe(-EBUSY);
    const exit = once(worker, 'exit');
    native.vcpuKick(tiny.vcpu);
    await exit;
  });

  it('refuses to run or kick a vCPU whose page is unmapped', () => {
    const tiny = boot([0xf4]);
    native.unmap(tiny.runHva);
    expect(native.vcpuRun(tiny.vcpu)).toBe(-9);
    expect(() => native.vcpuKick(tiny.vcpu)).toThrow(expect.objectContaining({ code: 'EBADF' }));
  });

  it('lets the process exit while a worker sits inside a guest', () => {
    const script = fileURLToPath(new URL('./fixtures/exit-while-running.mjs', import.meta.url));
    const result = spawnSync(process.execPath, [script, addonPath], { timeout: 8000, encoding: 'utf8' });
    expect(result.stderr).toBe('');
    expect(result.status).toBe(7);
  }, 10_000);

  it('round-trips segment, control and model-specific registers', () => {
    const tiny = boot([0xf4]);
    const sregs = native.vcpuGetSregs(tiny.vcpu);
    sregs.gdt = { base: 0x5000n, limit: 0x2f };
    sregs.cr2 = 0x1234n;
    native.vcpuSetSregs(tiny.vcpu, sregs);
    expect(native.vcpuGetSregs(tiny.vcpu)).toEqual(sregs);
    native.vcpuSetCpuid(tiny.vcpu, native.kvmGetSupportedCpuid(tiny.kvm));
    const pat = { index: 0x277, value: 0x0007040600070406n };
    native.vcpuSetMsrs(tiny.vcpu, [pat]);
    expect(native.vcpuGetMsrs(tiny.vcpu, [0x277])).toEqual([pat]);
  });

  it('gives a vCPU the rate of the host’s time-stamp counter, and it counts', () => {
    const tiny = boot([0xf4]);
    native.vcpuSetTscKhz(tiny.vcpu, 0);
    const [before, after] = [native.vcpuGetMsrs(tiny.vcpu, [TSC]), native.vcpuGetMsrs(tiny.vcpu, [TSC])];
    expect(after[0]!.value).toBeGreaterThan(before[0]!.value);
  });

  it('names the model-specific register that the kernel refused', () => {
    const tiny = boot([0xf4]);
    const msrs = [
      { index: 0x277, value: 0x0007040600070406n },
      { index: 0xdead0000, value: 1n },
    ];
    expect(() => native.vcpuSetMsrs(tiny.vcpu, msrs)).toThrow(/KVM_SET_MSRS: EINVAL .*MSR 0xdead0000/);
  });

  it('injects through an irqfd route and obeys the rules of irqfds', () => {
    const tiny = boot([0xf4]);
    // An interrupt controller after the first vCPU is EEXIST or EINVAL: this VM gets its own.
    const vm = native.kvmCreateVm(tiny.kvm);
    undo.push(() => native.close(vm));
    native.vmCreateIrqchip(vm);
    native.vmCreatePit(vm);
    const vcpu = native.vmCreateVcpu(vm, 0);
    undo.push(() => native.close(vcpu));
    const [fd, resampleFd] = [native.eventfd(), native.eventfd()];
    undo.push(() => {
      native.close(fd);
      native.close(resampleFd);
    });
    const gsi = 24 as Gsi;
    native.vmSetGsiRouting(vm, [
      { kind: 'irqchip', gsi: 20 as Gsi, chip: 2, pin: 20 },
      { kind: 'msi', gsi, addressLo: 0xfee00000, addressHi: 0, data: 0x41 },
    ]);
    native.vmAssignIrqfd(vm, { fd, gsi });
    expect(() => native.vmAssignIrqfd(vm, { fd, gsi })).toThrow(expect.objectContaining({ code: 'EBUSY' }));
    native.vmDeassignIrqfd(vm, { fd, gsi });
    native.vmAssignIrqfd(vm, { fd, gsi: 20 as Gsi, resampleFd });
    native.vmDeassignIrqfd(vm, { fd, gsi: 20 as Gsi, resampleFd });
    native.vmIrqLine(vm, 20 as Gsi, true);
    native.vmIrqLine(vm, 20 as Gsi, false);
    expect(native.vmSignalMsi(vm, 0xfee00000, 0, 0x41)).toBeGreaterThanOrEqual(0);
  });

  it('signals an ioeventfd without an exit', () => {
    const tiny = boot([0xb0, 0x01, 0xe6, 0x70, 0xf4]); // mov al, 1; out 0x70, al; hlt
    const fd = native.eventfd();
    undo.push(() => native.close(fd));
    const ioeventfd = { fd, space: 'port', address: 0x70, width: 1, datamatch: 1n } as const;
    native.vmAssignIoeventfd(tiny.vm, ioeventfd);
    expect(() => native.vmAssignIoeventfd(tiny.vm, ioeventfd)).toThrow(expect.objectContaining({ code: 'EEXIST' }));
    expect(native.vcpuRun(tiny.vcpu)).toBe(0);
    expect(tiny.run.getUint32(KVM_RUN.exitReason, true)).toBe(KVM_EXIT.HLT);
    expect(native.eventfdTake(fd)).toBe(1);
    native.vmDeassignIoeventfd(tiny.vm, ioeventfd);
  });

  it('refuses overlapping and misaligned memory slots', () => {
    const tiny = boot([0xf4]);
    const slot = (index: number, gpa: number) =>
      native.vmSetMemorySlot(tiny.vm, index, gpa as Gpa, 0x1000, tiny.ram, false);
    expect(() => slot(1, 0x8000)).toThrow(expect.objectContaining({ code: 'EEXIST' }));
    expect(() => slot(1, 0x20800)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });
});
