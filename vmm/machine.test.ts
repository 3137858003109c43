/** What a power cycle asks of KVM before the first instruction, on the scripted kernel. No vCPU thread is started. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { FakeKernel } from '../native/fake/fake-kernel.ts';
import { BOOT_TSC_KHZ, HOST_TSC_KHZ } from '../native/fake/fake-kvm.ts';
import { KVM_CAP } from '../native/kvm-abi.ts';
import { MIB } from './base/bits.ts';
import { prepareKernel } from './boot/index.ts';
import { syntheticBzImage } from './boot/synthetic-kernel.test-util.ts';
import { Mailbox } from './cpu/mailbox.ts';
import { Serial } from './devices/serial.ts';
import { openKvm } from './kvm.ts';
import { Machine } from './machine.ts';
import { GuestMemory } from './memory/guest-memory.ts';
import { memoryLayout } from './memory/layout.ts';
import { ConfigStore } from './pci/config-window.ts';
import type { PciFunction, PciServices } from './pci/function.ts';

const RAM_BYTES = 64 * MIB;
const KVM_CAP_SPLIT_IRQCHIP = 121;
const MTRR_DEF_TYPE = 0x2ff;

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'causeway-machine-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A function that only remembers what it was offered. */
function stub(store: ConfigStore): PciFunction & { services?: PciServices } {
  return {
    label: 'stub',
    window: store.allocate(),
    bars: [],
    writeConfig() {},
    placeBar() {},
    powerOn(services) {
      this.services = services;
    },
    powerOff() {},
    report: () => ({ label: 'stub', bars: [], interrupts: { mode: 'none', available: 0, routed: 0 }, resets: [] }),
  };
}

async function poweredOn(functionCount: number, kernel = new FakeKernel()) {
  const store = new ConfigStore(functionCount + 1);
  const functions = Array.from({ length: functionCount }, () => stub(store));
  const path = join(folder, 'kernel');
  writeFileSync(path, syntheticBzImage());
  const image = await prepareKernel(path, { unpack: false });
  const machine = await Machine.powerOn({
    native: kernel,
    kvm: openKvm(kernel),
    memory: new GuestMemory(kernel, [{ start: 0, size: RAM_BYTES }]),
    layout: memoryLayout(RAM_BYTES, 46),
    image,
    initrd: undefined,
    cmdline: '',
    isFresh: true,
    cpus: 2,
    store,
    slots: functions.map((fn) => ({ port: undefined, functions: [{ fn, number: 0 }] })),
    serial: new Serial({ onOutput: () => {} }),
    channel: undefined,
    mailboxes: [new Mailbox(), new Mailbox()],
    onTurnedOff: (port) => expect.unreachable(port),
    warn: (message) => expect.unreachable(message),
  });
  image.close();
  return { kernel, machine, functions };
}

// Enforces H83, P33.
test('every vCPU starts with MTRRs on and write-back by default, and its CPUID has PAT and MTRR', async () => {
  const { kernel, machine } = await poweredOn(0);
  expect(kernel.kvm.vcpus).toHaveLength(2);
  for (const { msrs, cpuid } of kernel.kvm.vcpus) {
    // Enable, fixed ranges, type 6. Linux up to 6.1 gives up PAT, and with it write-combining, when MTRRs are off.
    expect(msrs.get(MTRR_DEF_TYPE)).toBe(0xc06n);
    const { edx } = cpuid.find((entry) => entry.function === 1)!;
    expect((edx >>> 16) & 1, 'PAT').toBe(1);
    expect((edx >>> 12) & 1, 'MTRR').toBe(1);
  }
  await machine.powerOff();
});

// Enforces E59.
test.each([
  ['can name processors beyond 255, and the guest is told', 3, 1],
  ['cannot, and the guest is not told', 0, 0],
])('where KVM %s', async (_, supported, told) => {
  const kernel = new FakeKernel();
  kernel.kvm.capabilities.set(KVM_CAP.X2APIC_API, supported);
  const { machine } = await poweredOn(0, kernel);
  expect(kernel.kvm.vm.enabledCaps.get(KVM_CAP.X2APIC_API)).toEqual(supported === 0 ? undefined : [3]);
  for (const { cpuid } of kernel.kvm.vcpus) {
    const { eax } = cpuid.find((entry) => entry.function === 0x4000_0001)!;
    expect((eax >>> 15) & 1, 'KVM_FEATURE_MSI_EXT_DEST_ID').toBe(told);
  }
  await machine.powerOff();
});

test('every vCPU counts time at the rate that the host knows now, not at that of KVM’s first guess', async () => {
  const { kernel, machine } = await poweredOn(0);
  expect(kernel.kvm.vcpus.map(({ tscKhz }) => tscKhz)).toEqual([HOST_TSC_KHZ, HOST_TSC_KHZ]);
  await machine.powerOff();
});

test('a host that sets no rate runs its guests all the same', async () => {
  const kernel = new FakeKernel();
  for (let vcpu = 0; vcpu < 2; vcpu++) kernel.failNext('vcpuSetTscKhz', 'EINVAL');
  const { machine } = await poweredOn(0, kernel);
  expect(kernel.kvm.vcpus.map(({ tscKhz }) => tscKhz)).toEqual([BOOT_TSC_KHZ, BOOT_TSC_KHZ]);
  await machine.powerOff();
});

// Enforces P27.
test('PIC, IOAPIC and local APICs are KVM’s: the split controller would refuse the resampling of INTx', async () => {
  const { kernel, machine } = await poweredOn(0);
  expect(kernel.calls('vmCreateIrqchip', 'vmCreateVcpu')).toEqual(['vmCreateIrqchip', 'vmCreateVcpu', 'vmCreateVcpu']);
  expect(kernel.kvm.vm.enabledCaps.has(KVM_CAP_SPLIT_IRQCHIP)).toBe(false);
  await machine.powerOff();
});

// Enforces P29.
test('up to eight functions have an IOAPIC pin each, from 16 up', async () => {
  const { machine, functions } = await poweredOn(8);
  expect(functions.map(({ services }) => services!.intxGsi)).toEqual([16, 17, 18, 19, 20, 21, 22, 23]);
  await machine.powerOff();
});
