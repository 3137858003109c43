import { expect, test } from 'vitest';
import { kernelConfig, missingOptions } from './kernel-config.ts';

test('every option is named once, and a configuration that lost one is told', () => {
  const fragment = kernelConfig();
  const names = [...fragment.matchAll(/CONFIG_(\w+)/g)].map(([, name]) => name);
  expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
  expect(fragment).toContain('CONFIG_VFIO_DEVICE_CDEV=y\n');
  expect(missingOptions(fragment)).toEqual([]);
  expect(missingOptions(fragment.replace('CONFIG_IOMMUFD=y', '# CONFIG_IOMMUFD is not set'))).toEqual(['IOMMUFD']);
});
