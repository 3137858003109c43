import type { Accel } from './accel.ts';
import { deviceArgs, type LabDeviceSpec } from './devices.ts';

/** File descriptors that QEMU inherits: what it talks to the lab's owner through. */
export const channelFds = { qmp: 3, agent: 4, firstDisk: 5 } as const;

/** Everything QEMU's command line depends on. */
export interface MachineSpec {
  readonly accel: Accel;
  readonly cpus: number;
  readonly memoryMib: number;
  readonly kernel: string;
  readonly initrd: string;
  /** Appended to the kernel's command line. */
  readonly append?: string;
  /** The host directory that is writable on both sides. */
  readonly shareDir: string;
  /** A file of eight zero bytes: tells the firmware to run no option ROM. */
  readonly noOptionRoms: string;
  readonly devices: readonly LabDeviceSpec[];
  readonly extraArgs: readonly string[];
}

/** The machine in QEMU's words, without the program itself. */
export function qemuArgs(spec: MachineSpec): string[] {
  const kvm = spec.accel === 'kvm';
  let disk: number = channelFds.firstDisk;
  const takeDisk = () => disk++;
  const share = (tag: string, path: string, more: string) =>
    `local,path=${path.replaceAll(',', ',,')},mount_tag=${tag},security_model=none,multidevs=remap${more}`;
  return [
    ['-machine', `q35,kernel-irqchip=${kvm ? 'split' : 'off'}`],
    ['-accel', kvm ? 'kvm' : 'tcg,thread=multi'],
    ['-cpu', kvm ? 'host' : 'max'],
    ['-smp', `${spec.cpus}`],
    ['-m', `${spec.memoryMib}`],
    ['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ['-serial', 'stdio'],
    ['-device', 'intel-iommu,intremap=on,caching-mode=on,aw-bits=48'],
    ['-fw_cfg', `name=etc/pci-optionrom-exec,file=${spec.noOptionRoms}`],
    ['-chardev', `socket,id=qmp,fd=${channelFds.qmp}`, '-mon', 'chardev=qmp,mode=control'],
    ['-device', 'virtio-serial-pci,bus=pcie.0,addr=2,disable-legacy=on'],
    ['-chardev', `socket,id=agent,fd=${channelFds.agent}`, '-device', 'virtserialport,chardev=agent,name=lab.agent'],
    ['-virtfs', share('lab-root', '/', ',readonly=on')],
    ['-virtfs', share('lab-share', spec.shareDir, '')],
    ['-device', 'virtio-rng-pci,bus=pcie.0,disable-legacy=on'],
    deviceArgs(spec.devices, takeDisk),
    ['-kernel', spec.kernel, '-initrd', spec.initrd, '-append', kernelCommandLine(spec)],
    spec.extraArgs,
  ].flat();
}

function kernelCommandLine(spec: MachineSpec): string {
  return [
    'console=ttyS0 loglevel=4 panic=-1',
    'intel_iommu=on iommu=pt',
    // What follows only saves time under emulation.
    'mitigations=off nokaslr audit=0 selinux=0 apparmor=0 cryptomgr.notests random.trust_cpu=on no_timer_check',
    ...(spec.append === undefined ? [] : [spec.append]),
  ].join(' ');
}
