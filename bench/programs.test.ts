import { describe, expect, it } from 'vitest';
import { exitRun, PROGRAMS, startRun } from './programs.ts';

const qemu = {
  version: '7.2',
  command: ['/lib/loader', '/usr/bin/qemu-system-x86_64'],
  env: { QEMU_MODULE_DIR: '/m' },
};
const guest = { kernel: '/boot/vmlinuz', initrd: '/tmp/initrd', memoryMib: 512, device: '0000:01:00.0' };

describe('the two programs', () => {
  it('get the same kernel, initrd, command line, memory and device', () => {
    for (const program of PROGRAMS) {
      const { argv, marker } = startRun(program, qemu, guest);
      const words = argv.join(' ');
      for (const part of ['/boot/vmlinuz', '/tmp/initrd', 'console=ttyS0 quiet panic=-1 pci=noearly', '0000:01:00.0']) {
        expect(words).toContain(part);
      }
      expect(words).toMatch(/(--memory 512M|-m 512) /);
      expect(words).toMatch(/(--cpus|-smp) 1 /);
      expect(marker).toBeDefined();
    }
  });

  it('run the same payload; QEMU says 1 where the guest said 0', () => {
    const [ours, theirs] = PROGRAMS.map((program) => exitRun(program, qemu, '/tmp/exits.elf'));
    expect(ours?.exitCode).toBe(0);
    expect(theirs?.exitCode).toBe(1);
    expect(theirs?.argv.slice(0, 2)).toEqual(qemu.command);
    expect(theirs?.env).toEqual(qemu.env);
    for (const run of [ours, theirs]) expect(run?.argv).toContain('/tmp/exits.elf');
  });
});
