import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CODEC, SCHEMA } from '../../proto/index.ts';
import { MIB } from '../base/bits.ts';
import type { VmConfig } from '../config/model.ts';
import { normaliseVmConfig } from '../config/normalise.ts';
import { decodeVmConfig, encodeVmConfig, vmConfigFromMessage } from './config-message.ts';

const text = fc.string({ minLength: 1 }).filter((value) => !value.includes('\0'));
const wc = fc.constantFrom('auto', 'require', 'deny', 'host');
const fd = fc.oneof(fc.integer({ min: 3, max: 2 ** 31 - 1 }), fc.constantFrom('nic', 'the.iommufd'));
const device = fc.record(
  {
    bdf: fc
      .tuple(fc.nat(0xffff), fc.nat(0xff), fc.nat(0x1f), fc.nat(7))
      .map(
        ([domain, bus, slot, fn]) =>
          `${domain.toString(16).padStart(4, '0')}:${bus.toString(16).padStart(2, '0')}:${slot.toString(16).padStart(2, '0')}.${fn}`,
      ),
    configPermit: fc.oneof(text, fc.array(text, { maxLength: 3 })),
    configPermitForce: fc.boolean(),
    vfToken: fc.uuid(),
    deviceFd: fd,
    rom: fc.oneof(
      fc.constantFrom('off', 'host'),
      text.map((path) => `file:${path}`),
    ),
    p2p: fc.boolean(),
    reset: fc.constantFrom('auto', 'hot', 'none', 'device_specific'),
    msixRelocation: fc.constantFrom('off', 'auto', 'bar0', 'bar5'),
    ids: fc.record(
      {
        vendor: fc.integer({ min: 1, max: 0xfffe }),
        device: fc.nat(0xffff),
        subsystemVendor: fc.nat(0xffff),
        subsystemDevice: fc.nat(0xffff).map((id) => `0x${id.toString(16)}`),
        revision: fc.nat(0xff),
      },
      { requiredKeys: [] },
    ),
    port: fc.constantFrom('hotplug1', 'left'),
    onError: fc.constantFrom('report', 'pause', 'stop', 'reset'),
    wc: fc.oneof(wc, fc.record({ default: wc, 0: wc, 5: wc }, { requiredKeys: [] })),
  },
  { requiredKeys: ['bdf'] },
);

const anyConfig: fc.Arbitrary<VmConfig> = fc
  .record(
    {
      kernel: text,
      name: text,
      initrd: text,
      cmdline: fc.string({ unit: 'grapheme' }).filter((value) => !value.includes('\0')),
      memory: fc.integer({ min: 16, max: 2 ** 20 }).map((mib) => mib * MIB),
      cpus: fc.integer({ min: 1, max: 64 }),
      iommu: fc.constantFrom('auto', 'iommufd'),
      fds: fc.record({ kvm: fd, iommufd: fd }, { requiredKeys: [] }),
      devices: fc.uniqueArray(device, { maxLength: 4, selector: ({ bdf }) => bdf }),
      hotplugPorts: fc.integer({ min: 0, max: 16 }),
      rebootLimit: fc.nat(Number.MAX_SAFE_INTEGER),
      unpackKernel: fc.boolean(),
      channel: fc.boolean(),
      control: fc.oneof(fc.boolean(), text),
    },
    { requiredKeys: ['kernel'] },
  )
  .chain((config) =>
    fc.constantFrom({}, ...(['2M', '1G'] as const).map((hugePages) => ({ hugePages }))).map((pages) => ({
      ...config,
      ...pages,
      ...('hugePages' in pages ? { memory: 4 * 1024 * MIB } : {}),
    })),
  ) as fc.Arbitrary<VmConfig>;

test('files of a group survive the wire too', () => {
  const devices = [{ bdf: '01:00.0', deviceFd: 5, groupFd: 'grp' }];
  const normal = normaliseVmConfig({ kernel: 'k', iommu: 'container', fds: { container: 7 }, devices });
  expect(normaliseVmConfig(decodeVmConfig(encodeVmConfig(normal)))).toEqual(normal);
});

test('a configuration survives the wire', () => {
  fc.assert(
    fc.property(anyConfig, (config) => {
      const normal = normaliseVmConfig(config);
      expect(normaliseVmConfig(decodeVmConfig(encodeVmConfig(normal)))).toEqual(normal);
    }),
  );
});

test('an empty message is a configuration with everything at its default, but for the kernel', () => {
  expect(() => normaliseVmConfig(decodeVmConfig(new Uint8Array(0)))).toThrow('kernel');
  const config = decodeVmConfig(CODEC.encode('VmConfig', { kernel: 'k', devices: [] }));
  expect(normaliseVmConfig(config)).toEqual(normaliseVmConfig({ kernel: 'k' }));
});

test('the fields of the message are those of the model', () => {
  const names = [...SCHEMA.messages.VmConfig!.values()].map(({ name }) => name);
  expect(names.sort()).toEqual(Object.keys(normaliseVmConfig({ kernel: 'k' })).sort());
});

test('numbers that the model cannot hold are faults of the configuration, all told at once', () => {
  const message = {
    kernel: 'k',
    devices: [],
    memoryBytes: 2n ** 53n + 1n,
    rebootLimit: 2n ** 64n - 1n,
    hugePageBytes: 5n,
  };
  expect(() => vmConfigFromMessage(message)).toThrow(
    /3 faults[\s\S]*memory_bytes: 9007199254740993[\s\S]*huge_page_bytes: 5[\s\S]*reboot_limit: 18446744073709551615/,
  );
  expect(vmConfigFromMessage({ kernel: 'k', devices: [], rebootLimit: 2n ** 53n - 1n }).rebootLimit).toBe(2 ** 53 - 1);
});

test('bytes that are no message are a fault of the configuration', () => {
  expect(() => decodeVmConfig(Uint8Array.of(0x0a, 0x7f))).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
});
