/** The two monitors of the matrix, and what each is told so that both make the same guest. */
import type { Qemu } from '../../lab/index.ts';
import type { MatrixRun } from '../inside/matrix-observation.ts';
import type { Guest } from '../support/guests.ts';
import { CLI } from '../support/programs.ts';

export const MONITORS = ['causeway', 'qemu'] as const;
export type Monitor = (typeof MONITORS)[number];

const MEMORY = '512M';
const TIMEOUT_MS = 8 * 60_000;

/** A device of the lab, and where on its root bus the guest is to find it: slot and function. */
export interface PlacedDevice {
  readonly bdf: string;
  readonly address: string;
}

/** @param placed in the order of their addresses */
export function monitorRun(monitor: Monitor, qemu: Qemu, guest: Guest, placed: readonly PlacedDevice[]): MatrixRun {
  const files = { kernel: guest.kernel, initrd: guest.initrd };
  if (monitor === 'causeway') {
    const devices = placed.flatMap(({ bdf }) => ['--device', bdf]);
    const words = ['--kernel', files.kernel, '--initrd', files.initrd, '--cmdline', guest.cmdline, '--memory', MEMORY];
    const argv = [process.execPath, CLI, 'run', ...words, '--cpus', '1', '--reboot-limit', '0', ...devices];
    return { argv, env: {}, timeoutMs: TIMEOUT_MS };
  }
  const devices = placed.flatMap(({ bdf, address }) => {
    const hasSecond = placed.some((other) => other.address === address.replace(/0$/, '1'));
    return ['-device', `vfio-pci,host=${bdf},addr=${address},rombar=0${hasSecond ? ',multifunction=on' : ''}`];
  });
  const argv = [
    ...qemu.command,
    ...['-machine', 'q35,accel=kvm', '-cpu', 'host', '-smp', '1', '-m', MEMORY],
    ...['-no-user-config', '-nodefaults', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
    ...['-kernel', files.kernel, '-initrd', files.initrd, '-append', guest.cmdline],
    ...devices,
  ];
  return { argv, env: qemu.env, timeoutMs: TIMEOUT_MS };
}
