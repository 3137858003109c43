/** Everything about the boot files that can be wrong, found before anything on the host is opened for the VM. */
import { closeSync } from 'node:fs';
import { CausewayError } from '../base/errors.ts';
import type { NormalVmConfig } from '../config/model.ts';
import { memoryLayout } from '../memory/layout.ts';
import { type BootFile, openBootFile } from './boot-file.ts';
import { type KernelPlan, planKernel } from './kernel-image.ts';
import { cmdlineFault, initrdPlace, memoryFault } from './load.ts';
import { e820 } from './memory-map.ts';

/** RAM lies the same whatever the width of addresses; only the 64-bit window differs. */
const ANY_PHYSICAL_BITS = 46;

/** All faults of kernel, command line and initrd at once; empty when the guest can be loaded. Reads headers only. */
export function checkBootFiles(
  config: Pick<NormalVmConfig, 'kernel' | 'initrd' | 'cmdline' | 'memoryBytes'>,
): CausewayError[] {
  const faults: CausewayError[] = [];
  const { ram, ecam } = memoryLayout(config.memoryBytes, ANY_PHYSICAL_BITS);
  const map = e820(ram, [ecam]);
  const plan = withFile(faults, config.kernel, 'KERNEL_NOT_FOUND', planKernel);
  if (plan) {
    for (const fault of [memoryFault(plan, config.kernel, map), cmdlineFault(plan, config.cmdline)]) {
      if (fault) faults.push(fault);
    }
  }
  if (config.initrd !== undefined) {
    withFile(faults, config.initrd, 'INITRD_NOT_FOUND', ({ path, sizeBytes }) => {
      const hasRoom = plan && !memoryFault(plan, config.kernel, map);
      const place = hasRoom ? initrdPlace(plan as KernelPlan, path, sizeBytes, map) : 0;
      if (place instanceof CausewayError) throw place;
    });
  }
  return faults;
}

function withFile<T>(
  faults: CausewayError[],
  path: string,
  code: Parameters<typeof openBootFile>[1],
  use: (file: BootFile) => T,
): T | undefined {
  let file: BootFile | undefined;
  try {
    file = openBootFile(path, code);
    return use(file);
  } catch (error) {
    if (!(error instanceof CausewayError)) throw error;
    faults.push(error);
    return undefined;
  } finally {
    if (file) closeSync(file.fd);
  }
}
