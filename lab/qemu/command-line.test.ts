import { expect, test } from 'vitest';
import { chooseAccel, kvmModules } from './accel.ts';
import { type MachineSpec, qemuArgs } from './command-line.ts';
import { defaultMemoryMib, deviceArgs, disksNeeded, parseDevice, seriesFor } from './devices.ts';

const spec: MachineSpec = {
  accel: 'tcg',
  cpus: 2,
  memoryMib: 4096,
  kernel: '/k',
  initrd: '/i',
  shareDir: '/tmp/a,b',
  noOptionRoms: '/zero',
  devices: [],
  extraArgs: ['-trace', 'vtd*'],
};

/** The values given to one option. */
function values(args: readonly string[], option: string): string[] {
  return args.flatMap((word, index) => (word === option ? [args[index + 1] ?? ''] : []));
}

test('emulation needs the interrupt controllers in QEMU, KVM at least half of them', () => {
  expect(values(qemuArgs(spec), '-machine')).toEqual(['q35,kernel-irqchip=off']);
  expect(values(qemuArgs({ ...spec, accel: 'kvm' }), '-machine')).toEqual(['q35,kernel-irqchip=split']);
  expect(values(qemuArgs({ ...spec, accel: 'kvm' }), '-cpu')).toEqual(['host']);
});

test('the root is read-only, the share is not, and a comma in its path survives', () => {
  const [root, share] = values(qemuArgs(spec), '-virtfs');
  expect(root).toContain('path=/,');
  expect(root).toContain('readonly=on');
  expect(share).toContain('path=/tmp/a,,b,');
  expect(share).not.toContain('readonly');
});

test('the kernel gets an IOMMU, and extra words on both command lines are last', () => {
  const args = qemuArgs({ ...spec, append: 'debug' });
  expect(values(args, '-append')[0]).toMatch(/intel_iommu=on.* debug$/);
  expect(args.slice(-2)).toEqual(['-trace', 'vtd*']);
});

test('each device sits behind a port of its own, network devices on a network of their own', () => {
  const args = deviceArgs([parseDevice('e1000e,mac=52:54:00:00:00:01'), parseDevice('edu')], () => 5);
  const devices = values(args, '-device');
  expect(devices).toEqual([
    'pcie-root-port,id=port0,bus=pcie.0,addr=10,chassis=1,slot=1,x-speed=5',
    'e1000e,id=dev0,bus=port0,netdev=net0,mac=52:54:00:00:00:01',
    'pcie-root-port,id=port1,bus=pcie.0,addr=11,chassis=2,slot=2,x-speed=5',
    'edu,id=dev1,bus=port1',
  ]);
  expect(values(args, '-netdev')).toEqual(['user,id=net0']);
});

test('nvme gets a disk from an inherited file, unless it has a drive', () => {
  const devices = [parseDevice('nvme'), parseDevice('nvme,drive=mine')];
  expect(disksNeeded(devices)).toBe(1);
  expect(
    values(
      deviceArgs(devices, () => 7),
      '-drive',
    ),
  ).toEqual(['if=none,id=disk0,format=raw,file=/proc/self/fd/7']);
});

test('controllers of disks get one plugged in', () => {
  const devices = [parseDevice('ahci'), parseDevice('qemu-xhci,drive=mine')];
  expect(disksNeeded(devices)).toBe(1);
  const args = deviceArgs(devices, () => 7);
  expect(values(args, '-drive')).toEqual(['if=none,id=disk0,format=raw,file=/proc/self/fd/7']);
  expect(values(args, '-device').filter((device) => !device.startsWith('pcie-root-port'))).toEqual([
    'ahci,id=dev0,bus=port0',
    'ide-hd,bus=dev0.0,drive=disk0',
    'qemu-xhci,id=dev1,bus=port1',
    'usb-storage,bus=dev1.0,drive=mine',
  ]);
});

test('functions of one slot each have a network or a disk; bridge and root bus are places', () => {
  const devices = ['e1000e,functions=2', 'nvme,functions=2', 'e1000,place=bridge', 'edu,place=root'].map((text) =>
    parseDevice(text),
  );
  expect(disksNeeded(devices)).toBe(2);
  let fd = 5;
  const words = values(
    deviceArgs(devices, () => fd++),
    '-device',
  );
  expect(words.filter((device) => !device.startsWith('pcie-root-port'))).toEqual([
    'e1000e,id=dev0,bus=port0,addr=0.0,multifunction=on,netdev=net0',
    'e1000e,id=dev0f1,bus=port0,addr=0.1,netdev=net0f1',
    'nvme,id=dev1,bus=port1,addr=0.0,multifunction=on,serial=lab1,drive=disk1',
    'nvme,id=dev1f1,bus=port1,addr=0.1,serial=lab1f1,drive=disk1f1',
    'pcie-pci-bridge,id=bridge2,bus=port2',
    'e1000,id=dev2,bus=bridge2,addr=1.0,netdev=net2',
    'edu,id=dev3,bus=pcie.0,addr=13.0',
  ]);
});

test('virtual functions are asked for with a number, and want the QEMU that has them', () => {
  expect(parseDevice('igb,vfs=2')).toMatchObject({ model: 'igb', vfs: 2, options: {} });
  for (const wrong of ['igb,vfs=8', 'igb,vfs=x']) expect(() => parseDevice(wrong)).toThrow('virtual functions');
  expect(seriesFor([parseDevice('edu'), parseDevice('igb')])).toBe('10');
  expect(seriesFor([parseDevice('edu')])).toBeUndefined();
});

test('with VFs all memory lies below 4 GiB, and all BARs', () => {
  expect(defaultMemoryMib([parseDevice('edu'), parseDevice('igb,bind=host')])).toBe(2048);
  expect(defaultMemoryMib([parseDevice('edu')])).toBe(4096);
});

test('virtio devices are put behind the IOMMU, unless told otherwise', () => {
  const [, device] = values(
    deviceArgs([parseDevice('virtio-net-pci,iommu_platform=off')], () => 5),
    '-device',
  );
  expect(device).toBe('virtio-net-pci,id=dev0,bus=port0,netdev=net0,disable-legacy=on,iommu_platform=off');
});

test('many ports give up their I/O windows; too many are refused', () => {
  const many = (count: number) => Array.from({ length: count }, () => parseDevice('edu'));
  expect(
    values(
      deviceArgs(many(8), () => 5),
      '-device',
    )[0],
  ).not.toContain('io-reserve');
  expect(
    values(
      deviceArgs(many(9), () => 5),
      '-device',
    )[0],
  ).toContain('io-reserve=0');
  expect(() => deviceArgs(many(16), () => 5)).toThrow('room for 15');
});

test('a device is a model with options, of which bind, place and functions are the lab’s own', () => {
  const usual = { bind: 'vfio-pci', place: 'port', functions: 1, vfs: 0, options: {} };
  expect(parseDevice('edu')).toEqual({ ...usual, model: 'edu' });
  const options = { mac: 'a:b=c' };
  expect(parseDevice('igb,bind=host,mac=a:b=c')).toEqual({ ...usual, model: 'igb', bind: 'host', options });
  expect(parseDevice('e1000,place=bridge,functions=2')).toMatchObject({ place: 'bridge', functions: 2 });
  expect(() => parseDevice('edu,place=floor')).toThrow('no place');
  expect(() => parseDevice('edu,functions=9')).toThrow('1 to 8');
  expect(parseDevice('igb', 'none').bind).toBe('none');
  expect(() => parseDevice('igb,oops')).toThrow('option=value');
  expect(() => parseDevice('')).toThrow('does not name');
  expect(() => parseDevice('igb,bind=uio')).toThrow('not a driver choice');
});

test('KVM is taken only where nothing speaks against it', () => {
  const good = { flags: ['svm'], nested: '1', kvm: true };
  expect(chooseAccel(good).accel).toBe('kvm');
  expect(chooseAccel({ ...good, nested: 'N' }).accel).toBe('tcg');
  expect(chooseAccel({ ...good, nested: undefined }).accel).toBe('tcg');
  expect(chooseAccel({ ...good, kvm: false }).accel).toBe('tcg');
  expect(chooseAccel({ ...good, flags: [] }).accel).toBe('tcg');
  expect(chooseAccel({ ...good, flags: ['svm', 'hypervisor'] }).accel).toBe('tcg');
  expect(kvmModules('kvm', { ...good, flags: ['vmx'] })).toEqual(['kvm-intel']);
  expect(kvmModules('tcg', { ...good, flags: ['vmx'] })).toEqual(['kvm-amd']);
});
