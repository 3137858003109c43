/** `causeway inspect`: how well a device can be assigned, without binding, opening or writing anything. */

import { normaliseBdf } from '../../passthrough/host/bdf.ts';
import { readDevice } from '../../passthrough/host/sysfs.ts';
import { grantsFor, readPermitFile } from '../../passthrough/index.ts';
import { inspectDevice } from '../../passthrough/inspect.ts';
import { EXIT_CODE } from '../base/errors.ts';
import { parseOptions, usageError } from './arguments.ts';
import { INSPECT_OPTIONS } from './host-options.ts';
import { type HostWorld, nativeOf, print } from './host-world.ts';
import { formatInspect } from './inspect-text.ts';

/** @throws CausewayError USAGE, DEVICE_NOT_FOUND, CONFIG_INVALID for a file of grants */
export async function inspectCommand(args: readonly string[], world: HostWorld): Promise<number> {
  const words: string[] = [];
  const options = parseOptions('inspect', args, INSPECT_OPTIONS, words);
  const [address, ...more] = words;
  if (address === undefined) throw usageError('inspect', ['which device? causeway inspect BDF']);
  if (more.length > 0) throw usageError('inspect', [`unexpected word "${more[0]}"`]);
  const native = await nativeOf(world);
  const bdf = normaliseBdf(address);
  const permit = options['config-permit'];
  const device = readDevice(native, bdf);
  const grants = permit !== undefined && device ? grantsFor(readPermitFile(native, permit), device) : [];
  const wantsConfig = options.config === true || permit !== undefined;
  const report = inspectDevice(native, bdf, { config: wantsConfig, grants, pageBytes: native.pageSizeBytes });
  print(world, options.json, report, () => formatInspect(report, wantsConfig));
  return EXIT_CODE.ok;
}
