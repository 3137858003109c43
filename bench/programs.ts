/** The two programs under comparison, and what each is told so that both do the same. */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Qemu } from '../lab/index.ts';
import type { RunSpec } from './inside.ts';

export const PROGRAMS = ['causeway', 'qemu'] as const;
export type Program = (typeof PROGRAMS)[number];

/** A guest to start with an assigned device. */
export interface StartGuest {
  readonly kernel: string;
  readonly initrd: string;
  readonly memoryMib: number;
  readonly device: string;
}

/** What the guest's `/init` prints first. */
export const MARKER = 'BENCH-USER-SPACE';

/** Stays a second, so that its memory can be looked at. */
export const INIT = `#!/bin/sh
echo ${MARKER}
sleep 1
exec poweroff -f
`;

/** `pci=noearly`: Linux on an old AMD family, which the lab's emulated processor is, probes 8192 functions for a GART. */
const CMDLINE = 'console=ttyS0 quiet panic=-1 pci=noearly';
/** Payloads need next to nothing. */
const EXIT_MEMORY_MIB = 128;
/** Emulated in emulation, a start takes half a minute, and the first one unpacks the kernel. */
const TIMEOUT_MS = 300_000;
/** QEMU's guest hangs now and then when the message of an interrupt changes behind its mask. */
const PAYLOAD = { timeoutMs: 100_000, attempts: 3 };

const CLI = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'build', 'cli', 'main.js');

/** From nothing to user space and off again. */
export function startRun(program: Program, qemu: Qemu, guest: StartGuest): RunSpec {
  const { kernel, initrd, memoryMib, device } = guest;
  const words = [
    ...['--kernel', kernel, '--initrd', initrd, '--cmdline', CMDLINE],
    ...['--memory', `${memoryMib}M`, '--cpus', '1', '--device', device, '--reboot-limit', '0'],
  ];
  const argv =
    program === 'causeway'
      ? causeway(words)
      : [
          ...qemuMachine(qemu, memoryMib),
          ...['-kernel', kernel, '-initrd', initrd, '-append', CMDLINE],
          // Without the option ROM's BAR: firmware would only look at it.
          ...['-device', `vfio-pci,host=${device},rombar=0`],
        ];
  return { argv, env: envOf(program, qemu), marker: MARKER, exitCode: 0, timeoutMs: TIMEOUT_MS };
}

/** A payload that times exits and ends by writing 0 to port 0xf4. */
export function exitRun(program: Program, qemu: Qemu, payload: string): RunSpec {
  const argv =
    program === 'causeway'
      ? causeway(['--kernel', payload, '--memory', `${EXIT_MEMORY_MIB}M`, '--cpus', '1'])
      : [
          ...qemuMachine(qemu, EXIT_MEMORY_MIB),
          ...['-kernel', payload, '-device', 'isa-debug-exit,iobase=0xf4,iosize=4'],
        ];
  // isa-debug-exit makes 2n + 1 of n.
  return { argv, env: envOf(program, qemu), exitCode: program === 'causeway' ? 0 : 1, timeoutMs: TIMEOUT_MS };
}

/** A payload with a device to itself; it reports on the console, and its debug-exit value is the number of its failed tests. */
export function payloadRun(
  program: Program,
  qemu: Qemu,
  { payload, args, device }: { readonly payload: string; readonly args: string; readonly device: string },
): RunSpec {
  const argv =
    program === 'causeway'
      ? causeway([
          ...['--kernel', payload, '--cmdline', args, '--memory', `${EXIT_MEMORY_MIB}M`, '--cpus', '1'],
          ...['--device', device, '--reboot-limit', '0'],
        ])
      : [
          ...qemuMachine(qemu, EXIT_MEMORY_MIB),
          ...['-kernel', payload, '-append', args, '-device', 'isa-debug-exit,iobase=0xf4,iosize=4'],
          // Where Causeway puts the first device.
          ...['-device', `vfio-pci,host=${device},addr=1,rombar=0`],
        ];
  return { argv, env: envOf(program, qemu), ...PAYLOAD };
}

function causeway(words: readonly string[]): string[] {
  return [process.execPath, CLI, 'run', ...words];
}

function qemuMachine(qemu: Qemu, memoryMib: number): string[] {
  return [
    ...qemu.command,
    ...['-machine', 'q35,accel=kvm', '-cpu', 'host', '-smp', '1', '-m', `${memoryMib}`],
    ...['-no-user-config', '-nodefaults', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
  ];
}

function envOf(program: Program, qemu: Qemu): Readonly<Record<string, string>> {
  return program === 'qemu' ? qemu.env : {};
}
