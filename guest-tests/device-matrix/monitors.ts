/** The two monitors of the matrix, and what each is told so that both make the same guest. */
import type { Qemu } from '../../lab/index.ts';
import type { MatrixRun } from '../inside/matrix-observation.ts';
import type { Guest } from '../support/guests.ts';
import { CLI } from '../support/programs.ts';

export const MONITORS = ['causeway', 'qemu'] as const;
export type Monitor = (typeof MONITORS)[number];

const MEMORY = '512M';
const TIMEOUT_MS = 8 * 60_000;

/** @param bdfs of the lab's devices, in the order in which the guest shall find them from slot 1 on */
export function monitorRun(monitor: Monitor, qemu: Qemu, guest: Guest, bdfs: readonly string[]): MatrixRun {
  const files = { kernel: guest.kernel, initrd: guest.initrd };
  if (monitor === 'causeway') {
    const devices = bdfs.flatMap((bdf) => ['--device', bdf]);
    const words = ['--kernel', files.kernel, '--initrd', files.initrd, '--cmdline', guest.cmdline, '--memory', MEMORY];
    const argv = [process.execPath, CLI, 'run', ...words, '--cpus', '1', '--reboot-limit', '0', ...devices];
    return { argv, env: {}, timeoutMs: TIMEOUT_MS };
  }
  const devices = bdfs.flatMap((bdf, index) => ['-device', `vfio-pci,host=${bdf},addr=${index + 1},rombar=0`]);
  const argv = [
    ...qemu.command,
    ...['-machine', 'q35,accel=kvm', '-cpu', 'host', '-smp', '1', '-m', MEMORY],
    ...['-no-user-config', '-nodefaults', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
    ...['-kernel', files.kernel, '-initrd', files.initrd, '-append', guest.cmdline],
    ...devices,
  ];
  return { argv, env: qemu.env, timeoutMs: TIMEOUT_MS };
}
