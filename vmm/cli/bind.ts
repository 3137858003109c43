/** `causeway bind` and `causeway restore`: devices to vfio-pci and back. */
import type { HostBdf } from '../../native/types.ts';
import { normaliseBdf } from '../../passthrough/host/bdf.ts';
import { type BindResult, bindDevices, restoreDevices } from '../../passthrough/host/bind-devices.ts';
import { BindingJournal } from '../../passthrough/host/binding-journal.ts';
import { removeVfs } from '../../passthrough/host/virtual-functions.ts';
import { EXIT_CODE } from '../base/errors.ts';
import { parseOptions, usageError } from './arguments.ts';
import { BIND_OPTIONS, RESTORE_OPTIONS } from './host-options.ts';
import { type HostWorld, nativeOf, print } from './host-world.ts';
import { vfJournals } from './vfs.ts';

/** @throws CausewayError USAGE, DEVICE_IN_USE, DEVICE_NOT_BOUND … */
export async function bindCommand(args: readonly string[], world: HostWorld): Promise<number> {
  const words: string[] = [];
  const options = parseOptions('bind', args, BIND_OPTIONS, words);
  const bdfs = addresses('bind', words);
  const native = await nativeOf(world);
  const dryRun = options['dry-run'] ?? false;
  const results = bindDevices(native, bdfs, new BindingJournal(world.journalDirectory), {
    wholeGroups: options.group ?? false,
    force: options.force ?? false,
    dryRun,
  });
  tell(world, results, dryRun, options.json);
  return EXIT_CODE.ok;
}

/** @throws CausewayError USAGE, DEVICE_NOT_BOUND, DEVICE_BUSY */
export async function restoreCommand(args: readonly string[], world: HostWorld): Promise<number> {
  const words: string[] = [];
  const options = parseOptions('restore', args, RESTORE_OPTIONS, words);
  const journal = new BindingJournal(world.journalDirectory);
  if (options.all && words.length > 0) throw usageError('restore', ['either --all or addresses']);
  const bdfs = options.all ? journal.list() : addresses('restore', words);
  const native = await nativeOf(world);
  const dryRun = options['dry-run'] ?? false;
  const results = restoreDevices(native, bdfs, journal, dryRun);
  if (options.all) {
    const journals = vfJournals(world);
    for (const bdf of journals.vfs.list()) removeVfs(native, bdf, journals, { dryRun });
  }
  tell(world, results, dryRun, options.json);
  return EXIT_CODE.ok;
}

function addresses(command: string, words: readonly string[]): HostBdf[] {
  if (words.length === 0) throw usageError(command, [`which device? causeway ${command} BDF`]);
  return words.map(normaliseBdf);
}

function tell(world: HostWorld, devices: readonly BindResult[], dryRun: boolean, json: boolean | undefined): void {
  print(world, json, { dryRun, devices }, () =>
    devices
      .flatMap(({ bdf, from, to, steps, remarks }) => [
        ...(dryRun ? steps.map(({ path, text }) => `echo '${text.trim()}' > ${path}`) : []),
        steps.length === 0
          ? `${bdf}: on ${to ?? 'no driver'} already`
          : `${bdf}: ${dryRun ? 'would go ' : ''}from ${from ?? 'no driver'} to ${to ?? 'no driver'}`,
        ...remarks.map((remark) => `  ${remark}`),
      ])
      .map((line) => `${line}\n`)
      .join(''),
  );
}
