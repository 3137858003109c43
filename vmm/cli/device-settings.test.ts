import { expect, test } from 'vitest';
import { isCausewayError } from '../base/errors.ts';
import { normaliseVmConfig } from '../config/normalise.ts';
import { runConfig } from './run-options.ts';

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

test('options of the command line are laid over every device', async () => {
  expect(await runConfig({ kernel: 'k', device: ['01:00.0'], 'config-permit': 'F', wc: 'deny' })).toMatchObject({
    devices: [{ bdf: '01:00.0', configPermit: 'F', wc: 'deny' }],
  });
  await expect(runConfig({ kernel: 'k', wc: 'deny' })).rejects.toThrow('--wc needs a device');
});
