import { expect, test } from 'vitest';
import { FakeKernel } from '../../native/fake/fake-kernel.ts';
import type { HostBdf } from '../../native/types.ts';
import { e1000e } from '../fixtures/devices.ts';
import { type BindingRecord, bindToVfio, readBinding, restoreBinding } from './binding.ts';

const BDF = '0000:03:00.0' as HostBdf;

function host(driver: string | undefined): FakeKernel {
  const kernel = new FakeKernel();
  const { driver: _, ...spec } = e1000e();
  kernel.addPciDevice({ ...spec, ...(driver === undefined ? {} : { driver }) });
  return kernel;
}

// Enforces P51.
test('binds, with a record made before the first change, and restores', () => {
  const kernel = host('e1000e');
  let record: BindingRecord | undefined;
  bindToVfio(kernel, BDF, (before) => {
    expect(kernel.calls('writeFile')).toEqual([]);
    record = before;
  });
  expect(readBinding(kernel, BDF)).toEqual({ bdf: BDF, driver: 'vfio-pci', driverOverride: 'vfio-pci' });
  restoreBinding(kernel, record!);
  expect(readBinding(kernel, BDF)).toEqual({ bdf: BDF, driver: 'e1000e', driverOverride: '' });
});

test('a device that had no driver has none again', () => {
  const kernel = host(undefined);
  let record: BindingRecord | undefined;
  bindToVfio(kernel, BDF, (before) => {
    record = before;
  });
  restoreBinding(kernel, record!);
  expect(readBinding(kernel, BDF)).toEqual({ bdf: BDF, driver: undefined, driverOverride: '' });
});

test('a device on vfio-pci is left alone', () => {
  const kernel = host('vfio-pci');
  bindToVfio(kernel, BDF, () => expect.unreachable());
  expect(kernel.calls('writeFile')).toEqual([]);
});

test('a probe that binds nothing is seen, and undone', () => {
  const kernel = host('e1000e');
  const probe = kernel.writeFile.bind(kernel);
  let refuse = true;
  kernel.writeFile = (path, text) => {
    if (path.endsWith('drivers_probe') && refuse) {
      refuse = false;
      return;
    }
    probe(path, text);
  };
  expect(() => bindToVfio(kernel, BDF, () => {})).toThrow(/cannot be bound/);
  expect(readBinding(kernel, BDF)).toEqual({ bdf: BDF, driver: 'e1000e', driverOverride: '' });
});

test('without the right to write, the hint says so', () => {
  const kernel = host('e1000e');
  kernel.files.deny(`/sys/bus/pci/devices/${BDF}/driver_override`, 'w');
  expect(() => bindToVfio(kernel, BDF, () => {})).toThrow(expect.objectContaining({ hint: 'this needs root' }));
});
