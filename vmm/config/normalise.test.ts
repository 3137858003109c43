import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CausewayError, type ConfigIssue } from '../base/errors.ts';
import { normaliseBdf, normaliseVmConfig } from './normalise.ts';

function issuesOf(config: unknown): readonly ConfigIssue[] {
  try {
    normaliseVmConfig(config);
  } catch (error) {
    if (error instanceof CausewayError && error.code === 'CONFIG_INVALID') return error.issues ?? [];
    throw error;
  }
  return [];
}

test('fills in every default', () => {
  expect(normaliseVmConfig({ kernel: 'vmlinuz' })).toEqual({
    name: 'vm',
    kernel: 'vmlinuz',
    initrd: undefined,
    cmdline: 'console=ttyS0',
    memoryBytes: 512 * 2 ** 20,
    cpus: 1,
    hugePageBytes: 0,
    devices: [],
    iommu: 'auto',
    fds: {},
    hotplugPorts: 0,
    rebootLimit: Number.POSITIVE_INFINITY,
    unpackKernel: true,
    channel: false,
    control: false,
  });
});

test('takes everything that the model allows', () => {
  const full = {
    name: 'lab',
    kernel: '/boot/vmlinuz',
    initrd: '/boot/initrd',
    cmdline: '',
    memory: '6GiB',
    cpus: 64,
    hugePages: '1G',
    devices: ['01:00.0', { bdf: '10000:0A:1f.7', port: 'left', onError: 'pause' }],
    hotplugPorts: 16,
    rebootLimit: 0,
    unpackKernel: false,
    channel: true,
  };
  expect(normaliseVmConfig(full)).toMatchObject({
    cmdline: '',
    memoryBytes: 6 * 2 ** 30,
    hugePageBytes: 2 ** 30,
    devices: [{ bdf: '0000:01:00.0' }, { bdf: '10000:0a:1f.7', port: 'left', onError: 'pause' }],
    hotplugPorts: 16,
    rebootLimit: 0,
    unpackKernel: false,
    channel: true,
  });
});

test('reports every fault at once, each with its path', () => {
  const config = {
    name: '',
    initrd: 7,
    cmdline: 'a\0b',
    memroy: '1G',
    memory: '17M1',
    cpus: 0,
    hugePages: '4K',
    devices: ['01:00.0', '0000:01:00.0', 'eth0', { bdf: '02:00.0', bfd: 1 }, {}, null],
    rebootLimit: -1,
    unpackKernel: 'no',
    channel: 'ttyS1',
  };
  expect(issuesOf(config).map(({ path, message }) => `${path}: ${message}`)).toEqual([
    'memroy: is not known (did you mean "memory"?)',
    'memory: "17M1" is not a size',
    'name: must not be empty',
    'kernel: is missing',
    'initrd: must be a string, not 7',
    'cmdline: must not contain a NUL character',
    'cpus: must be a whole number from 1 to 64, not 0',
    'hugePages: must be "2M" or "1G", not "4K"',
    'devices[1]: 0000:01:00.0 is listed already, as devices[0]',
    'devices[2]: "eth0" is not a PCI address',
    'devices[3].bfd: is not known (did you mean "bdf"?)',
    'devices[4].bdf: is missing',
    'devices[5]: must be a PCI address or an object, not null',
    'rebootLimit: must be a whole number 0 or more, not -1',
    'unpackKernel: must be true or false, not "no"',
    'channel: must be true or false, not "ttyS1"',
  ]);
});

test('the message lists the faults, the hint says what to write', () => {
  expect(() => normaliseVmConfig({ kernel: 'k', memory: 'lots', devices: ['x'] })).toThrow(
    expect.objectContaining({
      code: 'CONFIG_INVALID',
      message:
        'the configuration has 2 faults:\n  memory: "lots" is not a size\n  devices[0]: "x" is not a PCI address',
      hint: expect.stringContaining('lspci -D'),
    }),
  );
});

test.each([
  [15 * 2 ** 20, 'memory: 15728640 is less than 16 MiB'],
  ['8M', 'memory: "8M" is less than 16 MiB'],
  [2 ** 29 + 1, 'memory: 536870913 is not a multiple of 4 KiB'],
  [Number.NaN, 'memory: NaN is not a size'],
  [-(2 ** 30), 'memory: -1073741824 is less than 16 MiB'],
  [1.5, 'memory: 1.5 is not a size'],
])('memory %j is refused', (memory, message) => {
  expect(issuesOf({ kernel: 'k', memory }).map((issue) => `${issue.path}: ${issue.message}`)).toEqual([message]);
});

test('huge pages must divide the memory', () => {
  expect(issuesOf({ kernel: 'k', memory: '512M', hugePages: '1G' })).toHaveLength(1);
  expect(issuesOf({ kernel: 'k', memory: '512M', hugePages: '2M' })).toHaveLength(0);
});

test.each([undefined, null, 'vmlinuz', [], 3, () => {}])('%j is no configuration', (config) => {
  expect(issuesOf(config)[0]?.message).toMatch(/must be an object/);
});

test.each(['0000:01:00.8', '01:20.0', '1:00.0', '01:00', '0000:01:00.0.1', '', 'g0:00.0'])('%j is no BDF', (text) =>
  expect(normaliseBdf(text)).toBeUndefined(),
);

test('any value gives a configuration or CONFIG_INVALID, nothing else', () => {
  const keys = fc.constantFrom('kernel', 'memory', 'cpus', 'devices', 'name', 'hugePages', '__proto__', 'toString');
  fc.assert(fc.property(fc.dictionary(keys, fc.anything()), (config) => void issuesOf(config)));
  fc.assert(fc.property(fc.anything(), (config) => void issuesOf(config)));
});
