/** `causeway vfs`: virtual functions of a device, listed, made, removed. */
import { normaliseBdf } from '../../passthrough/host/bdf.ts';
import { BindingJournal } from '../../passthrough/host/binding-journal.ts';
import { RecordDirectory } from '../../passthrough/host/record-directory.ts';
import {
  createVfs,
  readVfs,
  removeVfs,
  VF_JOURNAL_DIRECTORY,
  type VfJournals,
  type VfReport,
} from '../../passthrough/host/virtual-functions.ts';
import { EXIT_CODE } from '../base/errors.ts';
import { parseOptions, usageError } from './arguments.ts';
import { VFS_OPTIONS } from './host-options.ts';
import { type HostWorld, nativeOf, print } from './host-world.ts';

/** @throws CausewayError USAGE, SRIOV_FAILED, DEVICE_BUSY … */
export async function vfsCommand(args: readonly string[], world: HostWorld): Promise<number> {
  const words: string[] = [];
  const options = parseOptions('vfs', args, VFS_OPTIONS, words);
  const [word, ...more] = words;
  if (word === undefined) throw usageError('vfs', ['which device? causeway vfs BDF']);
  if (more.length > 0) throw usageError('vfs', [`unexpected word "${more[0]}"`]);
  const { create, remove } = options;
  if (create !== undefined && remove) throw usageError('vfs', ['either --create or --remove']);
  const bdf = normaliseBdf(word);
  const native = await nativeOf(world);
  const dryRun = options['dry-run'] ?? false;
  const journals = vfJournals(world);
  const report =
    create !== undefined
      ? createVfs(native, bdf, create, journals, { hostDrivers: options['host-drivers'] ?? false, dryRun })
      : remove
        ? removeVfs(native, bdf, journals, { dryRun })
        : readVfs(native, bdf);
  print(world, options.json, { dryRun, ...report }, () => describe(report, dryRun));
  return EXIT_CODE.ok;
}

/** Where this host remembers VFs and bindings. */
export function vfJournals({ journalDirectory }: HostWorld): VfJournals {
  return {
    vfs: new RecordDirectory(journalDirectory === undefined ? VF_JOURNAL_DIRECTORY : `${journalDirectory}-vfs`),
    bindings: new BindingJournal(journalDirectory),
  };
}

function describe({ bdf, driver, totalVfs, driversAutoprobe, vfs, steps }: VfReport, dryRun: boolean): string {
  const probe = driversAutoprobe ? '' : '; new ones get no driver';
  return [
    ...(dryRun ? steps.map(({ path, text }) => `echo '${text}' > ${path}`) : []),
    `${bdf} on ${driver ?? 'no driver'}: ${vfs.length} of ${totalVfs} VFs${probe}`,
    ...vfs.map((vf) => `  ${vf.bdf} on ${vf.driver ?? 'no driver'}, IOMMU group ${vf.iommuGroup ?? 'none'}`),
  ]
    .map((line) => `${line}\n`)
    .join('');
}
