/** Exits as KVM itself counts them, under any monitor. */
import { readdirSync, readFileSync } from 'node:fs';

/** Where the host's debugfs is (kernel: Documentation/virt/kvm, statistics of each VM). */
const KVM_STATISTICS = '/sys/kernel/debug/kvm';

/** I/O and MMIO exits of the VMs of a process: KVM names their folders after it. */
export function kvmExits(pid: number): number {
  return readdirSync(KVM_STATISTICS)
    .filter((name) => name.startsWith(`${pid}-`))
    .flatMap((name) => ['io_exits', 'mmio_exits'].map((file) => `${KVM_STATISTICS}/${name}/${file}`))
    .reduce((total, file) => total + Number(readFileSync(file, 'latin1')), 0);
}
