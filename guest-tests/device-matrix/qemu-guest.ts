/** The guest of the matrix under QEMU, watched through its console alone. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { qemu } from '../../lab/index.ts';
import { kvmExits } from './exit-count.ts';
import { MARK } from './guest-script.ts';

/** A line that the guest printed for whoever watches, and KVM's count of exits when it came. */
export interface Mark {
  readonly name: string;
  readonly word: string;
  readonly value: string;
  readonly exits: number;
}

export interface QemuGuest {
  readonly kernel: string;
  readonly initrd: string;
  readonly cmdline: string;
  readonly memory: string;
  /** Devices on vfio-pci, and slot and function on the guest's root bus. */
  readonly devices: readonly { readonly bdf: string; readonly address: string }[];
}

/**
 * Runs it to its end.
 * @param onText receives its console as it comes, and what QEMU complains of
 * @returns all its marks, also when it did not end as it should
 */
export async function runUnderQemu(
  guest: QemuGuest,
  signal: AbortSignal,
  onText: (text: string) => void,
): Promise<Mark[]> {
  const { command, env } = await qemu();
  const [program = '', ...first] = command;
  const options = { env: { ...process.env, ...env }, signal, killSignal: 'SIGKILL' } as const;
  const child = spawn(program, [...first, ...words(guest)], { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  const marks: Mark[] = [];
  let rest = '';
  child.stdout.on('data', (chunk: Buffer) => {
    const text = chunk.toString('latin1');
    onText(text);
    const lines = (rest + text).split('\n');
    rest = lines.pop()!;
    for (const line of lines) {
      const [, name, word, value = ''] = MARK.exec(line.trimEnd()) ?? [];
      if (name && word) marks.push({ name, word, value, exits: kvmExits(child.pid!) });
    }
  });
  child.stderr.on('data', (chunk: Buffer) => onText(chunk.toString()));
  await once(child, 'close');
  return marks;
}

function words({ kernel, initrd, cmdline, memory, devices }: QemuGuest): string[] {
  return [
    ...['-machine', 'q35,accel=kvm', '-cpu', 'host', '-smp', '1', '-m', memory],
    ...['-no-user-config', '-nodefaults', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
    ...['-kernel', kernel, '-initrd', initrd, '-append', cmdline],
    ...devices.flatMap(({ bdf, address }) => {
      const hasSecond = devices.some((other) => other.address === address.replace(/0$/, '1'));
      return ['-device', `vfio-pci,host=${bdf},addr=${address},rombar=0${hasSecond ? ',multifunction=on' : ''}`];
    }),
  ];
}
