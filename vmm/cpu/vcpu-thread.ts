/** Entry of a vCPU thread: one vCPU, one loop around KVM_RUN. Started by vcpu.ts; must not import the machine. */
import { workerData } from 'node:worker_threads';
import { loadNative } from '../../native/index.ts';
import { KVM_RUN } from '../../native/kvm-abi.ts';
import type { Fd, Hva } from '../../native/types.ts';
import { BusMemory } from '../bus/bus-memory.ts';
import { ConfigStore } from '../pci/config-window.ts';
import { ExitHandler } from './exit-handler.ts';
import { CONTROL, COUNTER, Mailbox, NOTICE, VCPU_STATE } from './mailbox.ts';

/** What the machine thread hands over. Addresses and fds are those of the one process that both live in. */
export interface VcpuThreadData {
  readonly vcpu: Fd;
  readonly run: Hva;
  readonly runBytes: number;
  readonly bus: SharedArrayBuffer;
  readonly config: SharedArrayBuffer;
  readonly configCapacity: number;
  readonly mailbox: SharedArrayBuffer;
}

const EINTR = -4;
const EAGAIN = -11;

function main(data: VcpuThreadData): void {
  const native = loadNative();
  const page = native.view(data.run, data.runBytes);
  const bytes = new Uint8Array(page);
  const mailbox = new Mailbox(data.mailbox);
  const config = new ConfigStore(data.configCapacity, data.config);
  const exits = new ExitHandler(native, page, new BusMemory(data.bus), config, mailbox);
  loop();
  mailbox.setState(VCPU_STATE.stopped);

  function loop(): void {
    for (;;) {
      // The order matters: a kick after the control word was read finds immediate_exit cleared and sets it again.
      bytes[KVM_RUN.immediateExit] = 0;
      const control = mailbox.control;
      if (control === CONTROL.stop) return;
      if (control === CONTROL.pause) {
        mailbox.setState(VCPU_STATE.paused);
        mailbox.waitWhilePaused();
        continue;
      }
      if (mailbox.state !== VCPU_STATE.running) mailbox.setState(VCPU_STATE.running);
      const result = native.vcpuRun(data.vcpu);
      if (result === 0) exits.handle();
      else if (result === EINTR || result === EAGAIN) mailbox.counters[COUNTER.kick]!++;
      else exits.notice(NOTICE.fault, -result);
    }
  }
}

main(workerData as VcpuThreadData);
