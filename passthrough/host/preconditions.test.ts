import { describe, expect, test } from 'vitest';
import { FakeKernel } from '../../native/fake/fake-kernel.ts';
import type { CausewayError } from '../../vmm/base/errors.ts';
import { e1000e } from '../fixtures/devices.ts';
import { checkDevices } from './preconditions.ts';

const RAM = 512 * 2 ** 20;
const BDF = '0000:03:00.0';

function check(prepare: (kernel: FakeKernel) => void, bdfs: readonly string[] = [BDF], ram = RAM): CausewayError[] {
  const kernel = new FakeKernel();
  prepare(kernel);
  const errors = checkDevices(kernel, bdfs, ram, { findHolders: true });
  const touched = kernel.calls('open', 'writeFile', 'setResourceLimit', 'vfioGroupSetContainer');
  expect(touched, 'nothing is opened or changed').toEqual([]);
  return errors;
}

function only(errors: readonly CausewayError[]): CausewayError {
  expect(errors.map(({ code, message }) => `${code} ${message}`)).toHaveLength(1);
  return errors[0]!;
}

test('a device on vfio-pci, alone in its group, is fine; the domain may be left out', () => {
  expect(check((kernel) => kernel.addPciDevice(e1000e()))).toEqual([]);
  expect(check((kernel) => kernel.addPciDevice(e1000e()), ['03:00.0'])).toEqual([]);
  expect(check(() => {}, [])).toEqual([]);
});

describe('the device', () => {
  test('does not exist: near matches are named', () => {
    const error = only(check((kernel) => kernel.addPciDevice(e1000e()), ['0000:03:00.1']));
    expect(error).toMatchObject({ code: 'DEVICE_NOT_FOUND', message: 'there is no PCI device 0000:03:00.1' });
    expect(error.hint).toBe('did you mean 0000:03:00.0?');
  });

  test('is no address at all', () => {
    expect(only(check((kernel) => kernel.addPciDevice(e1000e()), ['eth0'])).code).toBe('CONFIG_INVALID');
  });

  test('is given twice', () => {
    const error = only(check((kernel) => kernel.addPciDevice(e1000e()), [BDF, '03:00.0']));
    expect(error).toMatchObject({ code: 'CONFIG_INVALID', message: '0000:03:00.0 is given twice' });
  });

  test('is a bridge', () => {
    const error = only(check((kernel) => kernel.addPciDevice({ ...e1000e(), class: 0x060400, driver: 'pcieport' })));
    expect(error.code).toBe('DEVICE_NOT_ENDPOINT');
  });

  test('is still on its host driver: names it and the command that binds', () => {
    const error = only(check((kernel) => kernel.addPciDevice({ ...e1000e(), driver: 'e1000e' })));
    expect(error.code).toBe('DEVICE_NOT_BOUND');
    expect(error.hint).toContain(`echo vfio-pci > /sys/bus/pci/devices/${BDF}/driver_override`);
    expect(error.hint).toContain(`echo ${BDF} > /sys/bus/pci/devices/${BDF}/driver/unbind`);
    expect(error.message).toBe(`${BDF} is still on its host driver e1000e`);
  });

  test('is on no driver', () => {
    const { driver: _, ...unbound } = e1000e();
    expect(only(check((kernel) => kernel.addPciDevice(unbound))).message).toContain('on no driver');
  });

  test('is a virtual function of a physical one that is on vfio-pci', () => {
    const error = only(
      check((kernel) => {
        kernel.addPciDevice({ ...e1000e(), attributes: {} });
        kernel.addPciDevice(e1000e('0000:02:00.0', 9));
        kernel.files.addLink(`/sys/bus/pci/devices/${BDF}/physfn`, '../0000:02:00.0');
      }),
    );
    expect(error.code).toBe('VF_TOKEN_REQUIRED');
  });
});

describe('the IOMMU', () => {
  const withoutGroup = (): ReturnType<typeof e1000e> => {
    const { group: _, ...spec } = e1000e();
    return { ...spec, driver: 'e1000e' };
  };

  test('is off in firmware', () => {
    const error = only(check((kernel) => kernel.addPciDevice(withoutGroup())));
    expect(error.code).toBe('IOMMU_MISSING');
    expect(error.hint).toContain('firmware');
  });

  test('is off in the kernel', () => {
    const error = only(
      check((kernel) => {
        kernel.addPciDevice(withoutGroup());
        kernel.files.addFile('/sys/firmware/acpi/tables/DMAR', '');
      }),
    );
    expect(error.hint).toContain('intel_iommu=on');
  });

  test('must map something of the firmware one to one', () => {
    const error = only(
      check((kernel) => {
        kernel.addPciDevice(e1000e());
        kernel.files.addFile('/sys/kernel/iommu_groups/12/reserved_regions', '0x1000 0x1fff direct\n0x0 0xfff msi\n');
      }),
    );
    expect(error).toMatchObject({ code: 'DEVICE_UNSUPPORTED' });
    expect(error.message).toContain('RMRR');
  });

  test('a relaxable mapping is no obstacle', () => {
    const errors = check((kernel) => {
      kernel.addPciDevice(e1000e());
      kernel.files.addFile('/sys/kernel/iommu_groups/12/reserved_regions', '0x0 0xffffff direct-relaxable\n');
    });
    expect(errors).toEqual([]);
  });
});

describe('the group', () => {
  // Enforces B15, P50.
  test('has a member on a host driver: names it and its driver', () => {
    const error = only(
      check((kernel) => {
        kernel.addPciDevice(e1000e());
        kernel.addPciDevice({ ...e1000e('0000:03:00.1'), driver: 'xhci_hcd', nativeDriver: 'xhci_hcd' });
      }),
    );
    expect(error.code).toBe('GROUP_NOT_VIABLE');
    expect(error.message).toBe(`${BDF}: IOMMU group 12 is also used by the host: 0000:03:00.1 (xhci_hcd)`);
    expect(error.hint).toContain('/driver/unbind');
  });

  // Enforces P50.
  test('members without a driver, and bridges, are no obstacle', () => {
    const errors = check((kernel) => {
      kernel.addPciDevice(e1000e());
      const { driver: _, ...unbound } = e1000e('0000:03:00.1');
      kernel.addPciDevice({ ...unbound, config: new Uint8Array(256) });
      kernel.addPciDevice({ ...e1000e('0000:00:1c.0'), class: 0x060400, driver: 'pcieport' });
    });
    expect(errors).toEqual([]);
  });

  test('may not be opened', () => {
    const error = only(
      check((kernel) => {
        kernel.addPciDevice(e1000e());
        kernel.files.deny('/dev/vfio/12', 'rw');
      }),
    );
    expect(error).toMatchObject({ code: 'VFIO_PERMISSION', path: '/dev/vfio/12' });
    expect(error.hint).toContain('chown');
  });

  // Enforces B17.
  test('is held: names the process', () => {
    const error = only(
      check((kernel) => {
        kernel.addPciDevice(e1000e());
        kernel.files.addLink('/proc/1234/fd/7', '/dev/vfio/12');
        kernel.files.addFile('/proc/1234/comm', 'qemu-system-x86\n');
      }),
    );
    expect(error).toMatchObject({
      code: 'DEVICE_BUSY',
      message: `${BDF}: IOMMU group 12 is held by qemu-system-x86 (pid 1234)`,
    });
  });

  test('has no node, as without an IOMMU', () => {
    const error = only(
      check((kernel) => {
        kernel.addPciDevice(e1000e());
        kernel.files.remove('/dev/vfio/12');
        kernel.files.addFile('/dev/vfio/noiommu-12', '');
      }),
    );
    expect(error.code).toBe('VFIO_MISSING');
    expect(error.hint).toContain('noiommu');
  });
});

describe('the host', () => {
  test('has VFIO not loaded: that comes first', () => {
    const errors = check((kernel) => {
      kernel.addPciDevice({ ...e1000e(), driver: 'e1000e' });
      kernel.files.remove('/dev/vfio/vfio');
    });
    expect(errors.map(({ code }) => code)).toEqual(['VFIO_MISSING', 'DEVICE_NOT_BOUND']);
    expect(errors[0]!.hint).toBe('sudo modprobe -a vfio-pci vfio_iommu_type1');
  });

  const limit = (bytes: number, capEff: string) => (kernel: FakeKernel) => {
    kernel.addPciDevice(e1000e());
    kernel.process.limits.memlock = { soft: bytes, hard: bytes };
    kernel.files.addFile('/proc/self/status', `Name:\tnode\nCapEff:\t${capEff}\n`);
  };

  // Enforces B16, P35.
  test('does not allow guest RAM to be pinned: says how many bytes it takes', () => {
    const error = only(check(limit(64 * 1024, '0000000000000000')));
    expect(error.code).toBe('MEMLOCK_TOO_LOW');
    expect(error.message).toContain('536870912 bytes');
    expect(error.message).toContain('64 KiB');
  });

  test('CAP_IPC_LOCK lifts that limit', () => {
    expect(check(limit(64 * 1024, '0000000000004000'))).toEqual([]);
  });
});

test('all faults of all devices are reported at once', () => {
  const errors = check(
    (kernel) => {
      kernel.addPciDevice({ ...e1000e(), driver: 'e1000e' });
      kernel.process.limits.memlock = { soft: 1, hard: 1 };
    },
    [BDF, '0000:09:00.0', 'nonsense'],
  );
  expect(errors.map(({ code }) => code)).toEqual([
    'DEVICE_NOT_BOUND',
    'DEVICE_NOT_FOUND',
    'CONFIG_INVALID',
    'MEMLOCK_TOO_LOW',
  ]);
});
