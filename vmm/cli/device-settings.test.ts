import { expect, test } from 'vitest';
import { isCausewayError } from '../base/errors.ts';
import { normaliseVmConfig } from '../config/normalise.ts';
import { parseRunOptions, runConfig } from './run-options.ts';

const devices = (device: unknown) => normaliseVmConfig({ kernel: 'k', devices: [device] }).devices;

test('settings of a device are kept, modes of write-combining are completed', () => {
  expect(devices({ bdf: '01:00.0', configPermit: '/etc/permit', configPermitForce: true, wc: 'require' })).toEqual([
    {
      bdf: '0000:01:00.0',
      configPermit: '/etc/permit',
      configPermitForce: true,
      wc: { default: 'require', bars: {} },
    },
  ]);
  expect(devices({ bdf: '01:00.0', configPermit: ['40 ff 0'], wc: { 2: 'deny' } })).toEqual([
    { bdf: '0000:01:00.0', configPermit: ['40 ff 0'], wc: { default: 'auto', bars: { 2: 'deny' } } },
  ]);
  expect(devices('01:00.0')).toEqual([{ bdf: '0000:01:00.0' }]);
});

test('a ROM and identifiers are kept, identifiers as numbers', () => {
  expect(devices({ bdf: '01:00.0', rom: 'file:/roms/nic.rom', ids: { vendor: '0x8086', revision: 3 } })).toEqual([
    { bdf: '0000:01:00.0', rom: 'file:/roms/nic.rom', ids: { vendor: 0x8086, revision: 3 } },
  ]);
  expect(devices({ bdf: '01:00.0', ids: {} })).toEqual([{ bdf: '0000:01:00.0' }]);
  const faulty = { bdf: '01:00.0', rom: 'file:', ids: { vendor: 0, device: -1, revision: 256, class: 1 } };
  try {
    devices(faulty);
    expect.unreachable();
  } catch (error) {
    if (!isCausewayError(error)) throw error;
    expect(error.issues?.map(({ path }) => path).sort()).toEqual([
      'devices[0].ids.class',
      'devices[0].ids.device',
      'devices[0].ids.revision',
      'devices[0].ids.vendor',
      'devices[0].rom',
    ]);
  }
});

test('settings of one device follow its address on the command line', async () => {
  expect(await runConfig({ kernel: 'k', device: ['01:00.0,rom=host,wc=deny', '02:00.0'] })).toMatchObject({
    devices: [{ bdf: '01:00.0', rom: 'host', wc: 'deny' }, '02:00.0'],
  });
  await expect(runConfig({ kernel: 'k', device: ['01:00.0,rum=host,wc'] })).rejects.toThrow(
    /no "rum" \(did you mean "rom"\?\)[\s\S]*"wc" needs a value/,
  );
});

test('resets, relocation and peer-to-peer have their words, in files and behind an address', async () => {
  const device = '01:00.0,reset=flr,p2p=on,msix-relocation=bar3';
  const config = (await runConfig({ kernel: 'k', device: [device] })) as { devices: unknown[] };
  expect(devices(config.devices[0])).toEqual([
    { bdf: '0000:01:00.0', reset: 'flr', p2p: true, msixRelocation: 'bar3' },
  ]);
  try {
    devices({ bdf: '01:00.0', reset: 'hard', p2p: 'yes', msixRelocation: 'bar6' });
    expect.unreachable();
  } catch (error) {
    if (!isCausewayError(error)) throw error;
    expect(error.issues?.map(({ path }) => path).sort()).toEqual([
      'devices[0].msixRelocation',
      'devices[0].p2p',
      'devices[0].reset',
    ]);
  }
});

test('a port is a name, and what follows an error is one of four', () => {
  expect(() => devices({ bdf: '01:00.0', port: '7 seas' })).toThrow(/devices\[0\]\.port: must be a name/);
  expect(() => devices({ bdf: '01:00.0', onError: 'panic' })).toThrow(/"report", "pause", "stop", "reset"/);
  expect(() => normaliseVmConfig({ kernel: 'k', hotplugPorts: 17 })).toThrow(/hotplugPorts: must be a whole number/);
});

test('every fault of them is told with its path', () => {
  try {
    devices({ bdf: '01:00.0', configPermit: 4, configPermitForce: 1, wc: { 6: 'auto', 2: 'fast', default: 'no' } });
    expect.unreachable();
  } catch (error) {
    if (!isCausewayError(error)) throw error;
    expect(error.issues?.map(({ path }) => path).sort()).toEqual([
      'devices[0].configPermit',
      'devices[0].configPermitForce',
      'devices[0].wc.2',
      'devices[0].wc.6',
      'devices[0].wc.default',
    ]);
  }
  expect(() => devices({ bdf: '01:00.0', wc: 'fast' })).toThrow(/must be "auto", "require", "deny", "host"/);
});

test('inherited files and VF tokens on the command line, as they are typed', async () => {
  const words = '--kernel k --device 01:00.0,02:00.0,vf-token=U --device fd=7 --device group-fd=grp,fd=8 --kvm-fd 9';
  expect(
    await runConfig(parseRunOptions([...words.split(' '), '--iommufd-fd', 'iommufd', '--iommu', 'iommufd'])),
  ).toEqual({
    kernel: 'k',
    devices: ['01:00.0', { bdf: '02:00.0', vfToken: 'U' }, { deviceFd: 7 }, { groupFd: 'grp', deviceFd: 8 }],
    fds: { kvm: 9, iommufd: 'iommufd' },
    iommu: 'iommufd',
  });
});

test('options of the command line are laid over every device', async () => {
  expect(await runConfig({ kernel: 'k', device: ['01:00.0'], 'config-permit': 'F', wc: 'deny' })).toMatchObject({
    devices: [{ bdf: '01:00.0', configPermit: 'F', wc: 'deny' }],
  });
  await expect(runConfig({ kernel: 'k', wc: 'deny' })).rejects.toThrow('--wc needs a device');
});
